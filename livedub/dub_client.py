"""DubClient: one stream over connections that may break. Owns task and clock; decides nothing that Flow can."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Self
from uuid import uuid4

from livedub.change_signal import ChangeSignal
from livedub.errors import DubError, StreamFailed
from livedub.event_handler import Broken, Completed, Received, Reopen, hear
from livedub.flow import Flow
from livedub.fragment import Fragment, FragmentResult
from livedub.link import Link
from livedub.timeouts import Timeouts
from livedub.totals import Totals
from serve_app.protocol import (
    ClientEvent,
    FragmentAck,
    FragmentData,
    FragmentMetadata,
    StreamComplete,
    StreamConfig,
    StreamEnd,
    StreamInit,
    StreamPause,
    StreamReady,
    StreamResume,
)


class DubClient:
    """Dubs one stream.

    `async with DubClient(url, config=…) as client:` connects and disconnects; in between, one task sends and another
    reads `results()`. A lost connection comes back by itself, and unfinished fragments are sent again. A program that
    sends without reading is stopped at 32 unread results.

    Args:
        url: http(s)://host:port of the server; or several, of the nodes of a cluster. The first one that works is kept
            until it fails, then the next one is tried.
        config: languages, voice and audio format.
        stream_id: the stream's name; made up when missing.
        worker_id: the sender's name, for the server's logs.
        max_inflight: fragments sent and not answered at once; the server may lower it.
        timeout_ms: how long the server may take for a fragment.
        binary: audio as binary attachments rather than base64.
        token: API key or JWT, where the server wants one.
        timeouts: every time limit.

    Raises:
        ValueError: a value the protocol doesn't allow.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        config: StreamConfig,
        stream_id: str | None = None,
        worker_id: str | None = None,
        max_inflight: int = 3,
        timeout_ms: int = 8000,
        binary: bool = True,
        token: str | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self._timeouts = timeouts or Timeouts()
        self._init = StreamInit(
            stream_id=stream_id or f"dub-{uuid4().hex}",
            worker_id=worker_id or "livedub-client",
            config=config,
            max_inflight=max_inflight,
            timeout_ms=timeout_ms,
        )
        self.stream_id = self._init.stream_id
        self.reconnects = 0
        self._max_inflight = max_inflight
        self._drain_s = self._timeouts.drain_s(timeout_ms)
        self._binary = binary
        self._flow = Flow(
            retry_delays_s=self._timeouts.retry_delays_s, answer_timeout_s=self._timeouts.answer_s(timeout_ms)
        )
        urls = [url] if isinstance(url, str) else url
        if not urls:
            raise ValueError("DubClient needs the URL of a server")
        self._link = Link(StreamReady, urls, token, self._timeouts, self._on_event, self._on_lost)
        self._totals = Totals()
        self._changed = ChangeSignal()
        self._outbox: deque[ClientEvent] = deque()
        self._ending: StreamEnd | None = None
        self._complete: StreamComplete | None = None
        self._failure: DubError | None = None
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def status(self) -> str:
        """What a new fragment would have to wait for, in a few words; empty when for nothing."""
        return self._flow.blocked_by(time.monotonic())

    async def connect(self) -> StreamReady:
        """Connect and open the stream, in one try at each URL: whoever starts a worker wants to know at once.

        Raises:
            ConnectFailed: no connection, or no `stream:ready` in time.
            InitRefused: the server doesn't take this configuration.
        """
        ready = await self._link.open(self._next_init())
        self._opened(ready)
        self._task = asyncio.create_task(self._run(), name=f"dub-client {self.stream_id}")
        return ready

    async def send(self, fragment: Fragment) -> int:
        """Send a fragment as soon as window and backpressure allow; returns its sequence number.

        Raises:
            ValueError: the fragment breaks a limit of the protocol.
            StreamFailed: the stream is over, or no room was found in time.
        """
        audio = fragment.to_wire(binary=self._binary)
        while not await self._until(lambda: not self.status, self._timeouts.stall_s):
            if not self._flow.held:
                raise StreamFailed(
                    f"No fragment could be sent for {self._timeouts.stall_s:g} s; what it waits for: {self.status}"
                )
        if self._ending is not None:
            raise StreamFailed("The stream has been ended: open another one for more fragments")
        now_s = time.monotonic()
        data = FragmentData(
            fragment_id=fragment.fragment_id or uuid4().hex,
            stream_id=self.stream_id,
            sequence_number=self._flow.next_sequence_number,
            timestamp=_unix_ms(),
            audio=audio,
            metadata=None if fragment.pts_ns is None else FragmentMetadata(pts_ns=fragment.pts_ns),
        )
        self._flow.add(data, now_s)
        self._changed.beat()
        return data.sequence_number

    async def results(self) -> AsyncIterator[FragmentResult]:
        """One final result a fragment, in order. Ends after `end` or `close`, when all are handed out.

        Raises:
            DubError: the stream failed; results that were final before are handed out first.
        """
        while True:
            if (result := self._flow.take()) is not None:
                if result.processed is not None:
                    self._post(FragmentAck(fragment_id=result.fragment_id, status="applied", timestamp=_unix_ms()))
                self._changed.beat()
                yield result
            elif self._closed or (self._ending is not None and not self._flow.unfinished):
                return
            else:
                self._check()
                await self._wait(self._timeouts.stall_s)

    async def pause(self, reason: str | None = None) -> None:
        """Send nothing until `resume`; what is in flight gets its results."""
        self._flow.hold()
        self._post(StreamPause(stream_id=self.stream_id, reason=reason))

    async def resume(self) -> None:
        """Go on after `pause`."""
        self._post(StreamResume(stream_id=self.stream_id))
        self._flow.release()

    async def end(self, reason: str | None = None) -> StreamComplete:
        """Wait for all results, end the stream, return the server's summary.

        After a reconnect the server knows only the last part; the summary is then of all results that arrived here.

        Raises:
            StreamFailed: results or summary didn't come in time.
        """
        if not await self._until(lambda: not self._flow.unfinished, self._drain_s):
            raise StreamFailed(f"{self._flow.unfinished} fragments had no final result after {self._drain_s:g} s")
        self._ending = StreamEnd(stream_id=self.stream_id, reason=reason)
        self._post(self._ending)
        await self._until(lambda: self._complete is not None, self._timeouts.complete_s)
        if self._complete is None:
            raise StreamFailed(f"The server sent no stream:complete within {self._timeouts.complete_s:g} s")
        return self._complete if not self.reconnects else self._totals.complete(self.stream_id)

    async def close(self) -> None:
        """Disconnect; a server that doesn't know yet is told that the stream ends. A dead network is no error."""
        if self._closed:
            return
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._ending is None and self._failure is None:
            self._outbox.append(StreamEnd(stream_id=self.stream_id, reason="closed"))
        while self._outbox:
            await self._link.emit(self._outbox.popleft())
        await self._link.close()
        self._changed.beat()

    # --- the one task: the only sender -------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while self._failure is None:
                if self._link.lost is not None:
                    if self._complete is not None:
                        return
                    self._opened(await self._link.reopen(self._next_init))
                    self.reconnects += 1
                if self._flow.overstays(time.monotonic()):
                    self._link.drop("the server goes and did not close the connection")
                    continue
                unfinished = self._flow.unfinished
                for data in self._flow.sendable(time.monotonic()):
                    await self._link.emit(data)
                while self._outbox:
                    await self._link.emit(self._outbox.popleft())
                if self._flow.unfinished != unfinished:
                    self._changed.beat()
                if self._link.lost is None:
                    await self._wait(self._timeouts.stall_s)
        except DubError as failure:
            self._failure = self._failure or failure
        finally:
            self._changed.beat()

    def _next_init(self) -> StreamInit:
        return self._init.model_copy(
            update={"first_sequence_number": self._flow.lowest_unfinished, "max_inflight": self._max_inflight}
        )

    def _opened(self, ready: StreamReady) -> None:
        """What the last connection was told about the stream as a whole is told again."""
        self._outbox.clear()
        if self._flow.held:
            self._outbox.append(StreamPause(stream_id=self.stream_id))
        if self._ending is not None:
            self._outbox.append(self._ending)
        self._flow.connected(min(self._max_inflight, ready.max_inflight), time.monotonic())
        self._changed.beat()

    def _post(self, event: ClientEvent) -> None:
        self._outbox.append(event)
        self._changed.beat()

    async def _wait(self, limit_s: float) -> None:
        now_s = time.monotonic()
        await self._changed.wait(min(limit_s, self._flow.wake_at_s(now_s) - now_s))

    async def _until(self, condition: Callable[[], bool], limit_s: float) -> bool:
        deadline_s = time.monotonic() + limit_s
        while True:
            self._check()
            if condition():
                return True
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return False
            await self._wait(left_s)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed or self._task is None:
            raise StreamFailed("The stream is not open")
        if self._task.done() and not self._task.cancelled() and (bug := self._task.exception()) is not None:
            raise bug

    # --- what the server says ----------------------------------------------------------------------------------

    def _on_lost(self) -> None:
        self._flow.disconnected(time.monotonic())
        self._changed.beat()

    def _on_event(self, name: str, payload: object) -> None:
        match hear(self._flow, name, payload, time.monotonic()):
            case Received(processed):
                self._totals.add(processed)
                self._outbox.append(
                    FragmentAck(fragment_id=processed.fragment_id, status="received", timestamp=_unix_ms())
                )
            case Completed(summary):
                self._complete = summary
            case Reopen(reason, with_less) if self._complete is None:
                if with_less:
                    self._max_inflight = max(1, self._max_inflight // 2)
                self._link.drop(reason)
            case Broken(failure):
                self._failure = failure
        self._changed.beat()


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000
