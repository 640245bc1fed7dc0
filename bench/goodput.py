"""What of the models' capacity comes out as usable results: `python -m bench.goodput [--quick] [--only load|machines]`.

Two questions, on a real server. **load**: fake models that do five fragments a second are sent half to three
times as much by 1, 3 and 12 streams that send whatever comes back; what an all-knowing scheduler would deliver is the
lesser of what is sent and what the models do. **machines**: configs/local.yaml with every model slowed, so that its
machine is half, a quarter and an eighth as fast, beside a worker that keeps three fragments in flight and heeds what
the server asks; and the fakes with a voice that takes 4.3 s, one at a time, beside workers that keep one to three.

Prints tables, leaves bench/results/goodput.json and a picture, and ends with 1 when a target is missed.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import report
from bench.generator import speech
from bench.overload import CAPACITY_PER_S, CHANGES, figures, phase
from bench.report import Target, judge, write
from tests.support.server import RunningServer, edited, start
from tests.support.worker import Worker

STREAMS = (1, 3, 12)
LOADS = (0.5, 1.0, 1.5, 2.0, 3.0)
SLOWER = (1, 2, 4, 8)
KEEPS = (1, 2, 3)
VOICE_MS = 4300
TIMEOUT_S = 8.0
MOST_TRIES = 20
WORKERS_OWN_S = 30.0
"""What is waited for an answer before something is wrong."""
LOCAL_SECTIONS = ("asr", "translation", "tts", "tts.faster")
IDEAL_SHARE, USABLE_PERCENT = 0.9, 95.0


class WellBehaved:
    """A worker that keeps so many fragments in flight, pauses when it is asked to, and sends again what had no room."""

    def __init__(self, url: str, keeps: int) -> None:
        self._worker = Worker(url)
        self._keeps = keeps
        self.again = 0

    async def run(self, count: int, hurry_s: float) -> dict[str, Any]:
        """Send so many fragments of speech, none later than `hurry_s` after it could; what came of them."""
        async with self._worker as worker:
            await worker.init("machine", max_inflight=3, timeout_ms=int(TIMEOUT_S * 1000))
            audio, started_s = speech(), time.monotonic()
            for number in range(count):
                await self._may_send(hurry_s)
                await worker.send(number, audio[number % len(audio)])
                await self._taken(number, audio[number % len(audio)])
            await worker.wait(lambda: not self._open(), WORKERS_OWN_S)
            took_s = time.monotonic() - started_s
        last = {result["fragment_id"]: result for result in worker.results}
        good = [result for result in last.values() if result["status"] != "failed"]
        faster = sum("faster_voice" in (result.get("warnings") or ()) for result in good)
        failed = Counter(result["error"]["code"] for result in last.values() if result["status"] == "failed")
        return {
            "fragments": count,
            "usable": len(good),
            "usable_percent": round(100 * len(good) / count, 1),
            "by_the_faster_voice": faster,
            "sent_again": self.again,
            "failed": dict(failed),
            "per_s": round(len(good) / took_s, 3),
            "p50_ms": sorted(result["processing_time_ms"] for result in good)[len(good) // 2] if good else None,
        }

    def _open(self) -> int:
        taken = {ack["fragment_id"] for ack in self._worker.of("fragment:ack")}
        return len(taken - {result["fragment_id"] for result in self._worker.results})

    async def _may_send(self, hurry_s: float) -> None:
        def asked() -> str:
            told = self._worker.of("backpressure")
            return told[-1]["action"] if told else "none"

        await self._worker.wait(lambda: self._open() < self._keeps, WORKERS_OWN_S)
        await self._worker.wait(lambda: asked() != "pause", WORKERS_OWN_S)
        if asked() == "slow_down":
            await asyncio.sleep(min(hurry_s, self._worker.of("backpressure")[-1]["recommended_delay_ms"] / 1000))

    async def _taken(self, number: int, audio: bytes) -> None:
        """See to it that the fragment is accepted: where there is no room, it goes again when the server says so."""
        name = f"machine-{number}"

        def heard(seen: int) -> list[dict[str, Any]]:
            acks = [ack for ack in self._worker.of("fragment:ack") if ack["fragment_id"] == name]
            return acks or [error for error in self._worker.errors[seen:] if error.get("fragment_id") == name]

        seen = 0
        for _ in range(MOST_TRIES):
            [answer, *_] = await self._worker.wait(partial(heard, seen), WORKERS_OWN_S)
            if answer.get("code") != "QUEUE_FULL":
                return
            self.again, seen = self.again + 1, len(self._worker.errors)
            await asyncio.sleep(answer["details"]["recommended_delay_ms"] / 1000)
            await self._worker.send(number, audio)


async def load(url: str, warm_s: float, seconds: float, loads: tuple[float, ...]) -> dict[str, dict[str, Any]]:
    """By streams and load: what came out, and what could have."""
    found = {}
    for streams in STREAMS:
        for times in loads:
            periods_s = [streams / (times * CAPACITY_PER_S)] * streams
            name = f"{streams}-{times:g}"
            row = figures(await phase(url, name, periods_s, warm_s, seconds), seconds)
            ideal = min(row["sent_per_s"], CAPACITY_PER_S)
            share = round(row["goodput_per_s"] / ideal, 3)
            found[name] = {"streams": streams, "load": times, "ideal_per_s": ideal, "share": share, **row}
    return found


def machines(folder: Path, count: int, slower: tuple[int, ...]) -> dict[str, dict[str, Any]]:
    """By how much slower the machine is: what a worker gets of configs/local.yaml."""
    found = {}
    for times in slower:
        changes = {f"args.{section}.slowdown": times for section in LOCAL_SECTIONS}
        server = start(edited("local", changes, folder), folder / f"local-{times}.log")
        found[f"{times} × slower"] = _asked(server, 3, count)
    changes = {"args.tts.delay_ms": VOICE_MS, "args.tts.concurrency": 1}
    server = start(edited("fakes", changes, folder), folder / "fakes.log")
    try:
        for keeps in KEEPS:
            row = asyncio.run(WellBehaved(server.url, keeps).run(10, TIMEOUT_S))
            found[f"a voice of {VOICE_MS} ms, {keeps} in flight"] = row
    finally:
        server.stop()
    return found


def _asked(server: RunningServer, keeps: int, count: int) -> dict[str, Any]:
    try:
        return asyncio.run(WellBehaved(server.url, keeps).run(count, TIMEOUT_S))
    finally:
        server.stop()


def targets(found: dict[str, Any]) -> list[Target]:
    """What was to be reached."""
    told = []
    rows = found.get("load", {}).values()
    for streams in dict.fromkeys(row["streams"] for row in rows):
        least = min(row["share"] for row in rows if row["streams"] == streams)
        what = f"least share of the ideal, {streams} stream{'s' * (streams > 1)}, up to {max(LOADS):g} × capacity"
        told.append(Target(what, least, IDEAL_SHARE, at_least=True, headline=streams == max(STREAMS)))
    told += [
        Target(f"usable results, {name}", row["usable_percent"], USABLE_PERCENT, "%", at_least=True)
        for name, row in found.get("machines", {}).items()
    ]
    return told


def draw(rows: list[dict[str, Any]]) -> None:
    """Goodput over what is offered, a picture for each number of streams, beside the ideal."""
    with report.plot("goodput", len(STREAMS), 3.6) as axes:
        for axis, streams in zip(axes, STREAMS, strict=True):
            own = [row for row in rows if row["streams"] == streams]
            offered = [row["sent_per_s"] for row in own]
            axis.plot(offered, [min(sent, CAPACITY_PER_S) for sent in offered], "--", color="grey", label="ideal")
            axis.plot(offered, [row["goodput_per_s"] for row in own], marker="o", label="usable results")
            axis.set_title(f"{streams} stream{'s' * (streams > 1)}")
            axis.set_xlabel("fragments sent, a second")
            axis.set_ylim(0, 1.2 * CAPACITY_PER_S)
            axis.legend()
        axes[0].set_ylabel("usable results, a second")


def show(title: str, rows: dict[str, dict[str, Any]]) -> None:
    """One line a measurement."""
    table = Table("", *next(iter(rows.values())), title=title)
    for name, row in rows.items():
        table.add_row(name, *(str(value) for value in row.values()))
    Console(width=170).print(table)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer loads and machines; results go to results/quick/")
    parser.add_argument("--only", choices=("load", "machines"))
    options = parser.parse_args()
    if options.quick:
        report.quick()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.only != "machines":
            server = start(edited("fakes", CHANGES, folder), folder / "server.log")
            try:
                loads = (0.5, 3.0) if options.quick else LOADS
                found["load"] = asyncio.run(load(server.url, *((8.0, 12.0) if options.quick else (20.0, 24.0)), loads))
            finally:
                server.stop()
            show(f"capacity {CAPACITY_PER_S:g} fragments a second", found["load"])
            draw(list(found["load"].values()))
        if options.only != "load":
            found["machines"] = machines(folder, 12 if options.quick else 25, SLOWER[::3] if options.quick else SLOWER)
            show("slower machines", found["machines"])
    reached = targets(found)
    judge(reached)
    print(f"written to {write('goodput', {'capacity_per_s': CAPACITY_PER_S, **found}, reached)}")
    sys.exit(not all(target.met for target in reached))


if __name__ == "__main__":
    main()
