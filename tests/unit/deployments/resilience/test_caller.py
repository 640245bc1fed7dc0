"""The caller tries again as decided, never beyond the deadline, and tells of each attempt."""

import json
import logging
from collections.abc import Iterator

import pytest

from deployments.errors import (
    DeadlineExceeded,
    RateLimitExceeded,
    Stage,
    TranslationAuthFailed,
    TranslationUnavailable,
)
from deployments.logs import configure_logs
from deployments.resilience.breaker import BreakerLimits, BreakerState
from deployments.resilience.caller import MAX_HOLD_S, AttemptFailed, CallLimits, ResilientCaller
from deployments.resilience.retries import CallOutcome


class World:
    """A clock, a sleep that moves it, a service that does as told, and an observer."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept_s: list[float] = []
        self.timeouts_s: list[float] = []
        self.script: list[object] = []
        self.takes_s = 0.0
        self.outcomes: list[tuple[str, CallOutcome, float]] = []
        self.states: list[BreakerState] = []

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds

    def attempt(self, timeout_s: float) -> str:
        self.timeouts_s.append(timeout_s)
        self.now_s += min(self.takes_s, timeout_s)
        step = self.script.pop(0) if self.script else "done"
        if isinstance(step, BaseException):
            raise step
        assert isinstance(step, str)
        return step

    def attempted(self, service: str, outcome: CallOutcome, elapsed_s: float) -> None:
        self.outcomes.append((service, outcome, elapsed_s))

    def breaker_changed(self, service: str, state: BreakerState) -> None:
        assert service == "svc"
        self.states.append(state)

    def caller(self, jitter: float = 0.0, **limits) -> ResilientCaller:
        return ResilientCaller(
            "svc",
            Stage.TRANSLATION,
            CallLimits(**{"timeout_s": 5.0, "max_attempts": 4, "breaker": breaks_after(10), **limits}),
            (self,),
            clock=self.clock,
            sleep=self.sleep,
            jitter=lambda: jitter,
        )


def breaks_after(failures: int) -> BreakerLimits:
    return BreakerLimits(failures, half_open_after_s=60.0, close_after_successes=3)


def failed(outcome: CallOutcome, asked_s: float | None = None) -> AttemptFailed:
    error = {CallOutcome.RATE_LIMITED: RateLimitExceeded, CallOutcome.REFUSED: TranslationAuthFailed}
    return AttemptFailed(outcome, error.get(outcome, TranslationUnavailable)(Stage.TRANSLATION, "no"), asked_s)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def logged() -> Iterator[list[dict]]:
    lines: list[dict] = []
    configure_logs()

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(record.getMessage()))

    handler, logger = Lines(), logging.getLogger("deployments")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def test_an_answer_is_the_answer(world):
    assert world.caller().call(world.attempt, 1008.0) == "done"
    assert world.timeouts_s == [5.0]
    assert world.outcomes == [("svc", CallOutcome.SUCCESS, 0.0)]
    assert world.states == [BreakerState.CLOSED]


def test_failures_are_waited_for_as_planned(world):
    world.script = [failed(CallOutcome.SERVER_ERROR)] * 3
    assert world.caller().call(world.attempt, 1008.0) == "done"
    assert world.slept_s == [0.0, 0.5, 1.0]


def test_waits_grow_by_a_share_so_that_callers_part(world):
    world.script = [failed(CallOutcome.OVERLOADED)]
    world.caller(jitter=0.5).call(world.attempt, 1008.0)
    assert world.slept_s == [pytest.approx(1.05)]


def test_a_refusal_is_the_end(world):
    world.script = [failed(CallOutcome.REFUSED)]
    with pytest.raises(TranslationAuthFailed):
        world.caller().call(world.attempt, 1008.0)
    assert world.slept_s == []


def test_attempts_are_counted(world):
    world.script = [failed(CallOutcome.UNREACHABLE)] * 9
    with pytest.raises(TranslationUnavailable):
        world.caller(max_attempts=3).call(world.attempt, 1100.0)
    assert len(world.timeouts_s) == 3


def test_a_wait_that_would_end_beyond_the_deadline_is_not_begun(world):
    world.script = [failed(CallOutcome.OVERLOADED)]
    with pytest.raises(TranslationUnavailable):
        world.caller().call(world.attempt, 1001.0)
    assert world.slept_s == []
    assert world.now_s == 1000.0


@pytest.mark.parametrize("budget_s", [0.05, 0.3, 1.0, 2.5, 4.0, 8.0, 30.0])
@pytest.mark.parametrize("outcome", [o for o in CallOutcome if o is not CallOutcome.SUCCESS])
def test_the_deadline_holds_whatever_happens(world, budget_s, outcome):
    world.script = [failed(outcome)] * 20
    world.takes_s = 60.0
    with pytest.raises((TranslationUnavailable, RateLimitExceeded, DeadlineExceeded, TranslationAuthFailed)):
        world.caller(max_attempts=10).call(world.attempt, 1000.0 + budget_s)
    assert world.now_s <= 1000.0 + budget_s
    assert all(timeout_s <= min(5.0, budget_s) for timeout_s in world.timeouts_s)


def test_with_no_time_left_nothing_is_asked(world):
    with pytest.raises(DeadlineExceeded):
        world.caller().call(world.attempt, 1000.05)
    assert world.timeouts_s == []


def test_a_retry_after_holds_for_the_other_calls_too(world):
    caller = world.caller()
    world.script = [failed(CallOutcome.RATE_LIMITED, 4.0)]
    with pytest.raises(RateLimitExceeded):
        caller.call(world.attempt, 1003.0)
    with pytest.raises(RateLimitExceeded):
        caller.call(world.attempt, 1003.5)
    assert len(world.timeouts_s) == 1
    assert caller.call(world.attempt, 1008.0) == "done"
    assert world.slept_s == [4.0]


def test_no_retry_after_holds_others_for_longer_than_a_minute(world):
    caller = world.caller()
    world.script = [failed(CallOutcome.RATE_LIMITED, 86_400.0)]
    with pytest.raises(RateLimitExceeded):
        caller.call(world.attempt, 1008.0)
    world.now_s += MAX_HOLD_S
    assert caller.call(world.attempt, world.now_s + 8.0) == "done"


def test_an_open_breaker_fails_fast_and_asks_nothing(world):
    caller = world.caller(max_attempts=1, breaker=breaks_after(2))
    world.script = [failed(CallOutcome.SERVER_ERROR)] * 2
    for _ in range(2):
        with pytest.raises(TranslationUnavailable):
            caller.call(world.attempt, 1008.0)
    with pytest.raises(TranslationUnavailable, match="left alone"):
        caller.call(world.attempt, 1008.0)
    assert len(world.timeouts_s) == 2
    assert world.now_s == 1000.0
    assert world.outcomes[-1] == ("svc", CallOutcome.BREAKER_OPEN, 0.0)
    assert (caller.breaker_state, world.states) == (BreakerState.OPEN, [BreakerState.CLOSED, BreakerState.OPEN])


def test_a_breaker_that_opens_ends_the_attempts_of_a_call_under_way(world):
    caller = world.caller(breaker=breaks_after(2))
    world.script = [failed(CallOutcome.SERVER_ERROR)] * 4
    with pytest.raises(TranslationUnavailable, match="left alone"):
        caller.call(world.attempt, 1008.0)
    assert len(world.timeouts_s) == 2


def test_a_bug_in_a_probe_does_not_block_the_next(world):
    caller = world.caller(max_attempts=1, breaker=breaks_after(1))
    world.script = [failed(CallOutcome.SERVER_ERROR), ZeroDivisionError()]
    with pytest.raises(TranslationUnavailable):
        caller.call(world.attempt, 1008.0)
    world.now_s += 60.0
    with pytest.raises(ZeroDivisionError):
        caller.call(world.attempt, world.now_s + 8.0)
    assert caller.call(world.attempt, world.now_s + 8.0) == "done"


def test_each_failure_and_each_state_is_logged(world, logged):
    caller = world.caller(breaker=breaks_after(1), max_attempts=1)
    world.script = [failed(CallOutcome.OVERLOADED)]
    world.takes_s = 0.25
    with pytest.raises(TranslationUnavailable):
        caller.call(world.attempt, 1008.0)
    told = {line["event"]: line for line in logged}
    assert set(told) == {"service_call_failed", "breaker_changed"}
    assert (
        told["service_call_failed"]
        | {
            "service": "svc",
            "outcome": "overloaded",
            "code": "TRANSLATION_API_UNAVAILABLE",
            "attempt": 1,
            "elapsed_ms": 250,
            "level": "warning",
        }
        == told["service_call_failed"]
    )
    assert (told["breaker_changed"]["state"], told["breaker_changed"]["level"]) == ("open", "warning")
