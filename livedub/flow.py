"""When a fragment may be sent, when it is sent again and when its result is final. PURE: no socket, no clock.

A fragment has two numbers: its own, for the worker, and one for each connection that carries it. The latter run without
a gap, whatever was finished before, since a server would wait for a number that never comes.

The shell reports what happened (`add`, `result`, `refused`, `backpressure`, `connected`, …) with the time it happened,
sends what `sendable` hands out and gives the consumer what `take` hands out. Times are seconds of any monotonic clock.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeVar

from livedub.fragment import CONNECTION_LOST, NO_ANSWER, Failure, FragmentResult
from serve_app.protocol import FragmentData, FragmentProcessed

RETRY_DELAYS_S = (1.0, 2.0, 4.0, 8.0, 16.0)
MAX_POSTPONED = 30
"""How often a fragment may be put off by a server that says when it has room again; more is a failure like others."""
_Event = TypeVar("_Event", FragmentData, FragmentProcessed)


@dataclass(slots=True)
class _Entry:
    data: FragmentData
    due_s: float
    """When it may be sent (again); meaningless while sent."""
    sent_s: float = math.nan
    """First time it was sent."""
    answer_by_s: float | None = None
    """Set while it is in flight."""
    attempts: int = 0
    retries: int = 0
    postponed: int = 0
    """How often the server had no room for it."""
    awaits_room: bool = False
    """It is to be sent again once the server has room."""
    losses: int = 0
    """Connections that broke under it."""
    carried_as: int | None = None
    """Its number on this connection, once it was sent there."""
    done: FragmentResult | None = None


class Flow:
    """One stream's fragments, from the moment they are taken until their result is handed out in order.

    Args:
        retry_delays_s: waits before the second, third, … try; their number is the number of retries.
        answer_timeout_s: how long after a send the server may stay silent about the fragment.
        max_held: fragments and unread results kept at once; above, nothing new is taken.
        first_sequence_number: the first fragment's number.
    """

    def __init__(
        self,
        *,
        retry_delays_s: tuple[float, ...] = RETRY_DELAYS_S,
        answer_timeout_s: float = 13.0,
        max_held: int = 32,
        first_sequence_number: int = 0,
    ) -> None:
        self._retry_delays_s = retry_delays_s
        self._answer_timeout_s = answer_timeout_s
        self._max_held = max_held
        self._entries: dict[int, _Entry] = {}
        self._number_of: dict[str, int] = {}
        self._window = 0
        self._server_paused = False
        self._held = False
        self._slow_s = 0.0
        self._gate_s = self._room_s = -math.inf
        """When a slowed worker may send next, and when the server expects to have room."""
        self._next_carried = first_sequence_number
        self._leave_by_s: float | None = None
        self.next_sequence_number = first_sequence_number

    # --- questions ---------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Fragments sent and not answered."""
        return sum(entry.answer_by_s is not None for entry in self._entries.values())

    @property
    def unfinished(self) -> int:
        """Fragments without a final result."""
        return sum(entry.done is None for entry in self._entries.values())

    @property
    def held(self) -> bool:
        """Whether the worker itself paused the stream."""
        return self._held

    @property
    def lowest_unfinished(self) -> int:
        """The first number a new connection will carry."""
        return next((n for n, entry in self._entries.items() if entry.done is None), self.next_sequence_number)

    def overstays(self, now_s: float) -> bool:
        """Whether the server said that it goes, and still holds the connection when every answer is due."""
        return self._leave_by_s is not None and now_s >= self._leave_by_s

    def blocked_by(self, now_s: float) -> str:
        """Why no new fragment can be taken now; empty when one can."""
        if blocked := self._closed_by(now_s):
            return blocked
        if len(self._entries) >= self._max_held:
            return "unread results" if not self.unfinished else "retries"
        due = sum(e.done is None and e.answer_by_s is None and e.due_s <= now_s for e in self._entries.values())
        return "full window" if self.in_flight + due >= self._window else ""

    def wake_at_s(self, now_s: float) -> float:
        """The next time at which the answers may change without anything happening; inf: never."""
        times = [
            entry.due_s if entry.answer_by_s is None else entry.answer_by_s
            for entry in self._entries.values()
            if entry.done is None
        ]
        if self._leave_by_s is not None:
            times.append(self._leave_by_s)
        return min((time for time in (*times, self._gate_s, self._room_s) if time > now_s), default=math.inf)

    # --- what the worker does ----------------------------------------------------------------------------------

    def add(self, data: FragmentData, now_s: float) -> None:
        """Take a fragment; `data` carries `next_sequence_number`.

        Raises:
            ValueError: another number, or a fragment_id that is still here.
        """
        if data.sequence_number != self.next_sequence_number:
            raise ValueError(f"the next sequence number is {self.next_sequence_number}, not {data.sequence_number}")
        if data.fragment_id in self._number_of:
            raise ValueError(f"fragment_id {data.fragment_id!r} is already in this stream: ids are unique")
        self.next_sequence_number += 1
        self._entries[data.sequence_number] = _Entry(data, due_s=now_s)
        self._number_of[data.fragment_id] = data.sequence_number

    def sendable(self, now_s: float) -> list[FragmentData]:
        """What must be sent now, lowest number first. Fragments that wait too long for an answer fail first."""
        for entry in self._entries.values():
            if entry.answer_by_s is not None and entry.answer_by_s <= now_s:
                silent = f"the server said nothing about the fragment for {self._answer_timeout_s:g} s"
                self._fail(entry, Failure(NO_ANSWER, silent, retryable=True), None, now_s)
        out: list[FragmentData] = []
        for entry in self._entries.values():
            if entry.done is not None or entry.answer_by_s is not None or entry.due_s > now_s:
                continue
            if self._closed_by(now_s) or self.in_flight >= self._window:
                break
            if entry.attempts == 0:
                entry.sent_s = now_s
            entry.attempts += 1
            entry.awaits_room = False
            entry.answer_by_s = now_s + self._answer_timeout_s
            if self._slow_s:
                self._gate_s = now_s + self._slow_s
            if entry.carried_as is None:
                entry.carried_as = self._next_carried
                self._next_carried += 1
            out.append(_numbered(entry.data, entry.carried_as))
        return out

    def hold(self) -> None:
        """The worker pauses: nothing is sent until `release`."""
        self._held = True

    def release(self) -> None:
        """The worker goes on."""
        self._held = False

    def take(self) -> FragmentResult | None:
        """The next result in order of sequence numbers, if it is final."""
        number, entry = next(iter(self._entries.items()), (0, None))
        if entry is None or entry.done is None:
            return None
        del self._entries[number]
        del self._number_of[entry.data.fragment_id]
        return entry.done

    # --- what the server does ----------------------------------------------------------------------------------

    def connected(self, window: int, now_s: float) -> None:
        """A connection carries the stream from `lowest_unfinished` on: whatever is unfinished is due, in order."""
        self._window = window
        self._leave_by_s = None
        self._next_carried = self.lowest_unfinished
        self._server_paused = False
        self._slow_s = 0.0
        self._gate_s = self._room_s = -math.inf
        for entry in self._entries.values():
            entry.due_s = min(entry.due_s, now_s)
            entry.carried_as = None

    def disconnected(self, now_s: float) -> None:
        """The connection is gone, and with it every answer it owed."""
        self._window = 0
        self._leave_by_s = None
        for entry in self._entries.values():
            if entry.answer_by_s is None:
                continue
            entry.answer_by_s = None
            entry.due_s = now_s
            entry.losses += 1
            if entry.losses > len(self._retry_delays_s):
                lost = f"the connection broke {entry.losses} times while the fragment was in flight"
                self._finish(entry, Failure(CONNECTION_LOST, lost, retryable=True), None, now_s)

    def leaving(self, now_s: float) -> None:
        """The server goes: it finishes what is in flight, and the next connection carries the rest."""
        if self._leave_by_s is None:
            self._leave_by_s = now_s + self._answer_timeout_s

    def returned(self, fragment_id: str, now_s: float) -> None:
        """The server went before it could take the fragment: that is no failure of it."""
        entry = self._open_entry(fragment_id)
        if entry is not None and entry.answer_by_s is not None:
            entry.answer_by_s = None
            entry.due_s = now_s

    def backpressure(self, action: Literal["none", "slow_down", "pause"], delay_ms: int, now_s: float) -> None:
        """The server's wish. A pause is lifted by `none` only."""
        if action == "pause":
            self._server_paused = True
        elif action == "none":
            self._server_paused, self._room_s = False, -math.inf
            for entry in self._entries.values():
                if entry.awaits_room:
                    entry.due_s, entry.awaits_room = now_s, False
        self._slow_s = delay_ms / 1000 if action == "slow_down" else 0.0
        self._gate_s = now_s + self._slow_s if self._slow_s else -math.inf

    def result(self, processed: FragmentProcessed, now_s: float) -> None:
        """A result came. Unknown and finished fragments are ignored: it is the answer to a resend."""
        entry = self._open_entry(processed.fragment_id)
        if entry is None:
            return
        if processed.status != "failed":
            self._finish(entry, None, processed, now_s)
            return
        error = processed.error
        failure = (
            Failure("INTERNAL", "the server gave no reason", retryable=False)
            if error is None
            else Failure(error.code, error.message, error.retryable, error.stage)
        )
        self._fail(entry, failure, processed, now_s)

    def refused(self, fragment_id: str, failure: Failure, now_s: float) -> None:
        """The server didn't accept the fragment. One that says when it has room gets nothing new until then either."""
        entry = self._open_entry(fragment_id)
        if entry is None:
            return
        if failure.retry_after_ms is None or entry.answer_by_s is None or entry.postponed == MAX_POSTPONED:
            self._fail(entry, failure, None, now_s)
            return
        entry.postponed += 1
        entry.answer_by_s, entry.awaits_room = None, True
        entry.due_s = now_s + failure.retry_after_ms / 1000
        self._room_s = max(self._room_s, entry.due_s)

    # -----------------------------------------------------------------------------------------------------------

    def _closed_by(self, now_s: float) -> str:
        if self._window == 0:
            return "no connection"
        if self._leave_by_s is not None:
            return "another server"
        if self._held:
            return "the worker's own pause"
        if self._server_paused:
            return "the server's pause"
        return "the server's slow down" if now_s < max(self._gate_s, self._room_s) else ""

    def _open_entry(self, fragment_id: str) -> _Entry | None:
        number = self._number_of.get(fragment_id)
        entry = None if number is None else self._entries[number]
        return entry if entry is not None and entry.done is None else None

    def _fail(self, entry: _Entry, failure: Failure, processed: FragmentProcessed | None, now_s: float) -> None:
        if not failure.retryable or entry.retries == len(self._retry_delays_s):
            self._finish(entry, failure, processed, now_s)
        elif entry.answer_by_s is not None:
            entry.answer_by_s = None
            entry.due_s = now_s + self._retry_delays_s[entry.retries]
            entry.retries += 1

    def _finish(
        self, entry: _Entry, failure: Failure | None, processed: FragmentProcessed | None, now_s: float
    ) -> None:
        entry.answer_by_s = None
        if processed is not None:
            processed = _numbered(processed, entry.data.sequence_number)
        entry.done = FragmentResult(
            fragment_id=entry.data.fragment_id,
            sequence_number=entry.data.sequence_number,
            status="failed" if failure is not None or processed is None else processed.status,
            processed=processed,
            failure=failure,
            attempts=entry.attempts,
            latency_ms=round((now_s - entry.sent_s) * 1000),
        )


def _numbered(event: _Event, sequence_number: int) -> _Event:
    if event.sequence_number == sequence_number:
        return event
    return event.model_copy(update={"sequence_number": sequence_number})
