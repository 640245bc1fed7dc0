"""The streams of one ingress replica: which connection carries each, and what their sessions' effects come to.

Knows no event of the wire; `serve_app.transport.server` decides nothing and this module no more than it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from deployments.contracts.values import Outcome
from deployments.errors import InternalFault
from deployments.logs import get_logger
from serve_app.access import Principal, Reason
from serve_app.protocol import ErrorCode, WireError, error_event
from serve_app.scheduling.admission import Admission
from serve_app.scheduling.epochs import Epochs
from serve_app.stream.attempt_context import AttemptContext
from serve_app.stream.session import Session
from serve_app.stream.values import NORMAL_CLOSURE, Cancel, Close, Effect, Emit, StreamSettings, Submit
from serve_app.transport.connection import Connection

log = get_logger(__name__)
HERE = "ingress"
"""The `stage` of log lines that no model stage writes."""


class Observer(Protocol):
    """Counts what happens."""

    def observe(self, effect: Effect) -> None:
        """An effect was performed."""

    def load(self, streams: int, in_flight: int, limit: float) -> None:
        """Streams open, fragments in flight and the limit of these on this ingress replica."""

    def refused(self, reason: Reason) -> None:
        """A connection was turned down."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What other ingress replicas are told of a stream that opened here."""

    stream_id: str
    session_id: str
    epoch: int
    """The newest has the largest; of equals, which opened at the same time, the larger `session_id` counts."""
    subject: str
    """Digest of who opened it."""


Dub = Callable[[StreamSettings, Submit, AttemptContext], Awaitable[Outcome]]
"""Takes a fragment through the models."""


class Streams:
    """The registry of open streams, and the hands of their sessions.

    Args:
        dub: the pipeline.
        observer: metrics.
        clock: seconds, monotonic; None: that of the event loop.
    """

    def __init__(self, dub: Dub, observer: Observer, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or now_s
        self._dub = dub
        self._observer = observer
        self._carriers: dict[str, Connection] = {}
        self._epochs = Epochs()
        self._counted: dict[str, int] = {}
        """Fragments in flight by open stream, as they stand in the total."""
        self._in_flight = 0
        self.admission = Admission()

    def __len__(self) -> int:
        return len(self._carriers)

    def __iter__(self) -> Iterator[Session]:
        return iter([c.session for c in self._carriers.values() if c.session is not None])

    def carrier(self, stream_id: str) -> Connection | None:
        """The connection that carries this stream; None when it isn't open here."""
        return self._carriers.get(stream_id)

    def principals(self) -> list[Principal]:
        """The principal of each open stream."""
        return [carrier.principal for carrier in self._carriers.values()]

    def beside(self, connection: Connection, stream_id: str) -> list[Principal]:
        """The principal of each stream that stays open when the connection opens this one."""
        others = (other for name, other in self._carriers.items() if name != stream_id)
        return [other.principal for other in others if other is not connection]

    def check_takeover(self, connection: Connection, stream_id: str) -> None:
        """Whether the connection may end a stream of this name that is open on another one.

        Raises:
            WireError: AUTH_FAILED when another subject opened it.
        """
        other = self._carriers.get(stream_id)
        if other is not None and other.principal.subject.digest != connection.principal.subject.digest:
            raise WireError(ErrorCode.AUTH_FAILED, _taken(stream_id))

    def live(self, connection: Connection) -> bool:
        """Whether the connection's stream is open."""
        session = connection.session
        return session is not None and self._carriers.get(session.settings.stream_id) is connection

    def register(self, connection: Connection, session: Session) -> None:
        """The connection carries a new stream from now on; one of its name that is live elsewhere ends there."""
        stream_id = session.settings.stream_id
        if connection.session is not None:
            self.perform(connection, connection.session.disconnect(self._clock()))
        other = self._carriers.get(stream_id)
        if other is not None and other is not connection:
            self._replace(other, stream_id)
        self.forget(connection)
        connection.session, connection.epoch = session, None
        self._carriers[stream_id] = connection

    def epoch(self, stream_id: str) -> int:
        """The largest number that an opening of this stream is known to have; 0: none."""
        carrier = self._carriers.get(stream_id)
        own = carrier.epoch if carrier is not None else None
        return max(own or 0, self._epochs.largest(stream_id))

    def settle(self, stream_id: str, session_id: str, others: Iterable[int]) -> Opening | None:
        """A stream that opened here takes its number, once the others have told the largest that they know.

        Returns:
            What they are to be told; None when it has ended meanwhile.
        """
        connection = self._carriers.get(stream_id)
        session = connection.session if connection is not None else None
        if connection is None or session is None or session.settings.session_id != session_id:
            return None
        connection.epoch = 1 + max(self.epoch(stream_id), *others, 0)
        self._epochs.note(stream_id, connection.epoch)
        return Opening(stream_id, session_id, connection.epoch, connection.principal.subject.digest)

    def let_go(self, opening: Opening) -> bool:
        """A stream has opened on some ingress replica: an older one of its name here was left by its worker.

        One that has no number yet stays: it will take a larger one, and its own news decide.

        Returns:
            False when the older one is another subject's, and stays.
        """
        self._epochs.note(opening.stream_id, opening.epoch)
        other = self._carriers.get(opening.stream_id)
        if other is None or other.session is None or other.epoch is None:
            return True
        if (other.epoch, other.session.settings.session_id) < (opening.epoch, opening.session_id):
            if other.principal.subject.digest != opening.subject:
                return False
            self._replace(other, opening.stream_id)
        return True

    def expel(self, opening: Opening) -> None:
        """Another ingress replica keeps an older stream of this name, which another subject opened."""
        connection = self._carriers.get(opening.stream_id)
        session = connection.session if connection is not None else None
        if connection is None or session is None or session.settings.session_id != opening.session_id:
            return
        log.warning("stream_expelled", stream_id=opening.stream_id, sid=connection.sid)
        message = _taken(opening.stream_id)
        told = error_event(ErrorCode.AUTH_FAILED, message, severity="fatal", stream_id=opening.stream_id)
        self.perform(connection, [*session.disconnect(self._clock()), Emit(told), Close(0, NORMAL_CLOSURE, message)])

    def forget(self, connection: Connection) -> None:
        """The connection's stream is over."""
        session = connection.session
        if session is not None and self.live(connection):
            stream_id = session.settings.stream_id
            del self._carriers[stream_id]
            self._in_flight -= self._counted.pop(stream_id, 0)

    def perform(self, connection: Connection, effects: list[Effect]) -> None:
        """Do what the connection's session has decided, in its order."""
        for effect in effects:
            match effect:
                case Emit(event):
                    connection.post(event)
                    fields = event.log_fields()
                    if fields is not None:
                        log.info("fragment_processed", stage=HERE, **fields)
                case Submit(ticket):
                    if connection.session is not None and self.live(connection):
                        connection.start(ticket, self._run(connection, connection.session, effect))
                case Cancel(ticket):
                    connection.cancel(ticket)
                case Close():
                    connection.post(effect)
                    self.forget(connection)
            self._observer.observe(effect)
        session = connection.session
        if session is not None:
            connection.tick_at(session.next_tick(), lambda: self.perform(connection, session.tick(self._clock())))
            if self.live(connection):
                self._count(session)
        self._observer.load(len(self._carriers), self._in_flight, self.admission.limit)

    def _count(self, session: Session) -> None:
        stream_id, count = session.settings.stream_id, session.in_flight
        self._in_flight += count - self._counted.get(stream_id, 0)
        self._counted[stream_id] = count

    def _replace(self, other: Connection, stream_id: str) -> None:
        if other.session is not None:
            log.warning("stream_replaced", stream_id=stream_id, sid=other.sid)
            self.perform(other, other.session.replace(self._clock()))
            self.forget(other)

    async def _run(self, connection: Connection, session: Session, submit: Submit) -> None:
        context = AttemptContext(session, submit.ticket, self._clock)
        try:
            outcome = await self._dub(session.settings, submit, context)
        except Exception:
            log.exception("pipeline_failed", stream_id=session.settings.stream_id, stage=context.stage)
            outcome = Outcome(failure=InternalFault(context.stage, "the server hit a bug on this fragment"))
        now = self._clock()
        self.perform(connection, [*session.tick(now), *session.complete(submit.ticket, outcome, now)])


def now_s() -> float:
    """The event loop's clock: monotonic, in seconds."""
    return asyncio.get_running_loop().time()


def _taken(stream_id: str) -> str:
    return f"stream {stream_id!r} is open, and was opened with another key or token"
