"""What the service adds to the models' time, and where: `python -m bench.overhead [--quick]`.

The whole service with models that answer at once (configs/fakes.yaml without its delays; decoding and encoding are
real), every process stamped, see `bench.traced`. Workers send fragments of 6 s (AAC, some 160 kB) at scheduled times,
with base64 and with binary audio by turns (ABBA). The overhead of a fragment is the time from sending to its result at
the worker, minus what the stages say they computed; the stamps tell its parts. Target: p50 20 ms, p95 60 ms, base64.
"""

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from bench import report
from bench.foreign import ForeignLoad
from bench.pacing import scattered
from bench.report import Target, judge, median, percentiles, plot, write
from bench.stamps import STAMPS, read
from tests.support import clips
from tests.support.server import PROJECT, edited, start
from tests.support.worker import Worker

FRAGMENT_MS = 6000
CADENCES_S = {1: 0.5, 8: 2.0}
"""By the number of streams: when each sends its next one. Faster than life, so that there are enough to count."""
WARM = 2
"""Fragments of each stream that don't count."""
TURNS = ("base64", "binary", "binary", "base64")
INSTANT = {f"args.{stage}.delay_ms": 0 for stage in ("asr", "translation", "tts")}
STAGES = ("asr", "translation", "tts")
TARGETS_MS = {"p50": 20.0, "p95": 60.0}
SETTLE_S = 0.5
PARTS = {
    "arriving": "the worker's own encoding, network, Serve's proxy, to the ingress",
    "decoding": "JSON, base64, validation, digest, acceptance",
    "deciding": "session, turns and scheduling in the ingress, between stages",
    "hops": "from the ingress to a stage's replica and back, three times",
    "queueing": "in the replicas: waiting for a thread, logging; stages tell whole milliseconds",
    "encoding": "waiting in the outbox, base64, JSON",
    "emitting": "Serve's proxy, network, the worker's own decoding",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """A fragment from the worker's side; points in time in seconds of the machine's monotonic clock."""

    sent_s: float
    acked_s: float
    got_s: float
    computed_ms: Mapping[str, int]
    """By stage, as the result tells."""


def parts(seen: Seen, stamps: Mapping[str, float]) -> dict[str, float]:
    """The parts of a fragment's overhead and their sum (`overhead`), and its acknowledgement, in ms."""

    def ms(start: str, end: str) -> float:
        return (stamps[end] - stamps[start]) * 1000

    within = {stage: ms(f"{stage} in", f"{stage} out") for stage in STAGES}
    called = {stage: ms(f"{stage} called", f"{stage} answered") for stage in STAGES}
    found = {
        "arriving": (stamps["received"] - seen.sent_s) * 1000,
        "decoding": ms("received", "accepted"),
        "deciding": ms("accepted", "posted") - sum(called.values()),
        "hops": sum(called.values()) - sum(within.values()),
        "queueing": sum(within.values()) - sum(seen.computed_ms.values()),
        "encoding": ms("posted", "encoded"),
        "emitting": (seen.got_s - stamps["encoded"]) * 1000,
    }
    return found | {"overhead": sum(found.values()), "acknowledged": (seen.acked_s - seen.sent_s) * 1000}


async def stream(url: str, name: str, count: int, cadence_s: float, phase_s: float, turn: str) -> dict[str, Seen]:
    """One stream at its pace: its fragments that count."""
    fragments = clips.adts_fragments(FRAGMENT_MS)
    seen: dict[str, Seen] = {}
    async with Worker(url) as worker:
        await worker.init(name, timeout_ms=30_000)
        started_s = time.monotonic() + phase_s
        for number in range(count + WARM):
            await asyncio.sleep(max(0.0, started_s + number * cadence_s - time.monotonic()))
            audio = fragments[number % len(fragments)]
            await worker.send(number, audio, **({"audio__data": audio} if turn == "binary" else {}))
        for number in range(count + WARM):
            fragment_id = f"{name}-{number}"
            result = await worker.wait(lambda fragment_id=fragment_id: worker.result(fragment_id), 60)
            at_s = {one.event: one.at_s for one in worker.events if one.data.get("fragment_id") == fragment_id}
            if number >= WARM:
                sent_s, acked_s = worker.sent_s[fragment_id], at_s["fragment:ack"]
                seen[fragment_id] = Seen(sent_s, acked_s, at_s["fragment:processed"], result["stage_timings"])
    return seen


async def together(url: str, block: str, streams: int, count: int, turn: str) -> dict[str, Seen]:
    """Some streams at once."""
    cadence_s = CADENCES_S[streams]
    phases_s = scattered(streams, cadence_s)
    running = (
        stream(url, f"{block}-{index}", count, cadence_s, phase_s, turn) for index, phase_s in enumerate(phases_s)
    )
    return {name: seen for one in await asyncio.gather(*running) for name, seen in one.items()}


def measure(folder: Path, *, quick: bool) -> dict[str, dict[str, list[dict[str, float]]]]:
    """The parts of all fragments that count, by the number of streams and the turn."""
    stamps = folder / "stamps"
    stamps.mkdir()
    config = edited("fakes", INSTANT, folder)
    schema = yaml.safe_load(config.read_text(encoding="utf-8"))
    schema["applications"][0]["import_path"] = "bench.traced:build"
    config.write_text(yaml.safe_dump(schema), encoding="utf-8")
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    server = start(config, folder / "log", environ={STAMPS: str(stamps), "PYTHONPATH": str(PROJECT)})
    try:
        asyncio.run(together(server.url, "warm", 1, 5, "base64"))
        for streams, (turn_number, turn) in itertools.product(CADENCES_S, enumerate(TURNS)):
            count = (4 if quick else 25) if streams == 1 else (1 if quick else 10)
            block = f"{streams}-{turn_number}"
            seen = asyncio.run(together(server.url, block, streams, count, turn))
            time.sleep(SETTLE_S)  # the last stamps are written after the result has left
            stamped = read(stamps)
            rows = found.setdefault(str(streams), {}).setdefault(turn, [])
            rows += [parts(one, stamped[name]) for name, one in seen.items()]
    finally:
        server.stop()
    return found


def figures_of(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Percentiles of the overhead and the acknowledgement, medians of the parts."""
    overhead = [row["overhead"] for row in rows]
    middle = {name: round(value, 1) for name, value in median(overhead).items()}
    return {
        "overhead_ms": percentiles(overhead) | {"p50_low": middle["low"], "p50_high": middle["high"]},
        "acknowledged_ms": percentiles([row["acknowledged"] for row in rows]),
        "parts_p50_ms": {name: round(statistics.median(row[name] for row in rows), 2) for name in PARTS},
        "parts_p95_ms": {name: round(float(np.percentile([row[name] for row in rows], 95)), 2) for name in PARTS},
    }


def targets_of(figures: Mapping[str, Any]) -> list[Target]:
    """For base64, as existing workers send."""
    found = []
    for streams in CADENCES_S:
        one = figures["streams"][str(streams)]["base64"]
        largest = max(one["parts_p50_ms"], key=one["parts_p50_ms"].get)
        share = one["parts_p50_ms"][largest]
        because = f"The largest part, {largest} ({PARTS[largest]}), takes {share} ms at p50."
        name = f"{streams} streams" if streams > 1 else "1 stream"
        found += [
            Target(
                f"{key} of the overhead, {name}", one["overhead_ms"][key], bound, "ms", because=because, headline=True
            )
            for key, bound in TARGETS_MS.items()
        ]
    return found


def tell(figures: Mapping[str, Any]) -> None:
    """One table: parts down, ways across."""
    table = Table(title="Overhead of a fragment of 6 s (ms, p50 / p95)")
    table.add_column("")
    columns = [(streams, turn) for streams in figures["streams"] for turn in ("base64", "binary")]
    for streams, turn in columns:
        table.add_column(f"{streams} × {turn}", justify="right")
    cells = [figures["streams"][streams][turn] for streams, turn in columns]
    for name in PARTS:
        table.add_row(name, *(f"{one['parts_p50_ms'][name]} / {one['parts_p95_ms'][name]}" for one in cells))
    for key, name in (("overhead_ms", "all together"), ("acknowledged_ms", "until fragment:ack")):
        table.add_row(name, *(f"{one[key]['p50']} / {one[key]['p95']}" for one in cells))
    Console().print(table)


def draw(figures: Mapping[str, Any]) -> None:
    """The parts stacked, one bar a way."""
    bars = [
        (f"{streams} × {turn}", one) for streams, turns in figures["streams"].items() for turn, one in turns.items()
    ]
    with plot("overhead", width=8) as (axis,):
        left = np.zeros(len(bars))
        for name in PARTS:
            widths = np.array([one["parts_p50_ms"][name] for _, one in bars])
            axis.barh([label for label, _ in bars], widths, left=left, label=name)
            left += widths
        axis.axvline(TARGETS_MS["p50"], color="black", linestyle=":", label="target, p50")
        axis.set_xlabel("ms, medians of the parts")
        axis.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


def main() -> None:
    """Measure, tell, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few samples")
    quick = parser.parse_args().quick
    if quick:
        report.quick()
    foreign = ForeignLoad()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), quick=quick)
    figures: dict[str, Any] = {
        "fragment_ms": FRAGMENT_MS,
        "cadence_s": CADENCES_S,
        "foreign_percent": foreign.percent(),
        "streams": {
            streams: {turn: figures_of(rows) for turn, rows in turns.items()} for streams, turns in found.items()
        },
    }
    targets = targets_of(figures)
    tell(figures)
    judge(targets)
    draw(figures)
    print(f"written to {write('overhead', figures, targets)}")


if __name__ == "__main__":
    main()
