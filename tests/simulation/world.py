"""Virtual time, and a shell around sessions that performs effects as `transport` does, without a network."""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from deployments.contracts.values import Outcome
from deployments.errors import Stage
from serve_app.protocol import Capabilities, ErrorCode, ServerEvent
from serve_app.scheduling.admission import Admission
from serve_app.stream.session import Session
from serve_app.stream.values import Cancel, Close, Effect, Emit, Fragment, StreamLimits, StreamSettings, Submit
from tests.oracle.history import Record, record
from tests.unit.serve_app.stream.recorder import Unforeseen

SHORTEST_TICK_S = 0.01
"""A real loop needs some time too, so a session that wants to be ticked all the time doesn't stop the clock."""


class Clock:
    """What happens when, in order; whatever is set for the same time happens in the order of setting."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, time_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (max(time_s, self.now), next(self._order), act))

    def run(self, until_s: float) -> None:
        while self._due and self._due[0][0] <= until_s:
            self.now, _, act = heapq.heappop(self._due)
            act()


@dataclass
class Connection:
    """One worker's connection."""

    name: str
    session: Session | None = None
    open: bool = True
    ticks: int = 0
    """The tick with this number is the one that counts."""
    ticked_s: float = -1.0
    running: set[int] = field(default_factory=set)
    hear: Callable[[ServerEvent], None] = lambda event: None


class World:
    """All connections of one server.

    Args:
        limits: of the server.
        work: starts the pipeline of a fragment; calls `stage` and `finish` when it likes, cancelled or not.
        admission: shared by all sessions; None: nothing is refused for want of time.
    """

    def __init__(
        self,
        limits: StreamLimits,
        work: Callable[["World", Connection, Session, Submit], None],
        admission: Admission | None = None,
    ) -> None:
        self.clock = Clock()
        self.limits = limits
        self.admission = admission
        self.history: list[Record] = []
        self.streams: dict[str, Connection] = {}
        self._work = work

    def note(self, connection: Connection, direction: str, event: str, payload: dict[str, Any]) -> None:
        self.history.append(record(round(self.clock.now, 9), connection.name, direction, event, payload))

    # --- what workers do ----------------------------------------------------------------------------------------

    def init(self, connection: Connection, settings: StreamSettings) -> None:
        fields = {name: getattr(settings, name) for name in ("stream_id", "timeout_ms", "first_sequence_number")}
        self.note(connection, "sent", "stream:init", fields)
        other = self.streams.get(settings.stream_id)
        if other is not None and other is not connection and other.session is not None:
            self._perform(other, other.session, other.session.replace(self.clock.now))
            self._forget(other)
        if connection.session is not None:
            self._perform(connection, connection.session, connection.session.disconnect(self.clock.now))
        connection.session = Session(settings, self.limits, self.admission or Unforeseen())
        self.streams[settings.stream_id] = connection
        self._perform(connection, connection.session, connection.session.open(Capabilities()))

    def send(self, connection: Connection, fragment: Fragment, refused: ErrorCode | None = None) -> None:
        """`fragment:data`; `refused` when the shell turns it down before the session sees it."""
        session = connection.session
        if not connection.open or session is None:
            return
        payload = {
            "fragment_id": fragment.fragment_id,
            "sequence_number": fragment.sequence_number,
            "audio": {"data": fragment.audio.data},
        }
        self.note(connection, "sent", "fragment:data", payload)
        now = self.clock.now
        if refused is None:
            effects = session.accept(fragment, now)
        else:
            number = fragment.sequence_number
            effects = session.refuse(refused, "no", now, fragment_id=fragment.fragment_id, sequence_number=number)
        self._perform(connection, session, effects)

    def signal(self, connection: Connection, event: str) -> None:
        """`stream:pause`, `stream:resume` or `stream:end`."""
        session = connection.session
        if not connection.open or session is None:
            return
        self.note(connection, "sent", event, {"stream_id": session.settings.stream_id})
        calls = {"stream:pause": session.pause, "stream:resume": session.resume}
        self._perform(connection, session, calls[event]() if event in calls else session.end(self.clock.now))

    def disconnect(self, connection: Connection) -> None:
        """The connection ends, by whichever side."""
        if not connection.open:
            return
        self.note(connection, "sent", "disconnect", {})
        connection.open = False
        if connection.session is not None:
            self._forget(connection)
            self._perform(connection, connection.session, connection.session.disconnect(self.clock.now))

    def drain(self) -> None:
        for connection in list(self.streams.values()):
            if connection.session is not None:
                self._perform(connection, connection.session, connection.session.drain(self.clock.now))

    # --- what pipelines do --------------------------------------------------------------------------------------

    def stage(self, session: Session, ticket: int, stage: Stage, so_far: Outcome) -> bool:
        return session.running(ticket, stage, so_far, self.clock.now)

    def finish(self, connection: Connection, session: Session, ticket: int, outcome: Outcome) -> None:
        if ticket in connection.running and session is connection.session:
            connection.running.discard(ticket)
            self.note(connection, "work", "finished", {"ticket": ticket})
        now = self.clock.now
        self._perform(connection, session, [*session.tick(now), *session.complete(ticket, outcome, now)])

    # --- effects ------------------------------------------------------------------------------------------------

    def _perform(self, connection: Connection, session: Session, effects: list[Effect]) -> None:
        heard: list[ServerEvent] = []
        for effect in effects:
            match effect:
                case Emit(event):
                    if connection.open:
                        self.note(connection, "received", event.EVENT, event.to_wire(binary=True))
                        heard.append(event)
                case Submit(ticket, fragment):
                    self.note(connection, "work", "started", {"ticket": ticket, "fragment_id": fragment.fragment_id})
                    connection.running.add(ticket)
                    self._work(self, connection, session, effect)
                case Cancel(ticket):
                    self.note(connection, "work", "cancelled", {"ticket": ticket})
                    connection.running.discard(ticket)
                case Close(delay_ms):
                    self._forget(connection)
                    self.clock.at(self.clock.now + delay_ms / 1000, lambda: self.disconnect(connection))
        if effects:
            sizes = {
                "in_flight": session.in_flight,
                "kept_bytes": session.kept_bytes,
                "remembered": len(session._history),
                "skipped": len(session._order._skipped),
            }
            self.note(connection, "state", "sizes", sizes)
        for event in heard:
            connection.hear(event)
        self._tick_later(connection, session)

    def _tick_later(self, connection: Connection, session: Session) -> None:
        connection.ticks += 1
        mine, due = connection.ticks, session.next_tick()
        if due is None:
            return

        def tick() -> None:
            if connection.ticks == mine:
                connection.ticked_s = self.clock.now
                self._perform(connection, session, session.tick(self.clock.now))

        at_once_again = due <= self.clock.now and connection.ticked_s == self.clock.now
        self.clock.at(self.clock.now + SHORTEST_TICK_S if at_once_again else due, tick)

    def _forget(self, connection: Connection) -> None:
        session = connection.session
        if session is not None and self.streams.get(session.settings.stream_id) is connection:
            del self.streams[session.settings.stream_id]
