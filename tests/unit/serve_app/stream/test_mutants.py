"""The checker is worth something: it catches every defect planted in the core, among them those of earlier servers."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from deployments.errors import GpuOutOfMemory, ModelFailed
from serve_app.protocol import ErrorCode
from serve_app.stream.attempts import Attempts
from serve_app.stream.backpressure import InFlight, Level
from serve_app.stream.history import Done, History, Undone
from serve_app.stream.ordering import ReorderBuffer
from serve_app.stream.results import present
from serve_app.stream.session import Session
from serve_app.stream.values import Effect, Emit, Fragment, Outcome, StreamLimits
from tests.unit.serve_app.stream.checker import Checker
from tests.unit.serve_app.stream.recorder import Recorder, failed, make_settings

SEEDS = range(60)


def drive(seed: int) -> None:
    """One stream with a lossy worker and an erratic pipeline; AssertionError when a promise is broken."""
    dice = random.Random(seed)  # noqa: S311 - a test's dice, not a secret
    stream, limits = make_settings(max_inflight=dice.choice([1, 3]), timeout_ms=2000), StreamLimits(critical_inflight=8)
    checker = Checker(stream, limits)
    recorder = Recorder(stream, limits, observe=checker)
    numbers = list(range(25))
    for place in range(0, 24, 3):
        if dice.random() < 0.5:
            numbers[place], numbers[place + 1] = numbers[place + 1], numbers[place]
    for number in numbers:
        fate = dice.random()
        if fate < 0.1:
            recorder.refuse(dice.choice([ErrorCode.RATE_LIMITED, ErrorCode.MALFORMED_DATA]), number, f"f{number}")
        elif fate < 0.9:
            recorder.send(number)
        while dice.random() < 0.6:
            act(recorder, checker, dice)
        recorder.wait(dice.choice([0.0, 0.1, 0.6]))
    recorder.end() if dice.random() < 0.7 else recorder.disconnect()
    recorder.settle()
    checker.finish()


def drive_all() -> None:
    for seed in SEEDS:
        drive(seed)


def act(recorder: Recorder, checker: Checker, dice: random.Random) -> None:
    made = [ticket for tickets in recorder.tickets.values() for ticket in tickets]
    roll = dice.random()
    if roll < 0.6 and checker.flights:
        ticket = dice.choice(sorted(checker.flights))
        recorder.complete_ticket(ticket, failed(ModelFailed) if dice.random() < 0.3 else None)
    elif roll < 0.7 and made:
        recorder.complete_ticket(dice.choice(made))
    elif roll < 0.9 and made:
        name = dice.choice(sorted(recorder.tickets))
        recorder.send(int(name[1:]), name, b"other audio" if roll > 0.88 else None)
    elif roll > 0.99 and checker.flights:
        recorder.complete_ticket(dice.choice(sorted(checker.flights)), failed(GpuOutOfMemory))


def test_the_core_as_it_is_breaks_no_promise() -> None:
    drive_all()


# --- the mutants ------------------------------------------------------------------------------------------------

Plant = Callable[[pytest.MonkeyPatch], None]
MUTANTS: dict[str, Plant] = {}


def mutant(plant: Plant) -> Plant:
    MUTANTS[plant.__name__] = plant
    return plant


@mutant
def level_rises_one_fragment_early(patch: pytest.MonkeyPatch) -> None:
    def level_above(self: InFlight) -> Level:
        low, medium = self._marks()
        return Level.LOW if self.count < low else Level.MEDIUM if self.count < medium else Level.HIGH

    patch.setattr(InFlight, "_level_above", level_above)


@mutant
def level_flaps_at_its_mark(patch: pytest.MonkeyPatch) -> None:
    def leave(self: InFlight) -> Level | None:
        self.count -= 1
        before, self._level = self._level, self._level_above()
        return None if before is self._level else self._level

    patch.setattr(InFlight, "leave", leave)


@mutant
def one_more_than_the_critical_limit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(InFlight, "full", property(lambda self: self.count > self.critical))


@mutant
def backpressure_is_never_sent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Session, "_told", lambda self, level: [])


@mutant
def resend_in_flight_leaks_a_slot(patch: pytest.MonkeyPatch) -> None:
    kind = Session._acknowledge_again

    def leaky(self: Session, fragment: Fragment, now: float) -> list[Effect]:
        self._in_flight.count += 1
        return kind(self, fragment, now)

    patch.setattr(Session, "_acknowledge_again", leaky)


@mutant
def release_ignores_gaps(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ReorderBuffer, "missing_below", lambda self, number: [])


@mutant
def results_leave_as_they_finish(patch: pytest.MonkeyPatch) -> None:
    def release(self: ReorderBuffer[Any, Any]) -> Iterator[tuple[int, Any, Any]]:
        for number in list(self._filled):
            self.next = max(self.next, number + 1)
            yield number, self._slots.pop(number), self._filled.pop(number)

    patch.setattr(ReorderBuffer, "release", release)


@mutant
def rejected_number_is_awaited_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ReorderBuffer, "skip", lambda self, number: None)


@mutant
def missing_number_is_awaited_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Attempts, "overdue", lambda self, *args: None)


@mutant
def missing_number_is_given_up_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Attempts, "_release_by", lambda self, *args: 0.0)


@mutant
def timeout_is_never_applied(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Attempts, "late", lambda self, *args: [])


@mutant
def late_completion_gets_a_result_too(patch: pytest.MonkeyPatch) -> None:
    kind, submitted = Session.complete, {}
    take = Attempts.take

    def remember(self: Attempts, fragment: Fragment, *args: Any, **named: Any) -> Any:
        attempt = take(self, fragment, *args, **named)
        submitted[id(self), attempt.ticket] = fragment
        return attempt

    def complete(self: Session, ticket: int, outcome: Outcome, now: float) -> list[Effect]:
        if self._attempts.get(ticket) is not None:
            return kind(self, ticket, outcome, now)
        fragment = submitted[id(self._attempts), ticket]
        return [Emit(present(self.settings, fragment, outcome, ticket=ticket, start_ms=0, processing_ms=0))]

    patch.setattr(Attempts, "take", remember)
    patch.setattr(Session, "complete", complete)


@mutant
def kept_result_is_computed_anew(patch: pytest.MonkeyPatch) -> None:
    kind = History.find

    def find(self: History, fragment_id: str) -> Done | Undone | None:
        past = kind(self, fragment_id)
        return Undone(past.result.sequence_number, past.digest, 0) if isinstance(past, Done) else past

    patch.setattr(History, "find", find)


@mutant
def failure_is_not_processed_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(History, "note_undone", lambda self, fragment_id, undone: None)


@mutant
def reused_id_passes_for_a_resend(patch: pytest.MonkeyPatch) -> None:
    kind = Session.accept

    def accept(self: Session, fragment: Fragment, now: float) -> list[Effect]:
        past = self._history.find(fragment.fragment_id)
        if isinstance(past, Done) and past.digest != fragment.digest:
            return self._send_again(past, fragment, now)
        return kind(self, fragment, now)

    patch.setattr(Session, "accept", accept)


@mutant
def disconnect_cancels_nothing(patch: pytest.MonkeyPatch) -> None:
    def drop_all(self: Session) -> list[Effect]:
        self._in_flight.count -= self._attempts.drop_all()
        return []

    patch.setattr(Session, "_drop_all", drop_all)


@mutant
def out_of_memory_loses_the_others(patch: pytest.MonkeyPatch) -> None:
    kind = Session._give_up_stream

    def give_up_stream(self: Session, failure: GpuOutOfMemory, now: float) -> list[Effect]:
        return [*self._drop_all(), *kind(self, failure, now)]

    patch.setattr(Session, "_give_up_stream", give_up_stream)


@mutant
def stream_that_ends_waits_for_what_never_comes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Session, "_after_last", lambda self: [])


@pytest.mark.parametrize("name", MUTANTS)
def test_the_checker_catches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    with pytest.raises(AssertionError):
        drive_all()
