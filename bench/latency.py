"""How fast fragments are acknowledged while the models are busy, and what the service adds to the models' time.

`python -m bench.latency [--quick]`. Starts the service itself, one configuration after the other, on loopback.

- acknowledgement: configs/local.yaml, real models kept saturated by background streams; another worker resends its
  in-flight fragment (6 s of speech, 160 kB) and measures each `fragment:ack`. Target: p99 within 50 ms.
- overhead: configs/echo.yaml and configs/local.yaml, one fragment at a time and several streams at once: from sending
  to the result at the worker, minus the computing time of all stages.
"""

import argparse
import asyncio
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.report import percentiles, show, write
from tests.support import clips
from tests.support.server import edited, start
from tests.support.worker import Worker

FRAGMENT_MS = 6000
BACKGROUND_STREAMS = 2
ACK_TARGET_MS = 50


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


async def overhead(url: str, streams: int, fragments_each: int) -> dict[str, list[float]]:
    """End to end at the worker minus the stages, and the part of it that the server saw, in ms."""
    fragments = clips.adts_fragments(FRAGMENT_MS)
    outside: list[float] = []
    inside: list[float] = []

    async def one(index: int) -> None:
        async with Worker(url) as worker:
            await worker.init(f"overhead-{streams}-{index}", timeout_ms=30_000)
            for number in range(fragments_each + 1):
                sent = time.perf_counter()
                fragment = await worker.send(number, fragments[number % len(fragments)])
                result = await worker.wait(lambda fragment=fragment: worker.result(fragment), 60)
                elapsed_ms = (time.perf_counter() - sent) * 1000
                if number:  # the first one warms up
                    computed_ms = sum(result["stage_timings"].values())
                    outside.append(elapsed_ms - computed_ms)
                    inside.append(result["processing_time_ms"] - computed_ms)

    await asyncio.gather(*(one(index) for index in range(streams)))
    return {"end to end": outside, "in the server": inside}


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
    loaded = await acknowledgements(url, wanted)
    for process in busy:
        process.terminate()
        process.join()
    return {"models idle": percentiles(idle), "models busy": percentiles(loaded)}


def main() -> None:
    """Run everything and leave bench/results/latency.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the samples")
    quick = parser.parse_args().quick
    figures: dict[str, Any] = {"fragment_ms": FRAGMENT_MS, "ack_target_ms": ACK_TARGET_MS}
    with tempfile.TemporaryDirectory() as folder:
        for config in ("echo", "local"):
            server = start(edited(config, {}, Path(folder)), Path(folder) / f"{config}.log")
            try:
                if config == "local":
                    figures["acknowledgement_ms"] = asyncio.run(measure_acks(server.url, 60 if quick else 600))
                plan = (
                    [(1, 3 if quick else 30), (4, 3 if quick else 30)]
                    if config == "echo"
                    else [(1, 3 if quick else 15)]
                )
                for streams, count in plan:
                    found = asyncio.run(overhead(server.url, streams, count))
                    figures[f"overhead_ms, {config}, {streams} streams"] = {
                        name: percentiles(values) for name, values in found.items()
                    }
            finally:
                server.stop()
    for title, rows in figures.items():
        if isinstance(rows, dict):
            show(title, list(rows.items()))
    acks = figures["acknowledgement_ms"]["models busy"]
    print(f"fragment:ack p99 {acks['p99']} ms with busy models; the target is {ACK_TARGET_MS} ms")
    print(f"written to {write('latency', figures)}")


if __name__ == "__main__":
    main()
