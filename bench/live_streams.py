"""Live streams for measurements: DubClients that send in real time, and the history of all they saw."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import livedub.link
from livedub import DubClient, DubError, Fragment, FragmentResult, StreamConfig
from livedub.connection import ServerConnection
from tests.oracle.history import Record, record
from tests.support import clips

FRAGMENT_MS = 6000
OUTAGE_POLL_S = 0.02
NO_CONNECTION = "no connection"
"""What a DubClient says it waits for while it has none."""


@dataclass
class Story:
    """The history of all connections of this process, as tests.oracle.history judges it."""

    records: list[Record] = field(default_factory=list)
    _names: Iterator[int] = field(default_factory=itertools.count)

    def listen(self) -> None:
        """From now on every DubClient's connection is recorded here."""
        story = self

        class Recorded(ServerConnection):
            def __init__(self, url: str, token: str | None, on_event: Any, on_lost: Any) -> None:
                name = f"connection-{next(story._names)}"

                def heard(event: str, payload: Any) -> None:
                    story.note(name, "received", event, payload)
                    on_event(event, payload)

                def lost(reason: str) -> None:
                    story.note(name, "received", "disconnect", {"reason": reason})
                    on_lost(reason)

                self._name = name
                super().__init__(url, token, heard, lost)

            async def emit(self, event: Any) -> None:
                story.note(self._name, "sent", event.EVENT, event.model_dump(exclude_none=True))
                await super().emit(event)

            async def close(self) -> None:
                story.note(self._name, "sent", "disconnect", {})
                await super().close()

        setattr(livedub.link, "ServerConnection", Recorded)  # noqa: B010 - the module does not export it

    def note(self, connection: str, direction: str, event: str, payload: object) -> None:
        """Write one thing down."""
        self.records.append(record(time.monotonic(), connection, direction, event, payload))


@dataclass
class LiveStream:
    """One stream, a fragment every `cadence_s`."""

    url: str | Sequence[str]
    name: str
    cadence_s: float
    results: list[FragmentResult] = field(default_factory=list)
    outages_s: list[float] = field(default_factory=list)
    sent: int = 0
    reconnects: int = 0
    running: bool = False
    failure: str = ""

    async def run(self, seconds: float, first_s: float = 0.0) -> None:
        """Stream for so many seconds, then end."""
        await asyncio.sleep(first_s)
        audio = clips.adts_fragments(FRAGMENT_MS)
        config = StreamConfig(target_language="es", format="m4a", sample_rate_hz=48_000, channels=2)
        try:
            async with DubClient(self.url, config=config, stream_id=self.name, max_inflight=4) as dubbing:
                self.running = True
                watching = asyncio.create_task(self._watch(dubbing))
                reading = asyncio.create_task(self._read(dubbing))
                started_s = time.monotonic()
                for number in range(int(seconds / self.cadence_s)):
                    await asyncio.sleep(max(0.0, started_s + number * self.cadence_s - time.monotonic()))
                    await dubbing.send(Fragment(audio[number % len(audio)], "m4a", 48_000, 2, FRAGMENT_MS))
                    self.sent += 1
                await dubbing.end()
                await reading
                watching.cancel()
                self.reconnects = dubbing.reconnects
        except DubError as error:
            self.failure = f"{type(error).__name__}: {error}"
        finally:
            self.running = False

    async def _read(self, dubbing: DubClient) -> None:
        async for result in dubbing.results():
            self.results.append(result)

    async def _watch(self, dubbing: DubClient) -> None:
        lost_s: float | None = None
        while True:
            away, now_s = dubbing.status == NO_CONNECTION, time.monotonic()
            if away and lost_s is None:
                lost_s = now_s
            elif not away and lost_s is not None:
                self.outages_s.append(now_s - lost_s)
                lost_s = None
            await asyncio.sleep(OUTAGE_POLL_S)


@dataclass(frozen=True, slots=True)
class Tally:
    """What came of some streams."""

    sent: int
    good: int
    """Success or partial in the end."""
    at_first: int
    """Success or partial without a second try."""
    lost: int
    """Sent without a result."""
    duplicated: int
    reordered: int
    codes: dict[str, int]
    """Failures by code, in the end."""
    outages_s: list[float]
    broken: list[str]
    """Streams that did not come to their end, and why."""


def tally(streams: list[LiveStream]) -> Tally:
    """Add up what the callers of DubClient got."""
    results = [result for stream in streams for result in stream.results]
    numbers = [[result.sequence_number for result in stream.results] for stream in streams]
    good = [result for result in results if result.status != "failed"]
    return Tally(
        sent=sum(stream.sent for stream in streams),
        good=len(good),
        at_first=sum(result.attempts == 1 for result in good),
        lost=sum(stream.sent - len(set(seen)) for stream, seen in zip(streams, numbers, strict=True)),
        duplicated=sum(len(seen) - len(set(seen)) for seen in numbers),
        reordered=sum(later < earlier for seen in numbers for earlier, later in itertools.pairwise(seen)),
        codes=dict(Counter(result.failure.code for result in results if result.failure is not None)),
        outages_s=[outage for stream in streams for outage in stream.outages_s],
        broken=[f"{stream.name}: {stream.failure}" for stream in streams if stream.failure],
    )
