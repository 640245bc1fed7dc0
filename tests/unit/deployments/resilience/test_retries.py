"""What is tried again, when, and what a failure tells about the service."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.resilience.retries import (
    DELAYS_S,
    MIN_ATTEMPT_S,
    CallOutcome,
    Verdict,
    next_delay_s,
    retry_after_s,
    verdict,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("outcome", "delays_s"),
    [
        (CallOutcome.REFUSED, []),
        (CallOutcome.BREAKER_OPEN, []),
        (CallOutcome.RATE_LIMITED, [1.0, 2.0, 4.0, 8.0]),
        (CallOutcome.SERVER_ERROR, [0.0, 0.5, 1.0]),
        (CallOutcome.OVERLOADED, [1.0, 3.0, 5.0]),
        (CallOutcome.UNREACHABLE, [0.0, 0.1, 1.0, 3.0, 5.0]),
        (CallOutcome.TIMED_OUT, [0.0, 0.1, 1.0, 3.0, 5.0]),
    ],
)
def test_each_failure_has_its_waits(outcome, delays_s):
    waits = [next_delay_s(outcome, n_attempts, 1000.0) for n_attempts in range(1, len(delays_s) + 2)]
    assert waits == [*delays_s, None]


def test_what_the_service_asks_for_comes_before_the_plan():
    assert next_delay_s(CallOutcome.RATE_LIMITED, 1, 10.0, asked_s=3.0) == 3.0
    assert next_delay_s(CallOutcome.RATE_LIMITED, 3, 10.0, asked_s=0.0) == 0.0
    assert next_delay_s(CallOutcome.RATE_LIMITED, 1, 10.0, asked_s=10.0) is None
    assert next_delay_s(CallOutcome.REFUSED, 1, 10.0, asked_s=1.0) is None


@given(
    st.sampled_from(CallOutcome),
    st.integers(1, 12),
    st.floats(-5, 40),
    st.none() | st.floats(0, 100),
    st.floats(0, 1),
)
def test_a_wait_is_never_shorter_than_asked_and_never_ends_beyond_the_deadline(
    outcome, n_attempts, remaining_s, asked_s, jitter
):
    delay_s = next_delay_s(outcome, n_attempts, remaining_s, asked_s, jitter)
    if delay_s is None:
        return
    assert delay_s + MIN_ATTEMPT_S <= remaining_s
    assert delay_s >= (DELAYS_S[outcome][n_attempts - 1] if asked_s is None else asked_s)


@pytest.mark.parametrize(
    ("header", "expected_s"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("1.5", 1.5),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30.0),
        ("Sun, 01 Mar 2026 14:00:30 +0200", 30.0),
        ("Sun, 01 Mar 2026 12:00:30 -0000", 30.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-3", None),
        ("inf", None),
        ("1e9", None),
        ("٣", None),
        ("9" * 400, None),
        ("Sun, 99 Mar 2026 12:00:30 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header, expected_s):
    assert retry_after_s(header, NOW) == expected_s


@given(st.text(max_size=40))
def test_no_header_is_too_odd(header):
    seconds = retry_after_s(header, NOW)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("outcome", "timeout_s", "told"),
    [
        (CallOutcome.SUCCESS, 5.0, Verdict.ALIVE),
        (CallOutcome.REFUSED, 5.0, Verdict.ALIVE),
        (CallOutcome.RATE_LIMITED, 5.0, Verdict.NOTHING),
        (CallOutcome.SERVER_ERROR, 0.2, Verdict.FAILING),
        (CallOutcome.OVERLOADED, 5.0, Verdict.FAILING),
        (CallOutcome.UNREACHABLE, 5.0, Verdict.FAILING),
        (CallOutcome.TIMED_OUT, 1.0, Verdict.FAILING),
        (CallOutcome.TIMED_OUT, 0.9, Verdict.NOTHING),
    ],
)
def test_only_failures_of_the_service_count_against_it(outcome, timeout_s, told):
    assert verdict(outcome, timeout_s) is told
