"""What the figures of measurements without targets say, as sentences; each number in them comes from the figures."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Figures = Mapping[str, Any]
MIB = 2**20


def told(name: str, figures: Figures) -> Iterator[str]:
    """The sentences of one measurement; none for those whose targets say it."""
    if name in SENTENCES:
        yield from SENTENCES[name](figures)


def _fragments(found: Figures) -> str:
    return (
        f"of {found['sent']} fragments {found['good']} succeeded, {found['at_first']} at the first try; "
        f"{found['lost']} were lost, {found['duplicated']} doubled, {found['reordered']} out of order"
    )


def _chaos(figures: Figures) -> Iterator[str]:
    yield (
        "While models were killed {disturbed} times, ".format(**figures["models"]) + _fragments(figures["models"]) + "."
    )
    for name, words in (("ingress", "While the ingress was killed"), ("rollout", "While everything was replaced")):
        found = figures[name]
        yield (
            f"{words} {found['disturbed']} times, {_fragments(found)}; "
            f"clients were back after {found['outage_p95_s']} s at p95."
        )


def _nodes(figures: Figures) -> Iterator[str]:
    back = " and ".join(f"{one['full_again_s']}" for one in figures["killed"])
    yield f"While {len(figures['killed'])} nodes were killed under {figures['streams']} streams, {_fragments(figures)}."
    yield f"Workers were back after {figures['outage_p95_s']} s at p95, all replicas there or starting after {back} s."


def _autoscaling(figures: Figures) -> Iterator[str]:
    calm, height, end = (figures["phases"][name] for name in ("calm", "height", "end"))
    replicas = ", ".join(
        f"{name} {calm['replicas'][name]} to {height['replicas'][name]} and back to {end['replicas'][name]}"
        for name in calm["replicas"]
    )
    yield f"From {calm['streams']} stream to {height['streams']} and back, replicas went: {replicas}."
    yield f"Meanwhile {_fragments(figures['result'])}; at the height p95 was {height['p95_ms']} ms."


def _overload(figures: Figures) -> Iterator[str]:
    loads = {name: found for name, found in figures.items() if name.endswith("× capacity")}
    best = max(found["goodput_per_s"] for found in loads.values())
    most, found = list(loads.items())[-1]
    yield (
        f"At {most} goodput was {found['goodput_per_s'] / best:.0%} of its peak; "
        f"{found['late']} of {found['accepted']} accepted fragments were late."
    )
    alone, beside, hog = (figures[name] for name in ("three alone", "beside a hog", "the hog"))
    yield (
        f"Three streams took {beside['p95_ms']} ms at p95 beside a hog and {alone['p95_ms']} ms alone; "
        f"the hog got {hog['goodput_per_s']} fragments a second."
    )


def _goodput(figures: Figures) -> Iterator[str]:
    rows = figures.get("load", {}).values()
    for streams in dict.fromkeys(row["streams"] for row in rows):
        shares = [row["share"] for row in rows if row["streams"] == streams]
        plural = "s" * (streams > 1)
        yield f"{streams} stream{plural}: {min(shares):.0%} to {max(shares):.0%} of the ideal over all loads."
    for name, row in figures.get("machines", {}).items():
        yield (
            f"{name}: {row['usable']} of {row['fragments']} fragments came as usable results, "
            f"{row['by_the_faster_voice']} by the faster voice, p50 {row['p50_ms']} ms; "
            f"{row['sent_again']} were put off at first."
        )


def _film(figures: Figures) -> Iterator[str]:
    stops, memory = figures["interruptions"], figures["memory_mib"]
    yield (
        f"{figures['minutes']} minutes, interrupted {len(stops)} times: the result is "
        f"{'equal to that of one go' if figures['equal'] else 'another than that of one go'}. The command took "
        f"{memory['most']} MiB at most, {memory['last_over_first_third']:.2f} × in the last third of what it took in "
        "the first."
    )


def _spoken(figures: Figures) -> Iterator[str]:
    for language in ("es", "en"):
        row = figures[language]
        before, after = (row[way] / row["sentences"] for way in ("as_written", "normalised"))
        yield f"{language}: {before:.0%} of {row['sentences']} sentences said right as written, {after:.0%} normalised."


def _slow_clients(figures: Figures) -> Iterator[str]:
    clients = figures["clients"] * figures["waves"]
    yield (
        f"Ingress and proxy together grew by {figures['growth_bytes'] / MIB:.0f} MiB at most under clients that never "
        f"read, where their caps allow {figures['bound_bytes'] / MIB:.0f} MiB; {figures['closed']} of {clients} were "
        f"closed, and the client beside them got {figures['neighbour_good']} of {figures['neighbour_sent']} fragments."
    )


def _soak(figures: Figures) -> Iterator[str]:
    everything, ingress = (figures["memory_mib"][name] for name in ("all together", "Ingress"))
    yield (
        f"In {figures['minutes']:g} minutes {figures['streams']} streams came and went. Once warm, all processes "
        f"together grew by {everything['per_hour']:.0f} MiB an hour ({everything['low']:.0f} to "
        f"{everything['high']:.0f}), the ingress by {ingress['per_hour']:.0f}; the number of series went from "
        f"{figures['series_start']} to {figures['series_end']}."
    )


def _decoding(figures: Figures) -> Iterator[str]:
    added = [one["added_ms"] for one in figures["formats"].values()]
    yield f"A child adds {min(added)} to {max(added)} ms, by the format, and starts in {figures['start_ms']} ms."


def _stages(figures: Figures) -> Iterator[str]:
    parts = ", ".join(f"{row['stage']} {row['cpu_ms_a_fragment']:.0f} ms" for row in figures["rows"])
    whole = sum(row["cpu_ms_a_fragment"] for row in figures["rows"])
    yield f"A fragment takes {whole / 1000:.1f} s of CPU time: {parts}."


SENTENCES: dict[str, Callable[[Figures], Iterator[str]]] = {
    "chaos": _chaos,
    "nodes": _nodes,
    "autoscaling": _autoscaling,
    "overload": _overload,
    "goodput": _goodput,
    "film": _film,
    "spoken": _spoken,
    "slow_clients": _slow_clients,
    "soak": _soak,
    "decoding": _decoding,
    "stages_cpu": _stages,
    "stages_cpu_espeak": _stages,
}
