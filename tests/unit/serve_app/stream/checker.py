"""What protocol.md promises, checked over the recorded calls of a session.

It keeps its own picture of the stream in plain lists and dicts, written from the rules and not from the core. A step
that no rule allows raises AssertionError.
"""

from dataclasses import dataclass
from typing import Any

from deployments.contracts.values import Outcome
from deployments.errors import DeadlineExceeded, GpuOutOfMemory, Stage, StageError
from serve_app.protocol import (
    ERROR_TABLE,
    Backpressure,
    ErrorCode,
    ErrorEvent,
    FragmentProcessed,
    FragmentQueued,
    StreamComplete,
)
from serve_app.stream.values import Cancel, Close, Emit, Fragment, StreamLimits, StreamSettings, Submit
from tests.unit.serve_app.stream.recorder import Step

RETRYABLE_AT_THE_DOOR = {"STREAM_PAUSED", "BACKPRESSURE_EXCEEDED", "RATE_LIMITED", "SERVER_DRAINING", "INTERNAL"}
UP = ["low", "medium", "high"]
ACTION = {"low": "none", "medium": "slow_down", "high": "pause"}


@dataclass
class Flight:
    """An accepted fragment that has no result yet."""

    fragment: Fragment
    accepted_at: float
    deadline: float
    in_order: bool
    outcome: Outcome | None = None


class Checker:
    """Judges step after step; `finish` judges the whole."""

    def __init__(self, settings: StreamSettings, limits: StreamLimits) -> None:
        self.settings, self.limits = settings, limits
        self.slack_s = limits.release_slack_ms / 1000
        self.state = "active"
        self.flights: dict[int, Flight] = {}
        self.kept: list[tuple[str, bytes, FragmentProcessed]] = []
        self.undone: dict[str, bytes | None] = {}
        self.next = settings.first_sequence_number
        self.settled_numbers: set[int] = set()  # rejected, taken by a resend or given up: not waited for
        self.anything_left = False
        self.first_accepted_at: float | None = None
        self.level, self.told = "low", False
        self.statuses: list[str] = []

    # --- one step -----------------------------------------------------------------------------------------------

    def __call__(self, step: Step) -> None:
        self.step = step
        self.expected_pressure: list[tuple[str, int]] = []
        self.cancelled: set[int] = {effect.ticket for effect in step.only(Cancel)}
        self.unfinished_before = {ticket for ticket, flight in self.flights.items() if flight.outcome is None}
        self.resent: FragmentProcessed | None = None
        self.before(step)
        for effect in step.effects:
            self.judge(effect)
        assert self.resent is None, "a kept result was not sent again"
        told = [(event.severity, event.current_inflight) for event in step.pressure]
        assert told == self.expected_pressure, f"backpressure {told}, expected {self.expected_pressure}"
        self.after(step)

    def before(self, step: Step) -> None:
        if step.call == "accept":
            self.arrived(step.given)
        elif step.call == "refuse":
            code, fragment_id, number = step.given
            assert step.codes[:1] == [code]
            self.turned_down(code, fragment_id, number)
        elif step.call == "complete":
            ticket, outcome = step.given
            flight = self.flights.get(ticket)
            if flight is None or flight.outcome is not None:
                assert step.effects == (), "a late completion had an effect"
                return
            flight.outcome = outcome
            if isinstance(outcome.failure, GpuOutOfMemory):
                self.out_of_memory()
        elif step.call == "tick":
            self.expire()
        elif step.call in {"disconnect", "replace"}:
            assert self.cancelled == self.unfinished_before
            assert not step.results
            self.flights.clear()
            self.state = "closed"
            assert step.codes == (["SESSION_REPLACED"] if step.call == "replace" else [])
        else:
            self.moved(step)

    def arrived(self, fragment: Fragment) -> None:
        name, number = fragment.fragment_id, fragment.sequence_number
        running = next((f.fragment.digest for f in self.flights.values() if f.fragment.fragment_id == name), None)
        kept = next((entry for entry in self.kept if entry[0] == name), None)
        known = running or (kept[1] if kept else self.undone.get(name))
        taken = any(f.in_order and f.fragment.sequence_number == number for f in self.flights.values())
        refusal = {"paused": "STREAM_PAUSED", "ending": "STREAM_NOT_FOUND", "draining": "SERVER_DRAINING"}
        if self.state == "closed":
            self.expect_refusal("STREAM_NOT_FOUND", fragment)
        elif known is not None and known != fragment.digest:
            self.expect_refusal("INVALID_FRAGMENT", fragment)
        elif running is not None:
            self.expect_ack(submitted=False)
            self.settled_numbers.add(number)
        elif kept is not None:
            self.expect_ack(submitted=False)
            self.settled_numbers.add(number)
            self.resent = kept[2].model_copy(update={"sequence_number": number})
        elif taken or (number < self.next and name not in self.undone):
            self.expect_refusal("INVALID_SEQUENCE", fragment)
        elif self.state in refusal:
            self.expect_refusal(refusal[self.state], fragment)
        elif len(self.flights) >= self.limits.critical_inflight:
            self.expect_refusal("BACKPRESSURE_EXCEEDED", fragment)
        else:
            self.expect_ack(submitted=True)
            self.took(fragment)

    def took(self, fragment: Fragment) -> None:
        [submit] = self.step.only(Submit)
        now, number = self.step.now, fragment.sequence_number
        assert submit.deadline == now + self.settings.timeout_ms / 1000
        assert submit.ticket not in self.flights
        failed_before = self.undone.get(fragment.fragment_id) is not None
        in_order = number >= self.next and not failed_before
        self.flights[submit.ticket] = Flight(fragment, now, submit.deadline, in_order)
        if in_order:
            self.settled_numbers.discard(number)
        else:
            self.settled_numbers.add(number)
        if self.first_accepted_at is None:
            self.first_accepted_at = now
        rose = UP.index(self.rising()) > UP.index(self.level)
        if rose:
            self.level = self.rising()
        if rose or not self.told:
            self.expected_pressure.append((self.level, len(self.flights)))
        self.told = True

    def rising(self) -> str:
        low = min(self.settings.max_inflight, self.limits.critical_inflight)
        medium = min(2 * self.settings.max_inflight, self.limits.critical_inflight)
        return "low" if len(self.flights) <= low else "medium" if len(self.flights) <= medium else "high"

    def expect_ack(self, *, submitted: bool) -> None:
        assert len(self.step.acks) == 1
        assert self.step.acks[0].fragment_id == self.step.given.fragment_id
        assert len(self.step.only(Submit)) == submitted

    def expect_refusal(self, code: str, fragment: Fragment) -> None:
        assert not self.step.acks
        assert not self.step.only(Submit)
        error = self.step.errors[0]
        assert (error.code, error.fragment_id, error.sequence_number) == (
            code,
            fragment.fragment_id,
            fragment.sequence_number,
        )
        self.turned_down(code, fragment.fragment_id, fragment.sequence_number)

    def turned_down(self, code: str, fragment_id: str | None, number: int | None) -> None:
        if number is None or self.state == "closed":
            return
        self.settled_numbers.add(number)
        known = fragment_id in self.undone or any(entry[0] == fragment_id for entry in self.kept)
        if code in RETRYABLE_AT_THE_DOOR and fragment_id is not None and not known:
            self.undone[fragment_id] = None

    def expire(self) -> None:
        """Only attempts out of time fail in this tick; `after` sees that none is left."""
        assert self.cancelled <= self.unfinished_before
        assert all(self.expiry(self.flights[ticket]) <= self.step.now for ticket in self.cancelled), "too early"
        self.fail(DeadlineExceeded)

    def fail(self, error: type[StageError]) -> None:
        for ticket in self.cancelled:
            self.flights[ticket].outcome = Outcome(failure=error(Stage.ASR, "as the rules say"))

    def expiry(self, flight: Flight) -> float:
        """At the deadline; earlier where a later number, accepted earlier, can't wait any longer."""
        number = flight.fragment.sequence_number
        later = [
            other.deadline - (self.slack_s if other.outcome else 0)
            for other in self.flights.values()
            if flight.in_order
            and other.in_order
            and other.fragment.sequence_number > number
            and other.deadline < flight.deadline
        ]
        return min([flight.deadline, *later])

    def out_of_memory(self) -> None:
        assert self.cancelled == {ticket for ticket in self.unfinished_before if self.flights[ticket].outcome is None}
        assert [error.code for error in self.step.errors if error.severity == "fatal"] == ["GPU_OOM"]
        assert isinstance(self.step.effects[-1], Close)
        assert isinstance(self.step.effects[-2], Emit)
        assert isinstance(self.step.effects[-2].event, ErrorEvent)
        assert len(self.step.results) == len(self.flights), "a fragment was lost"
        assert len(self.step.events(StreamComplete)) == (self.state == "ending")
        self.state = "closed"
        self.fail(GpuOutOfMemory)

    def moved(self, step: Step) -> None:
        """`pause`, `resume`, `end` or `drain`."""
        follows = {
            "pause": {"active": "paused", "paused": "paused"},
            "resume": {"active": "active", "paused": "active"},
            "end": {"active": "ending", "paused": "ending", "draining": "ending", "ending": "ending"},
            "drain": {"active": "draining", "paused": "draining", "draining": "draining", "ending": "ending"},
        }[step.call]
        if step.call == "drain":
            assert ("SERVER_DRAINING" in step.codes) == (self.state in {"active", "paused"})
        elif self.state not in follows:
            assert step.codes[0] in {"STREAM_NOT_FOUND", "SERVER_DRAINING"}
        self.state = follows.get(self.state, self.state)

    # --- one effect ---------------------------------------------------------------------------------------------

    def judge(self, effect: Any) -> None:
        if not isinstance(effect, Emit):
            return
        event = effect.event
        if isinstance(event, FragmentProcessed):
            self.left(event)
        elif isinstance(event, ErrorEvent) and event.code == "INVALID_SEQUENCE" and event.severity == "warning":
            assert event.details is not None
            self.given_up(event.details["first_missing"], event.details["last_missing"])
        elif isinstance(event, StreamComplete):
            assert not self.flights
            counts = (event.success_count, event.partial_count, event.failed_count)
            assert counts == tuple(self.statuses.count(status) for status in ("success", "partial", "failed"))
            assert event.total_fragments == len(self.statuses)
        else:
            assert isinstance(event, FragmentQueued | Backpressure | ErrorEvent)

    def left(self, result: FragmentProcessed) -> None:
        if result == self.resent:
            self.resent = None
            return
        ticket, flight = next(
            (
                (ticket, flight)
                for ticket, flight in self.flights.items()
                if flight.fragment.fragment_id == result.fragment_id
            ),
            (0, None),
        )
        assert flight is not None, f"{result.fragment_id} has no attempt in flight: a second result"
        assert result.sequence_number == flight.fragment.sequence_number
        self.matches(result, flight)
        if flight.in_order:
            self.in_its_turn(result.sequence_number)
        del self.flights[ticket]
        self.statuses.append(result.status)
        self.remember(flight.fragment, result)
        marks = (self.settings.max_inflight, 2 * self.settings.max_inflight)
        low, medium = (min(mark, self.limits.critical_inflight) for mark in marks)
        count = len(self.flights)
        fallen = "low" if count < low else "medium" if count < medium else "high"
        if UP.index(fallen) < UP.index(self.level):
            self.level = fallen
            self.expected_pressure.append((fallen, count))

    def matches(self, result: FragmentProcessed, flight: Flight) -> None:
        """The result says what became of this attempt and of no other."""
        outcome = flight.outcome
        assert outcome is not None, "a result without an outcome"
        if outcome.failure is not None:
            assert result.error is not None
            assert (result.status, result.error.code) == ("failed", outcome.failure.code)
            assert result.error.retryable == ERROR_TABLE[ErrorCode(outcome.failure.code)].retryable
        else:
            assert outcome.transcript is not None
            assert outcome.speech is not None
            assert result.status == ("partial" if outcome.speech.partial else "success")
            assert result.transcript == outcome.transcript.recognition.text
            assert result.dubbed_audio is not None

    def in_its_turn(self, number: int) -> None:
        assert number >= self.next, f"{number} left after {self.next - 1}"
        lower = [f.fragment.sequence_number for f in self.flights.values() if f.in_order]
        assert number == min(lower), f"{number} overtook {min(lower)}"
        missing = set(range(self.next, number)) - self.settled_numbers
        assert not missing, f"{number} left before {missing}, that nobody gave up"
        self.next = number + 1
        self.anything_left = True

    def remember(self, fragment: Fragment, result: FragmentProcessed) -> None:
        if result.status == "failed":
            self.undone[fragment.fragment_id] = fragment.digest
            return
        self.undone.pop(fragment.fragment_id, None)
        if result.dubbed_audio and len(result.dubbed_audio.data) > self.limits.kept_bytes:
            return
        self.kept.append((fragment.fragment_id, fragment.digest, result))
        while len(self.kept) > self.limits.kept_results or self.kept_bytes() > self.limits.kept_bytes:
            self.kept.pop(0)

    def kept_bytes(self) -> int:
        return sum(len(result.dubbed_audio.data) for _, _, result in self.kept if result.dubbed_audio)

    def given_up(self, first: int, last: int) -> None:
        numbers = set(range(first, last + 1))
        assert not numbers & self.settled_numbers, "a number was given up that nobody waits for"
        assert not numbers & {f.fragment.sequence_number for f in self.flights.values() if f.in_order}
        assert first >= self.next
        if self.step.call not in {"end", "drain", "complete"}:
            assert self.step.call == "tick"
            assert any(
                f.fragment.sequence_number > last and self.release_by(f) <= self.step.now
                for f in self.flights.values()
                if f.in_order and f.outcome
            ), f"{first} to {last} were given up too early"
        elif self.step.call == "complete":
            assert self.state == "closed", "only running out of memory gives numbers up at once"
        self.settled_numbers |= numbers

    def release_by(self, flight: Flight) -> float:
        by = flight.deadline - self.slack_s
        lowest = min(f.fragment.sequence_number for f in self.flights.values() if f.in_order)
        if not self.anything_left and self.first_accepted_at is not None and flight.fragment.sequence_number == lowest:
            by = min(by, self.first_accepted_at + self.limits.start_wait_ms / 1000)
        return by

    # --- after it -----------------------------------------------------------------------------------------------

    def after(self, step: Step) -> None:
        if self.state in {"ending", "draining"} and not self.flights:
            closing = step.only(Close)
            assert len(closing) == 1, "the last result is out, but the connection stays"
            assert len(step.events(StreamComplete)) == (self.state == "ending")
            assert closing[0].delay_ms == (self.limits.close_delay_ms if self.state == "ending" else 0)
            self.state = "closed"
        assert step.state == self.state
        assert step.in_flight == len(self.flights) <= self.limits.critical_inflight
        assert step.kept_bytes == self.kept_bytes() <= self.limits.kept_bytes
        if self.state != "closed":
            assert step.level == self.level
        ordered = sorted((f for f in self.flights.values() if f.in_order), key=lambda f: f.fragment.sequence_number)
        assert all(f.in_order or f.outcome is None for f in self.flights.values()), "a retry was held back"
        blocked = [f for f in ordered if f.outcome and self.missing_below(f)]
        if ordered and ordered[0].outcome:
            assert ordered[0] in blocked, f"{ordered[0].fragment.sequence_number} is held back by nothing"
        if step.call == "tick":
            assert all(self.expiry(f) > step.now for f in self.flights.values() if f.outcome is None), "not timed out"
            assert all(f.deadline > step.now for f in self.flights.values()), "a result misses its deadline"
            assert all(self.release_by(f) > step.now for f in blocked), "held back for too long"
            assert step.next_tick is None or step.next_tick > step.now, "busy loop"
        active = blocked or any(f.outcome is None for f in self.flights.values())
        assert (step.next_tick is None) == (not active)
        if step.next_tick is not None:
            assert step.next_tick <= min(f.deadline for f in self.flights.values())

    def missing_below(self, flight: Flight) -> bool:
        reserved = {f.fragment.sequence_number for f in self.flights.values() if f.in_order}
        numbers = range(self.next, flight.fragment.sequence_number)
        return any(number not in reserved and number not in self.settled_numbers for number in numbers)

    def finish(self) -> None:
        """Nothing accepted is without its result."""
        assert not self.flights
