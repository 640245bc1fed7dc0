"""The service beside what one would write instead: `python -m bench.baselines [--quick]`.

The same models, threads, recordings and workers in one run, turn by turn: livedub (configs/local.yaml with the fast
voice), a single-process python-socketio server that dubs in its handlers, the same with as many threads as cores, and a
script that takes one fragment after the other. All servers stand all the time; what idle ones use is told. Each stream
sends 6 s of speech every 2 s, three times as fast as life, so 1, 3 and 6 streams load like 3, 9 and 18; the phases are
scattered as those of unrelated streams are. At the end each server is kept saturated.
"""

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import report
from bench.foreign import ForeignLoad
from bench.generator import Generator, cpu_s
from bench.pacing import (
    FRAGMENT_MS,
    LATE_MS,
    Phase,
    Plan,
    Saturation,
    acks_ms,
    latencies_ms,
    scattered,
    show,
    summary,
)
from bench.report import Target
from bench.rivals import Server, ours, plain, script
from tests.support.server import edited

OURS, HANDLER, THREADS, SCRIPT = "livedub", "in the handler", "in threads", "script"
CADENCE_S = 2.0
OVERHEAD_MS, ACK_MS = 60.0, 50.0
"""What the service may add to a lone stream, and how soon it acknowledges at p99."""
BUSY = 3
"""From so many streams on it has to win."""


@dataclass(frozen=True, slots=True)
class Length:
    """How long all of it takes."""

    seconds: Mapping[int, float]
    """By streams: what counts of one turn."""
    saturated_s: float
    turns: int
    """Of each server for each load, half of them in reverse order."""


FULL = Length({1: 10.0, 3: 8.0, 6: 8.0}, 6.0, 2)
QUICK = Length({1: 2.0, 3: 4.0}, 4.0, 1)
WARM_S = 2.0
SATURATING = 6


def idle(servers: Mapping[str, Server], seconds: float) -> dict[str, dict[str, float]]:
    """Cores that each server uses while nobody sends."""
    before = {name: cpu_s(server.pid) for name, server in servers.items()}
    time.sleep(seconds)
    return {name: {"cores": round((cpu_s(server.pid) - before[name]) / seconds, 3)} for name, server in servers.items()}


def raced(servers: Mapping[str, Server], generator: Generator, plan: Plan | Saturation, turns: int) -> dict[str, Any]:
    """All servers under one load, there and back: each one's phases."""
    phases: dict[str, list[Phase]] = {name: [] for name in servers}
    for turn in range(turns):
        for name in list(servers)[:: -1 if turn % 2 else 1]:
            server = servers[name]
            others = [other.pid for other in servers.values() if other is not server]
            phases[name].append(generator.measure(server.url, server.pid, plan, others))
    return phases


def measured(config: Path, folder: Path, length: Length) -> tuple[dict[str, dict[str, Any]], list[Target]]:
    """Rows by load and server, and what was wanted of them."""
    rows: dict[str, dict[str, Any]] = {}
    targets: list[Target] = []
    with contextlib.ExitStack() as stack:
        servers = {
            OURS: stack.enter_context(ours(config, folder)),
            HANDLER: stack.enter_context(plain(config, 0)),
            THREADS: stack.enter_context(plain(config, os.cpu_count() or 1)),
        }
        generator = stack.enter_context(Generator())
        for server in servers.values():
            generator.measure(server.url, server.pid, Saturation(2, 2.0, 1.0))
        rows["idle"] = idle(servers, length.saturated_s)
        for streams, seconds in length.seconds.items():
            plan = Plan(scattered(streams, CADENCE_S), CADENCE_S, WARM_S, seconds)
            phases = raced(servers, generator, plan, length.turns)
            rows[f"{streams} streams"] = {name: summary(of) for name, of in phases.items()}
            targets += judged(streams, phases)
        phases = raced(servers, generator, Saturation(SATURATING, WARM_S, length.saturated_s), length.turns)
        rows["saturated"] = {name: summary(of) for name, of in phases.items()}
    return rows, [*targets, *judged_saturated(rows["saturated"])]


def judged(streams: int, phases: Mapping[str, Sequence[Phase]]) -> list[Target]:
    """A lone stream may pay for the hops; with more the service has to win, and acknowledges soon always."""
    latency = {name: report.percentiles(latencies_ms(of)) for name, of in phases.items()}
    acks = report.percentiles(acks_ms(phases[OURS]))
    told = f"{streams} streams" if streams > 1 else "a lone stream"
    targets = [Target(f"ack p99, {told}", acks["p99"], ACK_MS, "ms", because=BECAUSE_ACK)]
    if streams == 1:
        more_ms = latency[OURS]["p50"] - latency[HANDLER]["p50"]
        targets.append(
            Target(f"p50 above that in the handler, {told}", round(more_ms, 1), OVERHEAD_MS, "ms", because=BECAUSE_ONE)
        )
    if streams >= BUSY:
        targets += [
            Target(
                f"p95 over that {name}, {told}",
                round(latency[OURS]["p95"] / latency[name]["p95"], 3),
                1.0,
                because=BECAUSE_BUSY,
                headline=streams == max(FULL.seconds),
            )
            for name in (HANDLER, THREADS)
        ]
        targets += [
            Target(
                f"ack p99 over that {name}, {told}",
                round(acks["p99"] / report.percentiles(acks_ms(phases[name]))["p99"], 3),
                1.0,
                because=BECAUSE_PROXY,
            )
            for name in (HANDLER, THREADS)
        ]
    return targets


def judged_saturated(rows: Mapping[str, Mapping[str, float]]) -> list[Target]:
    """Saturated, the service does at least as much as either server."""
    return [
        Target(
            f"fragments a second over those {name}, saturated",
            round(rows[OURS]["done_per_s"] / rows[name]["done_per_s"], 3),
            1.0,
            at_least=True,
            because=BECAUSE_SATURATED,
        )
        for name in (HANDLER, THREADS)
    ]


BECAUSE_ACK = "The ingress shares its cores with the models, and waits for its turn on them."
BECAUSE_PROXY = (
    "A message passes Serve's proxy before the ingress reads it; with threads the loop is free and has no proxy."
)
BECAUSE_ONE = "A fragment goes through Serve's proxy, the ingress and three processes, and Ray's own take CPU time too."
BECAUSE_BUSY = "Ray's processes and the hops between them cost CPU time that one process doesn't spend."
BECAUSE_SATURATED = BECAUSE_BUSY


def drawn(rows: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Latency, acknowledgements and saturated throughput, side by side."""
    loads = [load for load in rows if load.endswith("streams")]
    with report.plot("baselines", 3) as (latency, acks, throughput):
        for number, name in enumerate((OURS, HANDLER, THREADS)):
            at = [place + 0.27 * (number - 1) for place in range(len(loads))]
            latency.bar(at, [rows[load][name]["p95_ms"] for load in loads], 0.25, label=name)
            acks.bar(at, [rows[load][name]["ack_p99_ms"] for load in loads], 0.25, label=name)
            throughput.bar([name], [rows["saturated"][name]["done_per_s"]])
        for axes, title in ((latency, "Result, p95"), (acks, "Acknowledgement, p99")):
            axes.set_xticks(range(len(loads)), loads)
            axes.set(title=title, ylabel="ms", yscale="log")
            axes.legend()
        acks.axhline(ACK_MS, color="grey", lw=0.8)
        throughput.set(title="Saturated", ylabel="fragments a second")


def main() -> None:
    """Measure, print, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer loads, one turn each")
    quick = parser.parse_args().quick
    if quick:
        report.quick()
    foreign = ForeignLoad()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = edited("local", {"args.tts": {"engine": "espeak"}}, folder)
        alone = script(config, 1 if quick else 2)
        rows, targets = measured(config, folder, QUICK if quick else FULL)
    figures = {
        "quick": quick,
        "foreign_percent": foreign.percent(),
        "fragment_ms": FRAGMENT_MS,
        "cadence_s": CADENCE_S,
        "late_ms": LATE_MS,
        SCRIPT: {"one after the other": alone},
        **rows,
    }
    for load, found in rows.items():
        show(load, found)
    show(SCRIPT, {"one after the other": alone})
    report.judge(targets)
    drawn(rows)
    print(f"written to {report.write('baselines', figures, targets)}")


if __name__ == "__main__":
    main()
