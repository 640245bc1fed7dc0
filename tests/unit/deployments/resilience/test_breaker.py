"""The breaker opens after failures in a row, lets one probe through at a time, closes after successes in a row."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.resilience.breaker import BreakerLimits, BreakerState, CircuitBreaker
from deployments.resilience.retries import Verdict

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
ALIVE, FAILING, NOTHING = Verdict.ALIVE, Verdict.FAILING, Verdict.NOTHING


LIMITS = BreakerLimits(open_after_failures=10, half_open_after_s=60.0, close_after_successes=3)


@pytest.fixture
def states() -> list[BreakerState]:
    return []


@pytest.fixture
def breaker(states) -> CircuitBreaker:
    return CircuitBreaker(LIMITS, states.append)


def call(breaker: CircuitBreaker, verdict: Verdict, now_s: float = 0.0) -> bool:
    permit = breaker.admit(now_s)
    if permit is None:
        return False
    breaker.record(permit, verdict, now_s)
    return True


def opened(breaker: CircuitBreaker, now_s: float = 0.0) -> CircuitBreaker:
    for _ in range(10):
        assert call(breaker, FAILING, now_s)
    assert breaker.state is OPEN
    return breaker


def test_ten_failures_in_a_row_open_it_and_nine_do_not(breaker, states):
    for _ in range(9):
        call(breaker, FAILING)
    assert breaker.state is CLOSED
    call(breaker, FAILING)
    assert states == [OPEN]


def test_a_success_starts_the_row_over_and_nothing_learned_does_not(breaker):
    for verdict in [FAILING] * 9 + [ALIVE] + [FAILING] * 9 + [NOTHING]:
        assert call(breaker, verdict)
    assert breaker.state is CLOSED
    call(breaker, FAILING)
    assert breaker.state is OPEN


def test_open_it_lets_nothing_through_for_a_minute(breaker):
    opened(breaker, 100.0)
    assert breaker.admit(159.9) is None
    assert breaker.admit(160.0) is not None
    assert breaker.state is HALF_OPEN


def test_half_open_it_lets_one_probe_through_at_a_time(breaker):
    opened(breaker)
    probe = breaker.admit(60.0)
    assert probe is not None
    assert breaker.admit(60.0) is None
    breaker.record(probe, ALIVE, 61.0)
    assert breaker.admit(61.0) is not None


def test_three_probes_that_succeed_close_it(breaker, states):
    opened(breaker)
    for _ in range(3):
        assert breaker.state is not CLOSED
        assert call(breaker, ALIVE, 60.0)
    assert states == [OPEN, HALF_OPEN, CLOSED]
    assert call(breaker, FAILING, 60.0)
    assert breaker.state is CLOSED


def test_a_probe_that_fails_opens_it_for_another_minute(breaker, states):
    opened(breaker)
    call(breaker, ALIVE, 60.0)
    call(breaker, FAILING, 70.0)
    assert breaker.admit(129.9) is None
    assert breaker.admit(130.0) is not None
    assert states == [OPEN, HALF_OPEN, OPEN, HALF_OPEN]


def test_a_probe_that_tells_nothing_makes_room_for_the_next(breaker):
    opened(breaker)
    assert call(breaker, NOTHING, 60.0)
    assert breaker.state is HALF_OPEN
    assert breaker.admit(60.0) is not None


def test_what_was_begun_in_an_earlier_state_says_nothing_about_this_one(breaker):
    early = [breaker.admit(0.0) for _ in range(3)]
    opened(breaker)
    breaker.record(early[0], ALIVE, 1.0)
    assert breaker.state is OPEN
    probe = breaker.admit(60.0)
    breaker.record(early[1], FAILING, 60.0)
    breaker.record(early[2], ALIVE, 60.0)
    assert breaker.admit(60.0) is None, "the probe is still under way"
    assert breaker.state is HALF_OPEN
    breaker.record(probe, ALIVE, 61.0)


def test_of_many_threads_one_gets_the_probe(breaker):
    opened(breaker)
    together = threading.Barrier(8)

    def ask(_: int) -> bool:
        together.wait()
        return breaker.admit(60.0) is not None

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(ask, range(8))) == 1


@given(st.lists(st.tuples(st.sampled_from(Verdict), st.integers(0, 40)), max_size=80))
def test_it_always_lets_calls_through_again(steps):
    breaker = CircuitBreaker(LIMITS)
    now_s = 0.0
    for verdict, later_s in steps:
        now_s += later_s
        call(breaker, verdict, now_s)
    for _ in range(4):
        now_s += 60.0
        assert call(breaker, ALIVE, now_s)
    assert breaker.state is CLOSED
