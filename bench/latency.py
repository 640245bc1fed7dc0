"""How fast fragments are acknowledged, whatever the models are doing: `python -m bench.latency [--quick]`.

configs/local.yaml, its real models idle and then kept saturated by background streams; another worker resends its
in-flight fragment (6 s of speech, 160 kB) and measures each `fragment:ack`. Target: p99 within 50 ms.
"""

import argparse
import asyncio
import multiprocessing
import tempfile
import time
from pathlib import Path

from bench import report
from bench.foreign import ForeignLoad
from bench.report import Target, judge, percentiles, plot, show, write
from tests.support import clips
from tests.support.server import edited, start
from tests.support.worker import Worker

FRAGMENT_MS = 6000
BACKGROUND_STREAMS = 2
ACK_TARGET_MS = 50
BUSY = "models busy"
OWN = "of these the worker itself late"
OWN_PERIOD_S = 0.005


async def keep_busy(url: str, name: str) -> None:
    """A stream that always has two fragments in flight, until it is cancelled."""
    fragments = clips.adts_fragments(FRAGMENT_MS)
    async with Worker(url) as worker:
        await worker.init(name, timeout_ms=30_000)
        for number in range(10_000):
            await worker.wait(lambda number=number: number - len(worker.results) < 2, 120)
            await worker.send(number, fragments[number % len(fragments)])


def run_busy(url: str, name: str) -> None:
    """`keep_busy` as a process."""
    asyncio.run(keep_busy(url, name))


async def acknowledgements(url: str, wanted: int) -> list[float]:
    """Milliseconds from sending to `fragment:ack`, one at a time, on a stream whose fragments wait for the models."""
    audio = clips.adts_fragments(FRAGMENT_MS)[0]
    took: list[float] = []
    async with Worker(url) as worker:
        await worker.init("acknowledged", timeout_ms=30_000)
        number = 0
        while len(took) < wanted:
            fragment = f"acknowledged-{number}"
            while worker.result(fragment) is None and len(took) < wanted:
                seen = len(worker.of("fragment:ack"))
                sent = time.perf_counter()
                await worker.send(number, audio)
                await worker.wait(lambda seen=seen: len(worker.of("fragment:ack")) > seen)
                took.append((time.perf_counter() - sent) * 1000)
                await asyncio.sleep(0.02)
            number += 1
            worker.events = worker.events[-50:]
    return took


async def own_lateness(late_ms: list[float]) -> None:
    """How late this process is by itself when it wants to go on, until it is cancelled."""
    while True:
        due_s = time.perf_counter() + OWN_PERIOD_S
        await asyncio.sleep(OWN_PERIOD_S)
        late_ms.append((time.perf_counter() - due_s) * 1000)


async def measure_acks(url: str, wanted: int) -> dict[str, dict[str, float]]:
    """Idle first, then with the models saturated, on the same server."""
    idle = await acknowledgements(url, wanted // 4)
    context = multiprocessing.get_context("spawn")  # other processes: the measuring one must not wait for itself
    busy = [
        context.Process(target=run_busy, args=(url, f"background-{n}"), daemon=True) for n in range(BACKGROUND_STREAMS)
    ]
    for process in busy:
        process.start()
    await asyncio.sleep(12)  # they import and encode first
    late_ms: list[float] = []
    watching = asyncio.create_task(own_lateness(late_ms))
    loaded = await acknowledgements(url, wanted)
    watching.cancel()
    for process in busy:
        process.terminate()
        process.join()
    return {"models idle": percentiles(idle), BUSY: percentiles(loaded), OWN: percentiles(late_ms)}


def main() -> None:
    """Measure, tell, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the samples")
    quick = parser.parse_args().quick
    if quick:
        report.quick()
    foreign = ForeignLoad()
    with tempfile.TemporaryDirectory() as folder:
        server = start(edited("local", {}, Path(folder)), Path(folder) / "log")
        try:
            found = asyncio.run(measure_acks(server.url, 60 if quick else 600))
        finally:
            server.stop()
    figures = {"fragment_ms": FRAGMENT_MS, "foreign_percent": foreign.percent(), "acknowledgement_ms": found}
    because = (
        "Models take all cores, and the worker that measures is kept waiting too: it came "
        f"{found[OWN]['p99']} ms late by itself at p99, {found[OWN]['max']} ms at most."
    )
    targets = [
        Target(f"p99 of fragment:ack, {name}", row["p99"], ACK_TARGET_MS, "ms", because=because, headline=name == BUSY)
        for name, row in found.items()
        if name != OWN
    ]
    show("fragment:ack", list(found.items()))
    judge(targets)
    with plot("latency", width=6) as (axis,):
        keys = ("p50", "p95", "p99")
        for at, (name, row) in enumerate(found.items()):
            axis.bar([place + 0.4 * at for place in range(len(keys))], [row[key] for key in keys], 0.38, label=name)
        axis.axhline(ACK_TARGET_MS, color="black", linestyle=":", label="target, p99")
        axis.set_xticks([place + 0.2 for place in range(len(keys))], keys)
        axis.set_ylabel("ms until fragment:ack")
        axis.legend()
    print(f"written to {write('latency', figures, targets)}")


if __name__ == "__main__":
    main()
