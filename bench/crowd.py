"""Clients that come and go: streams under ids of their own, most in order, some not."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from socketio.exceptions import SocketIOError

from livedub import DubClient, DubError, Fragment, StreamConfig
from tests.support import clips
from tests.support.worker import CONFIG, Worker

FRAGMENT_MS = 1000
WHOLE_FRAGMENTS, CADENCE_S = 20, 0.4
EXPECTED = frozenset(
    {"success", "MODEL_ERROR", "MALFORMED_DATA", "STREAM_NOT_FOUND", "INVALID_FRAGMENT", "INVALID_CONFIG"}
)
"""What a crowd has seen once each of its kinds has had a turn."""


@dataclass
class Crowd:
    """Clients that come and go until the time is over."""

    url: str
    ends_s: float
    audio: tuple[bytes, ...] = field(default_factory=lambda: clips.adts_fragments(FRAGMENT_MS))
    streams: int = 0
    sent: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    """Final results and refusals, by status or code."""
    lost: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """Everybody side by side."""
        kinds: list[tuple[Callable[[str], Awaitable[None]], int]] = [
            (self.whole, 3), (self.leaving, 2), (self.taken_over, 1), (self.resending, 1), (self.misbehaving, 1),
        ]  # fmt: skip
        async with asyncio.TaskGroup() as group:
            for behave, at_once in kinds:
                for _ in range(at_once):
                    group.create_task(self._again_and_again(behave))

    async def _again_and_again(self, behave: Callable[[str], Awaitable[None]]) -> None:
        while time.monotonic() < self.ends_s:
            self.streams += 1
            name = f"{behave.__name__}-{self.streams}"
            try:
                await behave(name)
            except (DubError, SocketIOError, TimeoutError, OSError) as error:
                self.lost.append(f"{name}: {type(error).__name__}: {error}")
            await asyncio.sleep(CADENCE_S)

    async def whole(self, name: str) -> None:
        """A stream to its end, one fragment after the other."""
        config = StreamConfig(target_language="es", format="m4a", sample_rate_hz=48_000, channels=2)
        async with DubClient(self.url, config=config, stream_id=name) as dubbing:
            numbers: set[int] = set()

            async def read() -> None:
                async for result in dubbing.results():
                    numbers.add(result.sequence_number)
                    self.seen[result.failure.code if result.failure else result.status] += 1

            reading = asyncio.create_task(read())
            for number in range(WHOLE_FRAGMENTS):
                audio = self.audio[number % len(self.audio)]
                await dubbing.send(Fragment(audio, "m4a", 48_000, 2, FRAGMENT_MS))
                self.sent += 1
                await asyncio.sleep(CADENCE_S)
            await dubbing.end()
            await reading
            if len(numbers) < WHOLE_FRAGMENTS:
                self.lost.append(f"{name}: {WHOLE_FRAGMENTS - len(numbers)} of {WHOLE_FRAGMENTS}")

    async def leaving(self, name: str) -> None:
        """Disconnects with fragments in flight."""
        async with Worker(self.url) as worker:
            await worker.init(name)
            for number in range(4):
                await self._send(worker, number)
            await self._results(worker, 1)

    async def taken_over(self, name: str) -> None:
        """The worker restarts: its stream goes on over another connection."""
        async with Worker(self.url) as old, Worker(self.url) as new:
            await old.init(name)
            await self._send(old, 0)
            await self._results(old, 1)
            await self._send(old, 1)
            await new.init(name)
            await old.wait_error("SESSION_REPLACED")
            for number in range(2):
                await self._send(new, number)
            await self._results(new, 2)

    async def resending(self, name: str) -> None:
        """Resends in flight, after success and after failure."""
        async with Worker(self.url) as worker:
            await worker.init(name)
            await self._send(worker, 0)
            await self._send(worker, 0)
            await self._results(worker, 1)
            await self._send(worker, 0)
            await self._results(worker, 2)
        async with Worker(self.url) as worker:
            await worker.init(f"asr-error-{name}")
            for tries in (1, 2):
                await self._send(worker, 0)
                await self._results(worker, tries)

    async def misbehaving(self, name: str) -> None:
        """Sends what is refused, each time under other names; then a fragment, which must go well."""
        async with Worker(self.url) as worker:
            await worker.init(name)
            await worker.emit(f"unknown:{name}", {"a": name})
            await worker.emit("fragment:data", name)
            await worker.send(0, b"", fragment_id=f'"}}{name}', audio__data_base64="?")
            await worker.send(1, self.audio[0], stream_id=f'x",error_code="{name}')
            await worker.send(2, self.audio[0], audio__format=name)
            await worker.emit(
                "stream:init", {"stream_id": name, "worker_id": name, "config": {**CONFIG, "channels": 7}}
            )
            await worker.wait(lambda: len(worker.errors) >= 6)
            self.seen.update(error["code"] for error in worker.errors)
            await self._send(worker, 3)
            await self._results(worker, 1)

    async def _send(self, worker: Worker, number: int) -> None:
        await worker.send(number, self.audio[number % len(self.audio)], audio__duration_ms=FRAGMENT_MS)
        self.sent += 1

    async def _results(self, worker: Worker, count: int) -> None:
        """Wait for so many results of this worker."""
        before = len(worker.results)
        for result in (await worker.wait_results(count))[before:]:
            self.seen[result["error"]["code"] if result["status"] == "failed" else result["status"]] += 1
