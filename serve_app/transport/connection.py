"""One worker's connection: its outbox, its running pipelines and its timers.

Everything for the worker goes through one outbox and one writer, so that events leave in the order in which the session
decided them, whoever brought the news.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from deployments.logs import get_logger
from serve_app.access import ANYONE, Principal
from serve_app.protocol import ServerEvent
from serve_app.stream.session import Session
from serve_app.stream.values import SERVICE_RESTART, Close
from serve_app.transport.engine_io import EngineCloser
from serve_app.transport.websocket import LIMIT_REACHED

log = get_logger(__name__)
Send = Callable[[ServerEvent, bool], Awaitable[None]]
EVENT_BYTES = 1024
"""What an event is counted as while it waits, its audio aside."""


def _nothing() -> None:
    """A tick that is never called."""


class Guest(Protocol):
    """What a connection carries in place of a stream."""

    stream_id: str

    def send_away(self, reason: str) -> None:
        """Finish, and end the connection so that its client connects again."""

    def leave(self) -> None:
        """The connection is gone."""


class Connection:
    """State of one Socket.IO connection.

    Args:
        sid: Socket.IO's id.
        stream_id: from the header X-Stream-ID; the default of a `stream:init` that names none.
        worker_id: from the header X-Worker-ID, likewise.
        closer: ends the WebSocket under it.
        send: sends one event; the flag says whether audio goes as binary.
        flush: sends a mark behind all that was sent, at which a planned close takes effect.
        dismiss: ends the connection the Socket.IO way, after which a client stays away.
        retire: the connection has lasted as long as it may; its client is to be sent elsewhere.
        principal: who was let in; None: anybody.
    """

    def __init__(
        self,
        sid: str,
        stream_id: str | None,
        worker_id: str | None,
        *,
        closer: EngineCloser,
        send: Send,
        flush: Callable[[], Awaitable[None]],
        dismiss: Callable[[], Awaitable[None]],
        retire: Callable[[], None] = _nothing,
        principal: Principal | None = None,
    ) -> None:
        self.sid = sid
        self.stream_id = stream_id
        self.worker_id = worker_id
        self.principal = principal or Principal(ANYONE, "")
        self.session: Session | None = None
        self.guest: Guest | None = None
        self.epoch: int | None = None
        """The number of the session's opening; None until the other ingress replicas were asked."""
        self.binary = False
        """Whether the last fragment came as binary."""
        self._closer = closer
        self._send = send
        self._flush = flush
        self._dismiss = dismiss
        self._ending: set[asyncio.Future[None]] = set()
        self._outbox: asyncio.Queue[tuple[ServerEvent | Close, int]] = asyncio.Queue()
        self._writer: asyncio.Task[None] | None = asyncio.create_task(self._write(), name=f"writer {sid}")
        self._pipelines: dict[int, asyncio.Task[None]] = {}
        self._tick: asyncio.TimerHandle | None = None
        self._planned: Close | None = None
        """The end that counts: the last one posted, unless a new stream was opened after it."""
        self._end: asyncio.TimerHandle | None = None
        loop = asyncio.get_running_loop()
        self._worked_at = loop.time()
        self._idle = loop.call_later(closer.limits.idle_timeout_s, self._look_for_life)
        lasting_s = closer.limits.max_session_s
        self._retirement = loop.call_later(lasting_s, retire) if lasting_s else None

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self._writer is None

    def post(self, item: ServerEvent | Close) -> None:
        """Queue an event, or the end of the connection, behind all that was queued before."""
        if isinstance(item, Close):
            self.stay()
            self._planned = item
        if self._closer.asked:
            return
        weight_bytes = _weight_bytes(item)
        self._closer.delivery.waiting_bytes += weight_bytes
        self._outbox.put_nowait((item, weight_bytes))
        self._closer.weigh()
        if self.session is not None:
            self.session.make_room(self._closer.delivery.room_bytes)

    def start(self, ticket: int, pipeline: Coroutine[Any, Any, None]) -> None:
        """Run a fragment's pipeline until it is done, cancelled or the connection is gone."""
        task = asyncio.create_task(pipeline, name=f"fragment {self.sid} {ticket}")
        self._pipelines[ticket] = task

        def done(finished: asyncio.Task[None]) -> None:
            self._worked_at = finished.get_loop().time()
            if self._pipelines.get(ticket) is finished:
                del self._pipelines[ticket]
            if not finished.cancelled() and finished.exception() is not None:
                log.error("fragment_failed", sid=self.sid, exc_info=finished.exception())

        task.add_done_callback(done)

    def cancel(self, ticket: int) -> None:
        """Stop a fragment's pipeline."""
        task = self._pipelines.pop(ticket, None)
        if task is not None:
            task.cancel()

    def tick_at(self, when: float | None, tick: Callable[[], None]) -> None:
        """Call `tick` at this time of the event loop's clock instead of the time set before."""
        if self._tick is not None:
            self._tick.cancel()
        loop = asyncio.get_running_loop()
        self._tick = None if when is None else loop.call_at(when, tick)

    def stay(self) -> None:
        """A new stream was opened here: forget the end that was planned after the last one."""
        self._planned = None
        if self._end is not None:
            self._end.cancel()
            self._end = None

    async def abandon(self) -> None:
        """The connection is gone: stop everything that works for it, and let go of all that it holds.

        Python's collector may come to a cycle of large results only after hours, so none may be left behind.
        """
        self.stay()
        self.tick_at(None, _nothing)
        self._idle.cancel()
        if self._retirement is not None:
            self._retirement.cancel()
        for ticket in list(self._pipelines):
            self.cancel(ticket)
        self.session = None
        guest, self.guest = self.guest, None
        if guest is not None:
            guest.leave()
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.cancel()
            if asyncio.current_task() is not writer:  # Engine.IO finds out that a client is gone when it sends
                await asyncio.wait([writer])
        self._outbox = asyncio.Queue()

    async def _write(self) -> None:
        while True:
            item, weight_bytes = await self._outbox.get()
            if not isinstance(item, Close):
                await self._deliver(item)
            elif item is self._planned:
                loop = asyncio.get_running_loop()
                self._end = loop.call_later(item.delay_ms / 1000, self._close, item)
            self._closer.delivery.waiting_bytes -= weight_bytes

    async def _deliver(self, event: ServerEvent) -> None:
        """Encode one event and wait until the socket has taken it: Engine.IO's own queue has no bound."""
        marks = self._closer.marks + 1
        try:
            await self._send(event, self.binary)
        except Exception:
            log.exception("event_not_sent", sid=self.sid, event_name=event.EVENT)
            return
        await self._flush()
        await self._closer.passed(marks)

    def _look_for_life(self) -> None:
        """Close if nothing has come and nothing was done for too long, else look again when that may be so."""
        loop = asyncio.get_running_loop()
        limits = self._closer.limits
        free = self.session is None and self.guest is None
        limit_s = limits.idle_timeout_s if free else limits.stream_idle_timeout_s
        if self._pipelines or (self.session is not None and self.session.in_flight):
            self._worked_at = loop.time()
        due = max(self._closer.heard_at, self._worked_at) + limit_s
        if due <= loop.time():
            log.info("connection_idle", sid=self.sid, limit_s=limit_s)
            self._closer.close(LIMIT_REACHED, f"idle for {limit_s:g} s")
        else:
            self._idle = loop.call_at(min(due, loop.time() + limits.idle_timeout_s), self._look_for_life)

    def _close(self, close: Close) -> None:
        if close.code == SERVICE_RESTART:
            self._closer.close_at_mark(close.code, close.reason)
            ending = asyncio.ensure_future(self._flush())
        else:
            ending = asyncio.ensure_future(self._dismiss())
        self._ending.add(ending)  # the event loop alone would not keep it
        ending.add_done_callback(self._ending.discard)


def _weight_bytes(item: ServerEvent | Close) -> int:
    """About what an item takes; its audio is shared with nobody once a kept result has been dropped."""
    return EVENT_BYTES + (0 if isinstance(item, Close) else item.bulk_bytes)
