"""How many live streams a machine carries, and how much of it: `python -m bench.scaling [--quick]`.

Starts configs/local.yaml twice, with the fast tier (espeak-ng) and with the neural voice (Kokoro). Streams send 6 s of
speech every 6 s at scheduled times, evenly spread; then so many fragments are kept in flight that there is always
something to do. η is the throughput over what the cores would give if they never waited: throughput ÷ (cores ÷ CPU
seconds a fragment), of the server with all processes below it, on the cores that nobody else used.
"""

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench import report
from bench.foreign import ForeignLoad
from bench.generator import Generator
from bench.pacing import FRAGMENT_MS, LATE_MS, Phase, Plan, Saturation, evenly, show, summary
from bench.report import Target
from tests.support.server import edited, start

CADENCE_S = FRAGMENT_MS / 1000
EFFICIENCY_TARGET = 0.95
FAST_STREAMS, FAST_TARGET_MS = 12, 2000.0
NEURAL_STREAMS, NEURAL_TARGET_MS = 3, LATE_MS
AT_FIRST = Saturation(2, 4.0, 2.0)
"""Before anything counts: the models' first calls are the slowest."""


@dataclass(frozen=True, slots=True)
class Tier:
    """One voice, and how it is loaded."""

    name: str
    tts: Mapping[str, Any]
    """The configuration's `tts`; empty: as it stands."""
    steps: Mapping[int, float]
    """Streams, and for how many seconds they count."""
    saturation: Saturation


WARM_S = 3.0
"""Streams are evenly spread from the first second on, so there is little to wait for."""
FAST_SECONDS = {1: 12.0, 2: 12.0, 3: 12.0, 4: 12.0, 6: 18.0, 8: 18.0, 12: 24.0, 16: 24.0}
FULL = (
    Tier("fast", {"engine": "espeak"}, FAST_SECONDS, Saturation(8, 4.0, 12.0)),
    Tier("neural", {}, dict.fromkeys((1, 2, 3, 4), 24.0), Saturation(4, 6.0, 24.0)),
)
QUICK = (
    Tier("fast", {"engine": "espeak"}, {1: 6.0, 6: 6.0, 12: 6.0}, Saturation(8, 2.0, 6.0)),
    Tier("neural", {}, {3: 12.0}, Saturation(4, 2.0, 8.0)),
)
BECAUSE_FAST = "The CPU seconds a fragment times two fragments a second are more than the cores give without queueing."
BECAUSE_NEURAL = "The voice takes most of the CPU seconds a fragment, and three streams need them every two seconds."
BECAUSE_EFFICIENCY = "Cores idle while every slot of a stage waits for a step that one thread computes."


def measured(tier: Tier, generator: Generator, folder: Path) -> dict[str, Any]:
    """One tier's rows: by number of streams, and saturated."""
    changes = {"args.tts": dict(tier.tts)} if tier.tts else {}
    server = start(edited("local", changes, folder), folder / f"{tier.name}.log")
    try:

        def phase(plan: Plan | Saturation) -> Phase:
            return generator.measure(server.url, server.process.pid, plan)

        phase(AT_FIRST)
        rows = {
            str(streams): summary([phase(Plan(evenly(streams, CADENCE_S), CADENCE_S, WARM_S, seconds))])
            for streams, seconds in tier.steps.items()
        }
        return {"streams": rows, "saturated": summary([phase(tier.saturation)])}
    finally:
        server.stop()


def judged(figures: Mapping[str, Any]) -> list[Target]:
    """What was wanted of these figures."""
    fast, neural = (figures[tier] for tier in ("fast", "neural"))
    lively, spoken = fast["streams"][str(FAST_STREAMS)], neural["streams"][str(NEURAL_STREAMS)]
    with_fast, with_neural = f"{FAST_STREAMS} streams, fast voice", f"{NEURAL_STREAMS} streams, neural voice"
    lost = spoken["failed"] + spoken["late"]
    return [
        Target(f"p95, {with_fast}", lively["p95_ms"], FAST_TARGET_MS, "ms", because=BECAUSE_FAST, headline=True),
        Target(f"p95, {with_neural}", spoken["p95_ms"], NEURAL_TARGET_MS, "ms", because=BECAUSE_NEURAL, headline=True),
        Target(f"failed or late, {with_neural}", lost, 0, because=BECAUSE_NEURAL),
        *(
            Target(
                f"η at saturation, {tier} voice",
                figures[tier]["saturated"]["efficiency"],
                EFFICIENCY_TARGET,
                at_least=True,
                because=BECAUSE_EFFICIENCY,
            )
            for tier in ("fast", "neural")
        ),
    ]


def drawn(figures: Mapping[str, Any]) -> None:
    """Latency over streams, throughput over streams, η and the CPU seconds a fragment."""
    with report.plot("scaling", 3) as (latency, throughput, efficiency):
        for tier in ("fast", "neural"):
            rows = figures[tier]["streams"]
            streams = [int(count) for count in rows]
            line = latency.plot(streams, [row["p95_ms"] for row in rows.values()], "o-", label=f"{tier}, p95")[0]
            medians = [row["p50_ms"] for row in rows.values()]
            latency.plot(streams, medians, "o:", color=line.get_color(), label=f"{tier}, p50")
            throughput.plot(streams, [row["done_per_s"] for row in rows.values()], "o-", label=tier)
            saturated = figures[tier]["saturated"]["done_per_s"]
            throughput.axhline(saturated, color=line.get_color(), ls=":", label=f"{tier}, saturated")
            efficiency.bar([tier], [figures[tier]["saturated"]["efficiency"]], color=line.get_color())
        latency.axhline(FAST_TARGET_MS, color="grey", lw=0.8)
        latency.axhline(NEURAL_TARGET_MS, color="grey", lw=0.8)
        latency.set(xlabel="live streams", ylabel="ms from due to result", yscale="log", title="Latency")
        latency.legend()
        throughput.set(xlabel="live streams", ylabel="fragments a second", title="Throughput")
        throughput.legend()
        efficiency.axhline(EFFICIENCY_TARGET, color="grey", lw=0.8)
        efficiency.set(ylabel="η", ylim=(0, 1.05), title="At saturation")


def main() -> None:
    """Measure, print, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps, short ones")
    quick = parser.parse_args().quick
    if quick:
        report.quick()
    tiers = QUICK if quick else FULL
    foreign = ForeignLoad()
    with tempfile.TemporaryDirectory() as folder, Generator() as generator:
        found = {tier.name: measured(tier, generator, Path(folder)) for tier in tiers}
    figures = {
        "quick": quick,
        "foreign_percent": foreign.percent(),
        "cores": psutil.cpu_count(),
        "fragment_ms": FRAGMENT_MS,
        "late_ms": LATE_MS,
        **found,
    }
    targets = judged(figures)
    for tier in tiers:
        rows = {f"{count} streams": row for count, row in found[tier.name]["streams"].items()}
        show(f"{tier.name} voice", {**rows, "saturated": found[tier.name]["saturated"]})
    report.judge(targets)
    drawn(figures)
    print(f"written to {report.write('scaling', figures, targets)}")


if __name__ == "__main__":
    main()
