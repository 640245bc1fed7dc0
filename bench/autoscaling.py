"""Load goes up and down in steps on a cluster of several Ray nodes: replicas follow, and no fragment is lost.

The nodes run on one machine and the engines are fakes that take their time as real ones would, each replica one
fragment at a time. Deployed as operators do it, by a file and `livedub serve`, with the scaling policy that
configs/prod.yaml names; its delays and the seconds it looks back are shortened, so that minutes tell what else takes an
hour. The load are DubClients in real time; every connection is recorded and judged by tests.oracle.history.

Prints what came of it, leaves bench/results/autoscaling.json and .png, and ends with 1 when a target is missed.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from matplotlib.figure import Figure

from bench.live_streams import LiveStream, Story, tally
from bench.report import RESULTS, write
from serve_app.configuration.serve_file import POLICY
from tests.oracle.history import Rules, judge, save
from tests.support.nodes import Nodes
from tests.support.server import PROJECT

MODELS = ("Asr", "Translation", "Tts")
COMPUTING_MS = {"asr": 300, "translation": 50, "tts": 1000}
"""Of one fragment; what the fakes need beside is this machine's."""
TARGETS_MS = {"Asr": 1000, "Translation": 500, "Tts": 2500}
SCALING = {
    "min_replicas": 1,
    "max_replicas": 6,
    "metrics_interval_s": 1,
    "look_back_period_s": 5,
    "upscale_delay_s": 2,
    "downscale_delay_s": 12,
}
NODES, NODE_CPUS, REPLICA_CPUS = 3, 1.0, 0.2
CADENCE_S = 3.0
STEPS = ((1, 0.0, 1.0), (3, 0.1, 0.75), (4, 0.25, 0.65))
"""Streams that come together, when they come and when they go, as shares of the whole run."""
SAMPLE_S = 1.0
SETTLING_SHARE = 0.2
"""From the last step up until its latency counts, as a share of the run: replicas need it to come."""
TOLERANCE_S = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What was there at one moment."""

    at_s: float
    streams: int
    in_flight: int
    """Fragments that workers have sent and have no result of."""
    replicas: dict[str, int]
    """Processes by deployment, those that start or finish their calls included."""


def configuration(folder: Path) -> Path:
    """configs/fakes.yaml, with fakes as slow as models and with scaling."""
    schema = yaml.safe_load((PROJECT / "configs" / "fakes.yaml").read_text(encoding="utf-8"))
    application = schema["applications"][0]
    for stage, delay_ms in COMPUTING_MS.items():
        application["args"][stage] = {"engine": "fake", "concurrency": 1, "delay_ms": delay_ms}
    for deployment in application["deployments"]:
        deployment["ray_actor_options"] = {"num_cpus": REPLICA_CPUS}
        if (name := deployment["name"]) in MODELS:
            del deployment["num_replicas"]
            policy = {"policy_function": POLICY, "policy_kwargs": {"target_ms": TARGETS_MS[name]}}
            deployment["autoscaling_config"] = SCALING | {"policy": policy}
            deployment["graceful_shutdown_timeout_s"] = 20
    path = folder / "autoscaling.yaml"
    path.write_text(yaml.safe_dump(schema), encoding="utf-8")
    return path


async def watch(nodes: Nodes, streams: list[LiveStream], started_s: float, seen: list[Sample]) -> None:
    """Note what is there, again and again."""
    while True:
        counts = await asyncio.to_thread(lambda: {name: len(nodes.replicas(name)) for name in ("Ingress", *MODELS)})
        under_way = [stream for stream in streams if stream.running]
        waiting = sum(stream.sent - len(stream.results) for stream in streams)
        seen.append(Sample(round(time.monotonic() - started_s, 2), len(under_way), waiting, counts))
        await asyncio.sleep(SAMPLE_S)


async def measure(nodes: Nodes, seconds: float, folder: Path) -> dict[str, Any]:
    """All steps; the figures, the samples, and `missed` targets."""
    story = Story()
    story.listen()
    streams: list[LiveStream] = []
    seen: list[Sample] = []
    started_s = time.monotonic()
    watching = asyncio.create_task(watch(nodes, streams, started_s, seen))
    async with asyncio.TaskGroup() as group:
        for count, come, go in STEPS:
            for n in range(count):
                stream = LiveStream(nodes.head.url, f"step-{come:g}-{n}", CADENCE_S)
                streams.append(stream)
                group.create_task(stream.run((go - come) * seconds, come * seconds + n * CADENCE_S / count))
    watching.cancel()
    save(story.records, folder / "autoscaling.jsonl")
    found = tally(streams)
    violations = judge(story.records, replace(Rules(), tolerance_s=TOLERANCE_S))
    latencies = [
        (entry.time_s - started_s, float(entry.fields["processing_time_ms"]))
        for entry in story.records
        if entry.event == "fragment:processed"
    ]
    figures = {
        "settings": {"computing_ms": COMPUTING_MS, "target_ms": TARGETS_MS, "scaling": SCALING, "cadence_s": CADENCE_S},
        "result": asdict(found) | {"outages_s": len(found.outages_s), "violations": len(violations)},
        "phases": phases(seen, latencies, seconds),
        "samples": [asdict(sample) for sample in seen],
        "latencies_ms": [[round(at_s, 2), ms] for at_s, ms in latencies],
    }
    return figures | {"missed": missed(figures, [str(violation) for violation in violations])}


def phases(seen: list[Sample], latencies: list[tuple[float, float]], seconds: float) -> dict[str, dict[str, Any]]:
    """Replicas and latency before, at the height of the load, and at the end."""
    last_up, first_down = max(come for _, come, _ in STEPS), min(go for _, _, go in STEPS)
    first_up = min(come for _, come, _ in STEPS if come)
    times = {
        "calm": (0.0, first_up),
        "rising": (first_up, last_up + SETTLING_SHARE),
        "height": (last_up + SETTLING_SHARE, first_down),
        "end": (0.93, 1.0),
    }
    told = {}
    for name, (since, until) in times.items():
        inside = [sample for sample in seen if since * seconds <= sample.at_s < until * seconds]
        took = [ms for at_s, ms in latencies if since * seconds <= at_s < until * seconds]
        told[name] = {
            "streams": max(sample.streams for sample in inside),
            "replicas": {model: max(sample.replicas[model] for sample in inside) for model in MODELS},
            "in_flight": max(sample.in_flight for sample in inside),
            "p50_ms": round(float(np.percentile(took, 50))) if took else None,
            "p95_ms": round(float(np.percentile(took, 95))) if took else None,
        }
    return told


def missed(figures: dict[str, Any], violations: list[str]) -> list[str]:
    """Targets that these figures miss."""
    result, told = figures["result"], figures["phases"]
    calm, height, end = told["calm"]["replicas"], told["height"]["replicas"], told["end"]["replicas"]
    limit_ms = sum(TARGETS_MS.values())
    work = sum(count for count, _, _ in STEPS) / CADENCE_S * COMPUTING_MS["tts"] / 1000
    return [
        *(f"{word}: {result[word]}" for word in ("lost", "duplicated", "reordered") if result[word]),
        *([f"success in the end {result['good']} of {result['sent']}"] if result["good"] < result["sent"] else []),
        *([f"{len(violations)} violations: {violations[0]}"] if violations else []),
        *result["broken"],
        *([f"Tts {height['Tts']} replicas for {work:.1f} replicas' work"] if height["Tts"] < work else []),
        *(f"{model} did not shrink: {end[model]}" for model in MODELS if end[model] > calm[model]),
        *([f"p95 {told['height']['p95_ms']} ms over {limit_ms} ms"] if told["height"]["p95_ms"] > limit_ms else []),
    ]


def draw(figures: dict[str, Any], path: Path) -> None:
    """Replicas, queue and latency over time."""
    samples = figures["samples"]
    at_s = [sample["at_s"] for sample in samples]
    chart = Figure(figsize=(9, 8), layout="constrained")
    above, middle, below = chart.subplots(3, 1, sharex=True)
    above.step(at_s, [sample["streams"] for sample in samples], color="lightgrey", where="post", label="streams")
    for model in MODELS:
        above.step(at_s, [sample["replicas"][model] for sample in samples], where="post", label=f"{model} replicas")
    above.set_ylabel("streams, replicas")
    above.legend(loc="upper right", fontsize="small")
    middle.step(at_s, [sample["in_flight"] for sample in samples], where="post", color="tab:purple")
    middle.set_ylabel("fragments in flight")
    below.scatter(*zip(*figures["latencies_ms"], strict=True), s=6, color="tab:red")
    below.axhline(sum(TARGETS_MS.values()), color="grey", linestyle="--", label="sum of the targets")
    below.set_ylabel("processing_time_ms")
    below.set_xlabel("seconds")
    below.legend(loc="upper right", fontsize="small")
    for axes in (above, middle, below):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    chart.savefig(path, dpi=80)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=240.0, help="length of the whole run")
    parser.add_argument("--keep", type=Path, help="folder for the recorded history and the server's log")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made, Nodes(NODE_CPUS) as nodes:
        folder = options.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        for _ in range(NODES - 1):
            nodes.add()
        nodes.serve(configuration(folder), folder / "server.log")
        print(f"{NODES} nodes, ready; {options.seconds:.0f} s of load", flush=True)
        figures = asyncio.run(measure(nodes, options.seconds, folder))
    for name, told in figures["phases"].items():
        print(f"{name}: {told}")
    print(figures["result"])
    print("missed: " + "; ".join(figures["missed"]) if figures["missed"] else "every target met")
    draw(figures, RESULTS / "autoscaling.png")
    kept = {name: value for name, value in figures.items() if name not in ("samples", "latencies_ms")}
    columns = ("at_s", "streams", "in_flight", *MODELS)
    rows = [
        ",".join(str(value) for value in (s["at_s"], s["streams"], s["in_flight"], *(s["replicas"][m] for m in MODELS)))
        for s in figures["samples"]
    ]
    print(f"written to {write('autoscaling', kept | {'nodes': NODES, 'over_time': [','.join(columns), *rows]})}")
    sys.exit(bool(figures["missed"]))


if __name__ == "__main__":
    main()
