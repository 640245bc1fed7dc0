"""A call that does not end is noticed."""

import pytest

from deployments.replica.watchdog import WEDGED_AFTER_S, Watchdog


def test_a_call_that_runs_too_long_is_told() -> None:
    now_s = 0.0
    running = Watchdog(clock=lambda: now_s)
    with running.one():
        now_s = WEDGED_AFTER_S
        running.check()
        now_s += 1
        with pytest.raises(RuntimeError, match="has been running for 61 s"):
            running.check()


def test_the_oldest_call_counts() -> None:
    now_s = 0.0
    running = Watchdog(wedged_after_s=10, clock=lambda: now_s)
    with running.one():
        now_s = 9.0
        with running.one():
            now_s = 11.0
            with pytest.raises(RuntimeError):
                running.check()


def test_a_call_that_ended_or_failed_is_forgotten() -> None:
    now_s = 0.0
    running = Watchdog(clock=lambda: now_s)
    with pytest.raises(ZeroDivisionError), running.one():
        raise ZeroDivisionError
    now_s = 1000.0

    running.check()


def test_calls_are_counted() -> None:
    running = Watchdog()
    with running.one() as first, running.one() as second:
        assert (first, second) == (1, 2)
    with running.one() as alone:
        assert alone == 1
