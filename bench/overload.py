"""More than the models can do: `python -m bench.overload [--seconds 30]`.

A real server whose fake models do five fragments a second. Streams send at 0.5, 1, 2 and 3 times that, whatever comes
back; then three streams at their pace, alone and beside a hog that sends twenty times as much. Prints tables, leaves
bench/results/overload.json, and ends with 1 when a target is missed: goodput at three times capacity at least 90 % of
its peak, what was accepted in time, the hog's neighbours acknowledged within 50 ms at p99 and at most 25 % slower.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.report import write
from tests.support.server import edited, start
from tests.support.worker import Worker

CONCURRENCY, DELAY_MS = 4, 800
CAPACITY_PER_S = CONCURRENCY * 1000 / DELAY_MS
CHANGES = {"args.asr.delay_ms": 20, "args.tts.concurrency": CONCURRENCY, "args.tts.delay_ms": DELAY_MS}
LOADS = (0.5, 1.0, 2.0, 3.0)
STREAMS, NEIGHBOURS, HOG_TIMES = 10, 3, 20
TIMEOUT_S = 8.0
FORM = {"format": "pcm_s16le", "sample_rate_hz": 16_000, "channels": 1}
FRAGMENT_MS = 1000
NOISE = np.random.default_rng(1).integers(-3000, 3000, FRAGMENT_MS * 16, np.int16).tobytes()
GOODPUT_TARGET, ACK_TARGET_MS, SLOWER_TARGET = 0.9, 50, 1.25


class Sender:
    """A stream that sends at its pace, whatever comes back."""

    def __init__(self, url: str, name: str, period_s: float) -> None:
        self.worker = Worker(url)
        self._name, self._period_s = name, period_s
        self.counted_from_s = 0.0

    async def run(self, offset_s: float, warm_s: float, seconds: float) -> None:
        """Send for warm_s, which is not counted, and `seconds` more; then wait for what is in flight."""
        async with self.worker as worker:
            await worker.init(self._name, FORM, timeout_ms=int(TIMEOUT_S * 1000))
            started_s = time.monotonic() + offset_s
            self.counted_from_s = started_s + warm_s
            for number in range(int((warm_s + seconds) / self._period_s)):
                await asyncio.sleep(max(0.0, started_s + number * self._period_s - time.monotonic()))
                fields = {f"audio__{name}": value for name, value in FORM.items()}
                await worker.send(number, NOISE, **fields, audio__duration_ms=FRAGMENT_MS, audio__data=NOISE)
            await asyncio.sleep(TIMEOUT_S + 1)

    def arrivals(self, event: str) -> list[tuple[Any, float]]:
        """Payload and milliseconds since its fragment was sent, of events about counted fragments."""
        sent = self.worker.sent_s
        return [
            (seen.data, (seen.at_s - sent[seen.data["fragment_id"]]) * 1000)
            for seen in self.worker.events
            if seen.event == event and sent.get(seen.data.get("fragment_id"), 0.0) >= self.counted_from_s
        ]


def figures(senders: list[Sender], seconds: float) -> dict[str, Any]:
    """What came of the fragments of some streams."""
    results = [arrival for sender in senders for arrival in sender.arrivals("fragment:processed")]
    acks = [ms for sender in senders for _, ms in sender.arrivals("fragment:ack")]
    good = [ms for result, ms in results if result["status"] != "failed"]
    refused = Counter(data["code"] for sender in senders for data, _ in sender.arrivals("error"))
    sent = sum(at_s >= sender.counted_from_s for sender in senders for at_s in sender.worker.sent_s.values())
    return {
        "sent_per_s": round(sent / seconds, 2),
        "goodput_per_s": round(len(good) / seconds, 2),
        "accepted": len(acks),
        "late": sum(result["status"] == "failed" for result, _ in results),
        "refused": dict(refused),
        "unanswered": sent - len(results) - sum(refused.values()),
        "p95_ms": round(float(np.percentile(good, 95))) if good else None,
        "ack_p99_ms": round(float(np.percentile(acks, 99)), 1) if acks else None,
    }


async def phase(url: str, name: str, periods_s: list[float], warm_s: float, seconds: float) -> list[Sender]:
    """Streams with these periods, side by side."""
    senders = [Sender(url, f"{name}-{n}", period_s) for n, period_s in enumerate(periods_s)]
    offsets_s = [period_s * n / len(periods_s) for n, period_s in enumerate(periods_s)]
    await asyncio.gather(*(s.run(o, warm_s, seconds) for s, o in zip(senders, offsets_s, strict=True)))
    return senders


async def measure(url: str, warm_s: float, seconds: float) -> dict[str, dict[str, Any]]:
    """All phases, one after the other."""
    found: dict[str, dict[str, Any]] = {}
    for load in LOADS:
        period_s = STREAMS / (load * CAPACITY_PER_S)
        found[f"{load:g} × capacity"] = figures(
            await phase(url, f"load-{load:g}", [period_s] * STREAMS, warm_s, seconds), seconds
        )
    calm = 2 * NEIGHBOURS / CAPACITY_PER_S
    alone = await phase(url, "alone", [calm] * NEIGHBOURS, 2.0, seconds)
    beside = await phase(url, "beside", [calm] * NEIGHBOURS + [calm / HOG_TIMES], warm_s, seconds)
    found["three alone"] = figures(alone, seconds)
    found["beside a hog"] = figures(beside[:NEIGHBOURS], seconds)
    found["the hog"] = figures(beside[NEIGHBOURS:], seconds)
    return found


def missed(found: dict[str, dict[str, Any]]) -> list[str]:
    """Targets that these figures miss."""
    goodput = [found[f"{load:g} × capacity"]["goodput_per_s"] for load in LOADS]
    over = found[f"{LOADS[-1]:g} × capacity"]
    alone, beside = found["three alone"], found["beside a hog"]
    told = []
    if goodput[-1] < GOODPUT_TARGET * max(goodput):
        told.append(f"goodput {goodput[-1]}/s of {max(goodput)}/s at its peak")
    if over["late"] > 0.01 * over["accepted"]:
        told.append(f"{over['late']} of {over['accepted']} accepted fragments were late at {LOADS[-1]:g} × capacity")
    if any(row["unanswered"] for row in found.values()):
        told.append("fragments without an answer")
    if beside["ack_p99_ms"] > ACK_TARGET_MS:
        told.append(f"neighbours' ack p99 {beside['ack_p99_ms']} ms")
    if beside["p95_ms"] > SLOWER_TARGET * alone["p95_ms"]:
        told.append(f"neighbours' p95 {beside['p95_ms']} ms beside the hog, {alone['p95_ms']} ms alone")
    return told


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="counted part of each phase")
    parser.add_argument("--warm", type=float, default=20.0, help="before it, while the door learns")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = start(edited("fakes", CHANGES, Path(folder)), Path(folder) / "server.log")
        try:
            found = asyncio.run(measure(server.url, options.warm, options.seconds))
        finally:
            server.stop()
    first = next(iter(found.values()))
    table = Table("", *first, title=f"capacity {CAPACITY_PER_S:g} fragments a second")
    for name, row in found.items():
        table.add_row(name, *(str(value) for value in row.values()))
    Console(width=150).print(table)
    told = missed(found)
    print("missed: " + "; ".join(told) if told else "every target met")
    print(f"written to {write('overload', {'capacity_per_s': CAPACITY_PER_S, 'missed': told, **found})}")
    sys.exit(bool(told))


if __name__ == "__main__":
    main()
