"""The fragments in flight: their tickets, their slots in the order and their deadlines. PURE.

Protocol: Timeout; Order.
"""

from dataclasses import dataclass, field

from deployments.contracts.values import Outcome
from deployments.errors import Stage
from serve_app.scheduling.admission import Passage
from serve_app.stream.ordering import ReorderBuffer
from serve_app.stream.values import Fragment


@dataclass(slots=True)
class Attempt:
    """A fragment between acceptance and result."""

    ticket: int
    fragment: Fragment
    accepted_at: float
    deadline: float
    passage: Passage
    """Its way through the models, as the forecast knows it."""
    ordered: bool
    """Whether it has a slot; a late retry has none and leaves as soon as it is ready."""
    start_ms: int | None = None
    """Its place on the timeline where a failed attempt has settled it."""
    stage: Stage = Stage.ASR
    so_far: Outcome = field(default_factory=Outcome)
    """What the stages before this one have done."""
    settled: bool = False
    """Whether it has its outcome and only waits for its turn."""


class Attempts:
    """All attempts of one stream.

    Args:
        first: the sequence number that the stream starts with.
    """

    def __init__(self, first: int) -> None:
        self.order: ReorderBuffer[Attempt, Outcome] = ReorderBuffer(first)
        self._by_ticket: dict[int, Attempt] = {}
        self._tickets = 0
        self._first_accepted_at: float | None = None
        self.started = False
        """Whether a fragment in order has left."""

    def __len__(self) -> int:
        return len(self._by_ticket)

    def running(self) -> list[Attempt]:
        """Attempts without an outcome, lowest sequence number first."""
        unfinished = [attempt for attempt in self._by_ticket.values() if not attempt.settled]
        return sorted(unfinished, key=lambda attempt: attempt.fragment.sequence_number)

    def get(self, ticket: int) -> Attempt | None:
        """The attempt, unless it has left or has its outcome already."""
        attempt = self._by_ticket.get(ticket)
        return attempt if attempt is not None and not attempt.settled else None

    def find(self, fragment_id: str) -> Attempt | None:
        """The attempt on this fragment."""
        return next((a for a in self._by_ticket.values() if a.fragment.fragment_id == fragment_id), None)

    def take(
        self, fragment: Fragment, now: float, timeout_s: float, passage: Passage, *, ordered: bool, start_ms: int | None
    ) -> Attempt:
        """Start an attempt; an ordered one reserves its number, any other must not hold up later ones."""
        self._tickets += 1
        attempt = Attempt(self._tickets, fragment, now, now + timeout_s, passage, ordered=ordered, start_ms=start_ms)
        self._by_ticket[attempt.ticket] = attempt
        if ordered:
            self.order.reserve(fragment.sequence_number, attempt)
        else:
            self.order.skip(fragment.sequence_number)
        if self._first_accepted_at is None:
            self._first_accepted_at = now
        return attempt

    def drop(self, attempt: Attempt) -> None:
        """The attempt has left."""
        del self._by_ticket[attempt.ticket]

    def drop_all(self) -> int:
        """Forget everything; returns how many attempts there were."""
        count = len(self._by_ticket)
        self._by_ticket.clear()
        self.order.clear()
        return count

    def late(self, now: float, slack_s: float) -> list[Attempt]:
        """Running attempts that are out of time."""
        return [attempt for attempt in self.running() if self._expiry(attempt, slack_s) <= now]

    def overdue(self, now: float, slack_s: float, start_wait_s: float) -> int | None:
        """The highest finished number that can't wait any longer for numbers below it that never came."""
        due = [
            number
            for number, attempt, done in self.order.slots()
            if done and self._release_by(number, attempt, slack_s, start_wait_s) <= now
        ]
        return max(due, default=None)

    def next_tick(self, slack_s: float, start_wait_s: float) -> float | None:
        """When `late` or `overdue` has something next; None: not before another event."""
        times = [self._expiry(attempt, slack_s) for attempt in self.running()]
        times += [
            self._release_by(number, attempt, slack_s, start_wait_s)
            for number, attempt, done in self.order.slots()
            if done and self.order.missing_below(number)
        ]
        return min(times, default=None)

    def _expiry(self, attempt: Attempt, slack_s: float) -> float:
        """When a running fragment is out of time: at its deadline, or when a later number can't wait any longer."""
        expiry = attempt.deadline
        if attempt.ordered:
            for number, other, done in self.order.slots():
                if number > attempt.fragment.sequence_number and other.deadline < attempt.deadline:
                    expiry = min(expiry, other.deadline - slack_s if done else other.deadline)
        return expiry

    def _release_by(self, number: int, attempt: Attempt, slack_s: float, start_wait_s: float) -> float:
        """When a finished fragment stops waiting for numbers that never came."""
        by = attempt.deadline - slack_s
        if not self.started and self._first_accepted_at is not None and number == self.order.slots()[0][0]:
            by = min(by, self._first_accepted_at + start_wait_s)
        return by
