"""A plan as text, as JSON, and as the lines of YAML that scale to it. PURE."""

from typing import Any

from serve_app.planning.figures import Figure, How
from serve_app.planning.plan import Plan, Planned

_COLUMNS = "{:<12}{:>15}{:>17}{:>10}{:>7}{:>7}{:>10}"
_HEADINGS = ("deployment", "ms a fragment", "streams/replica", "replicas", "CPUs", "GPUs", "MiB each")
_DOUBT = {How.CITED: "nobody checked it here", How.ESTIMATED: "derived, not measured"}


def text(plan: Plan, source: str) -> str:
    """All of it, for people."""
    load = plan.load
    where = f"on {plan.card.name}" if plan.card else "without GPUs"
    busy = f"replicas at most {load.utilisation:.0%} busy"
    lines = [
        f"{load.streams} streams, a fragment of {load.fragment_s:g} s each, {busy}, {where}, as {source} is set up",
        "",
        _COLUMNS.format(*_HEADINGS),
        *(_row(planned) for planned in plan.deployments),
        "",
        *_totals(plan),
        "",
        "Where the figures come from",
        *_sources(plan),
        "",
        "Scaling, to put into the configuration",
        scaling(plan).rstrip(),
        *(f"PROBLEM: {problem}" for problem in plan.problems),
    ]
    return "\n".join(lines)


def _row(planned: Planned) -> str:
    work = planned.work
    return _COLUMNS.format(
        work.name,
        f"{work.alone_ms:.4g}",
        f"{planned.streams_a_replica:.4g}",
        planned.replicas,
        f"{work.num_cpus:g}",
        f"{work.num_gpus:g}",
        f"{work.memory_mib.value:.0f}",
    )


def _totals(plan: Plan) -> list[str]:
    memory = f"main memory: {plan.memory_mib / 1024:.1f} GiB"
    lines = [f"CPUs: {plan.cpus}   {memory}   (and about 1 CPU and 1 GiB on each node for Ray: estimated)"]
    if plan.card is not None:
        has = f"{plan.card.memory_gib:g} GiB" if plan.card.memory_gib is not None else "not known"
        needed = f"memory needed on one: about {plan.gpu_memory_gib:.1f} GiB"
        lines.append(f"GPUs: {plan.gpus} x {plan.card.name}   {needed}   it has: {has}")
    unknown = [p.work.name for p in plan.deployments if p.work.ms.how is How.CONFIGURED]
    besides = f", and what {' and '.join(unknown)} waits for" if unknown else ""
    lines.append(f"A fragment takes about {plan.alone_ms:.0f} ms while nothing waits{besides}")
    return lines


def _sources(plan: Plan) -> list[str]:
    lines = []
    for planned in plan.deployments:
        work = planned.work
        lines.append(_source(work.name, f"{work.ms.value:.4g} ms a fragment", work.ms))
        if work.share < 1:
            shared = Figure(work.share, How.ESTIMATED, "replicas on one card are taken to share its time")
            lines.append(_source(work.name, f"/ {work.share:g}", shared))
        lines.append(_source(work.name, f"{work.memory_mib.value:.0f} MiB a replica", work.memory_mib))
        if work.gpu_memory_gib is not None:
            lines.append(_source(work.name, f"{work.gpu_memory_gib.value:g} GiB of its card", work.gpu_memory_gib))
    return lines


def _source(name: str, what: str, figure: Figure) -> str:
    doubt = f" ({_DOUBT[figure.how]})" if figure.how in _DOUBT else ""
    return f"  {name}: {what}, {figure.how}{doubt}: {figure.source}"


def scaling(plan: Plan) -> str:
    """YAML: each deployment's bounds, and those of a group of nodes with one GPU each."""
    lines = ["deployments:"]
    for planned in plan.deployments:
        lines.append(f"  - name: {planned.work.name}")
        if planned.work.autoscaled:
            lines.append("    autoscaling_config:")
            lines.append(f"      min_replicas: {planned.least_replicas}")
            lines.append(f"      max_replicas: {planned.replicas}")
        else:
            lines.append(f"    num_replicas: {planned.replicas}")
    if plan.gpus:
        lines.append("# the group of GPU nodes, with one GPU each:")
        lines.append(f"# minReplicas: {plan.least_gpus}")
        lines.append(f"# maxReplicas: {plan.gpus}")
    return "\n".join(lines) + "\n"


def values(plan: Plan) -> dict[str, Any]:
    """All of it, for programs."""
    return {
        "streams": plan.load.streams,
        "least_streams": plan.load.least_streams,
        "fragment_s": plan.load.fragment_s,
        "target_utilisation": plan.load.utilisation,
        "gpu": plan.card.name if plan.card else None,
        "gpus": plan.gpus,
        "least_gpus": plan.least_gpus,
        "gpu_memory_gib": plan.gpu_memory_gib,
        "cpus": plan.cpus,
        "memory_mib": plan.memory_mib,
        "alone_ms": round(plan.alone_ms, 1),
        "deployments": {planned.work.name: _deployment(planned) for planned in plan.deployments},
        "problems": list(plan.problems),
    }


def _deployment(planned: Planned) -> dict[str, Any]:
    work = planned.work
    return {
        "replicas": planned.replicas,
        "least_replicas": planned.least_replicas,
        "streams_a_replica": round(planned.streams_a_replica, 4),
        "num_cpus": work.num_cpus,
        "num_gpus": work.num_gpus,
        "share": work.share,
        "ms": _figure(work.ms),
        "memory_mib": _figure(work.memory_mib),
        "gpu_memory_gib": work.gpu_memory_gib and _figure(work.gpu_memory_gib),
    }


def _figure(figure: Figure) -> dict[str, Any]:
    return {"value": round(figure.value, 3), "how": figure.how.value, "source": figure.source}
