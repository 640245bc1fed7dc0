"""Defects planted in the core, one at a time; those of earlier servers are among them."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from deployments.contracts.values import Outcome
from deployments.errors import GpuOutOfMemory, PermanentError, TransientError
from serve_app.protocol import ERROR_TABLE, ErrorCode, FragmentProcessed
from serve_app.stream import backpressure, ordering
from serve_app.stream import session as core
from serve_app.stream.attempts import Attempts
from serve_app.stream.backpressure import InFlight, Level
from serve_app.stream.ordering import ReorderBuffer
from serve_app.stream.result_builder import present
from serve_app.stream.result_cache import Done, ResultCache, Undone
from serve_app.stream.session import Session
from serve_app.stream.statistics import Percentiles
from serve_app.stream.values import Effect, Emit, Fragment

Plant = Callable[[pytest.MonkeyPatch], None]
MUTANTS: dict[str, Plant] = {}
"""Break a promise to the worker of any stream."""
GROWING: dict[str, Plant] = {}
"""Change nothing that a worker sees and grow without end."""
AT_THE_DOOR: dict[str, Plant] = {}
"""Show once there is more work than the models can do."""


def mutant(plant: Plant) -> Plant:
    MUTANTS[plant.__name__] = plant
    return plant


def growing(plant: Plant) -> Plant:
    GROWING[plant.__name__] = plant
    return plant


def at_the_door(plant: Plant) -> Plant:
    AT_THE_DOOR[plant.__name__] = plant
    return plant


@mutant
def level_rises_one_fragment_early(patch: pytest.MonkeyPatch) -> None:
    kind = backpressure._moved

    def moved(level: Level, value: float, up: tuple[float, float], down: tuple[float, float]) -> Level:
        return kind(level, value, (up[0] - 1, up[1] - 1), down)

    patch.setattr(backpressure, "_moved", moved)


@mutant
def level_flaps_at_its_mark(patch: pytest.MonkeyPatch) -> None:
    kind = backpressure._moved

    def moved(level: Level, value: float, up: tuple[float, float], down: tuple[float, float]) -> Level:
        return kind(level, value, up, (up[0] + 1, up[1] + 1))

    patch.setattr(backpressure, "_moved", moved)


@mutant
def one_more_than_the_critical_limit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(InFlight, "full", property(lambda self: self.count > self.critical))


@mutant
def backpressure_is_never_sent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Session, "_told", lambda self, level, now: [])


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
    kind = ResultCache.find

    def find(self: ResultCache, fragment_id: str) -> Done | Undone | None:
        past = kind(self, fragment_id)
        return Undone(past.result.sequence_number, past.digest, 0) if isinstance(past, Done) else past

    patch.setattr(ResultCache, "find", find)


@mutant
def failure_is_not_processed_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ResultCache, "note_undone", lambda self, fragment_id, undone: None)


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
    def drop_all(self: Session, now: float) -> list[Effect]:
        self._in_flight.count -= self._attempts.drop_all()
        return []

    patch.setattr(Session, "_drop_all", drop_all)


@mutant
def out_of_memory_loses_the_others(patch: pytest.MonkeyPatch) -> None:
    kind = Session._give_up_stream

    def give_up_stream(self: Session, failure: GpuOutOfMemory, now: float) -> list[Effect]:
        return [*self._drop_all(now), *kind(self, failure, now)]

    patch.setattr(Session, "_give_up_stream", give_up_stream)


@mutant
def stream_that_ends_waits_for_what_never_comes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Session, "_after_last", lambda self: [])


@mutant
def permanent_failures_are_called_retryable(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PermanentError, "retryable", True)


@mutant
def transient_failures_are_called_permanent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TransientError, "retryable", False)


@mutant
def missing_audio_passes_for_success(patch: pytest.MonkeyPatch) -> None:
    def silent(*args: Any, **named: Any) -> FragmentProcessed:
        result = present(*args, **named)
        return result.model_copy(update={"status": "success", "error": None})

    patch.setattr(core, "present", silent)


@mutant
def result_leaves_after_its_deadline(patch: pytest.MonkeyPatch) -> None:
    take = Attempts.take

    def late(self: Attempts, fragment: Fragment, now: float, timeout_s: float, *more: Any, **named: Any) -> Any:
        return take(self, fragment, now, timeout_s + 1, *more, **named)

    patch.setattr(Attempts, "take", late)


@mutant
def every_result_goes_out_twice(patch: pytest.MonkeyPatch) -> None:
    kind = Session._leave

    def leave(self: Session, *args: Any) -> list[Effect]:
        effects = kind(self, *args)
        return [effects[0], *effects]

    patch.setattr(Session, "_leave", leave)


@mutant
def kept_results_are_never_dropped(patch: pytest.MonkeyPatch) -> None:
    def keep(self: ResultCache, digest: bytes, result: FragmentProcessed, *limits: int) -> None:
        self._done[result.fragment_id] = Done(digest, result)

    patch.setattr(ResultCache, "keep", keep)


@growing
def refused_numbers_are_never_forgotten(patch: pytest.MonkeyPatch) -> None:
    kind = ReorderBuffer.release

    def release(self: ReorderBuffer[Any, Any]) -> list[tuple[int, Any, Any]]:
        before = set(self._skipped)
        leaving = kind(self)
        self._skipped |= before
        return leaving

    patch.setattr(ReorderBuffer, "release", release)
    patch.setattr(ordering, "MAX_SKIPPED", math.inf)


@growing
def refused_numbers_have_no_limit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ordering, "MAX_SKIPPED", math.inf)


@growing
def statistics_are_a_list(patch: pytest.MonkeyPatch) -> None:
    def add(self: Percentiles, value_ms: int) -> None:
        self.__dict__.setdefault("values_ms", []).append(value_ms)

    def at(self: Percentiles, fraction: float) -> int:
        values_ms = sorted(self.__dict__.get("values_ms", [0]))
        return int(values_ms[math.ceil(fraction * len(values_ms)) - 1])

    patch.setattr(Percentiles, "add", add)
    patch.setattr(Percentiles, "at", at)


@at_the_door
def a_full_server_refuses_what_it_has_taken_before(patch: pytest.MonkeyPatch) -> None:
    kind = Session.accept

    def accept(self: Session, fragment: Fragment, now: float) -> list[Effect]:
        known = self._attempts.find(fragment.fragment_id) or self._history.find(fragment.fragment_id)
        if known is not None and self._foresight.refusal_ms(fragment, now) is not None:
            return self._refuse(ErrorCode.QUEUE_FULL, "full", fragment, now)
        return kind(self, fragment, now)

    patch.setattr(Session, "accept", accept)


@at_the_door
def a_fragment_refused_at_the_door_is_awaited(patch: pytest.MonkeyPatch) -> None:
    kind = Session.refuse

    def refuse(self: Session, code: ErrorCode, message: str, now: float, **named: Any) -> list[Effect]:
        effects = kind(self, code, message, now, **named)
        if code is ErrorCode.QUEUE_FULL:
            self._order._skipped.discard(named["sequence_number"])
        return effects

    patch.setattr(Session, "refuse", refuse)


@at_the_door
def a_full_server_says_that_it_is_for_good(patch: pytest.MonkeyPatch) -> None:
    rule = dataclasses.replace(ERROR_TABLE[ErrorCode.QUEUE_FULL], retryable=False)
    patch.setitem(ERROR_TABLE, ErrorCode.QUEUE_FULL, rule)
