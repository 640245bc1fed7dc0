"""The load generator: a process of its own, so that what a measurement does besides can't delay a send.

Its streams are bare: no client that would send again or wait. Any server that speaks the protocol can be asked.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from typing import Self

import numpy as np
import psutil

from bench.foreign import ForeignLoad
from bench.pacing import FRAGMENT_MS, Phase, Plan, Saturation, Sent, Used
from tests.support import clips
from tests.support.worker import Worker

LEAD_S = 1.0
"""From the order to the first send: all streams are open by then."""
DRAIN_S = 20.0
"""The longest that is waited for results after the last send."""
TIMEOUT_S = 300.0
"""For one phase."""


@cache
def speech() -> tuple[bytes, ...]:
    """All recordings of tests/data/speech as fragments of 6 s: AAC, 48 kHz stereo."""
    novel = [clips.clip(name) for name in sorted(clips.transcripts()) if name.startswith("sense_and_sensibility")]
    samples, step = np.concatenate(novel), FRAGMENT_MS * 48
    cut = (clips.encoded(samples[start : start + step], "aac") for start in range(0, len(samples) - step, step))
    return (*clips.adts_fragments(FRAGMENT_MS), *cut)


@dataclass
class _Stream:
    """One stream of a phase."""

    worker: Worker
    number: int
    started_s: float
    """On the monotonic clock."""
    fragments: list[Sent] = field(default_factory=list)

    async def send(self, due_s: float) -> None:
        """Send the next fragment; each stream begins with another one, so that no two say the same at once."""
        audio = speech()
        number = len(self.fragments)
        self.fragments.append(Sent(due_s))
        await self.worker.send(number, audio[(self.number + number) % len(audio)])

    def all_answered(self) -> bool:
        return len(self.settle()) == len(self.fragments)

    def settle(self) -> list[Sent]:
        """Write down what has come; gives what has its answer."""
        for seen in self.worker.events:
            fragment_id = seen.data.get("fragment_id") if isinstance(seen.data, dict) else None
            if fragment_id not in self.worker.sent_s:
                continue
            one = self.fragments[int(str(fragment_id).rsplit("-", 1)[1])]
            if seen.event == "fragment:ack":
                one.ack_ms = (seen.at_s - self.worker.sent_s[fragment_id]) * 1000
            elif seen.event == "fragment:processed":
                one.result_ms = (seen.at_s - self.started_s - one.due_s) * 1000
                one.code = "" if seen.data["status"] != "failed" else seen.data["error"]["code"]
            elif seen.event == "error":
                one.code = seen.data["code"]
        return [one for one in self.fragments if one.code or one.result_ms is not None]


async def _open(url: str, name: str, count: int, started_s: float) -> list[_Stream]:
    async def opened(number: int) -> _Stream:
        worker = await Worker(url).__aenter__()
        await worker.init(f"{name}-{number}")
        return _Stream(worker, number, started_s)

    return list(await asyncio.gather(*(opened(number) for number in range(count))))


async def _close(streams: Sequence[_Stream]) -> list[Sent]:
    for stream in streams:
        stream.settle()
        await stream.worker.__aexit__()
    return [one for stream in streams for one in stream.fragments]


async def play(url: str, name: str, plan: Plan, started_s: float) -> list[Sent]:
    """Send as planned from `started_s` on, on the monotonic clock; wait for what is in flight at the end."""
    streams = await _open(url, name, len(plan.phases_s), started_s)

    async def live(number: int) -> None:
        for due_s in plan.due_s(number):
            await asyncio.sleep(max(0.0, started_s + due_s - time.monotonic()))
            await streams[number].send(due_s)

    await asyncio.gather(*(live(number) for number in range(len(streams))))
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            await asyncio.gather(*(stream.worker.wait(stream.all_answered) for stream in streams))
    return await _close(streams)


async def saturate(url: str, name: str, plan: Saturation, started_s: float) -> list[Sent]:
    """Keep as many in flight as planned, from `started_s` on, on the monotonic clock."""
    streams = await _open(url, name, plan.in_flight, started_s)
    await asyncio.sleep(max(0.0, started_s - time.monotonic()))

    async def busy(stream: _Stream) -> None:
        with suppress(TimeoutError):  # a server that answers no more has no answer in the figures
            await keep_busy(stream)

    async def keep_busy(stream: _Stream) -> None:
        while (due_s := time.monotonic() - started_s) < plan.ends_s:
            await stream.send(due_s)
            await stream.worker.wait(stream.all_answered, DRAIN_S)

    await asyncio.gather(*map(busy, streams))
    return await _close(streams)


def _generate(url: str, name: str, plan: Plan | Saturation, started_s: float) -> list[Sent]:
    if isinstance(plan, Plan):
        return asyncio.run(play(url, name, plan, started_s))
    return asyncio.run(saturate(url, name, plan, started_s))


def _prepare() -> int:
    """Have everything loaded and encoded before the first phase."""
    speech()
    return psutil.Process().pid


class Generator:
    """The load generator. Use as `with Generator() as generator`."""

    def __enter__(self) -> Self:
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        self._pid = self._pool.submit(_prepare).result(TIMEOUT_S)
        self._phases = 0
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def measure(self, url: str, pid: int, plan: Plan | Saturation, bystanders: Sequence[int] = ()) -> Phase:
        """Load a server and watch what it uses while the phase counts.

        Args:
            url: where it listens.
            pid: of its first process.
            plan: what to send.
            bystanders: first processes of servers that are up and not asked.
        """
        self._phases += 1
        started_s = time.monotonic() + LEAD_S
        answer = self._pool.submit(_generate, url, f"phase{self._phases}", plan, started_s)

        def read() -> list[float]:
            return [cpu_s(pid), cpu_s(self._pid), sum(map(cpu_s, bystanders)), idle_s()]

        time.sleep(max(0.0, started_s + plan.warm_s - time.monotonic()))
        foreign, before = ForeignLoad(), read()
        time.sleep(max(0.0, started_s + plan.ends_s - time.monotonic()))
        foreign_percent = foreign.percent()
        server_s, generator_s, bystanders_s, idle = (end - was for was, end in zip(before, read(), strict=True))
        used = Used(server_s, generator_s, bystanders_s, idle, foreign_percent)
        return Phase(plan, answer.result(TIMEOUT_S), used)


def idle_s() -> float:
    """Seconds that the machine's cores have idled, added up."""
    times = psutil.cpu_times()
    return float(times.idle + getattr(times, "iowait", 0.0))


def cpu_s(pid: int) -> float:
    """CPU seconds that a process, all below it, and those that ended there and were waited for have used."""
    found = 0.0
    first = psutil.Process(pid)
    for process in (first, *first.children(recursive=True)):
        try:
            found += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return found
