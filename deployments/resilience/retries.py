"""When a call of an outside service is made again, and what a failure tells about the service. PURE."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from types import MappingProxyType

MIN_ATTEMPT_S = 0.1
"""An attempt with less time than this is not worth making."""
FAIR_TIMEOUT_S = 1.0
"""A service that does not answer within less than this may still be well."""
JITTER = 0.1
"""Waits grow by up to this share, so that calls that failed together don't come back together."""


class Verdict(StrEnum):
    """What a call tells about the service."""

    ALIVE = "alive"
    """It answered, be it with a refusal."""
    FAILING = "failing"
    NOTHING = "nothing"
    """Neither: the call was given up for reasons of its own, or the service asks for patience."""


class CallOutcome(StrEnum):
    """What became of an attempt. Bounded: a metric's label."""

    SUCCESS = "success"
    REFUSED = "refused"
    """400, 401, 403, 404, 413, quota: the same again is refused again."""
    RATE_LIMITED = "rate_limited"
    """429."""
    SERVER_ERROR = "server_error"
    """500, 502, 504, or an answer that is none."""
    OVERLOADED = "overloaded"
    """503."""
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed_out"
    BREAKER_OPEN = "breaker_open"
    """Not tried."""


DELAYS_S: Mapping[CallOutcome, tuple[float, ...]] = MappingProxyType(
    {
        CallOutcome.RATE_LIMITED: (1.0, 2.0, 4.0, 8.0),
        CallOutcome.SERVER_ERROR: (0.0, 0.5, 1.0),
        CallOutcome.OVERLOADED: (1.0, 3.0, 5.0),
        CallOutcome.UNREACHABLE: (0.0, 0.1, 1.0, 3.0, 5.0),
        CallOutcome.TIMED_OUT: (0.0, 0.1, 1.0, 3.0, 5.0),
    }
)
"""Seconds before the second attempt, the third, …; what isn't here is not tried again."""


def next_delay_s(
    outcome: CallOutcome, n_attempts: int, remaining_s: float, asked_s: float | None = None, jitter: float = 0.0
) -> float | None:
    """Seconds to wait before the next attempt; None: there is to be none.

    Args:
        outcome: of the attempt that failed.
        n_attempts: made so far, 1 or more.
        remaining_s: until the deadline.
        asked_s: what the service asks for; it is never asked earlier.
        jitter: in [0, 1].
    """
    delays_s = DELAYS_S.get(outcome, ())
    if n_attempts > len(delays_s):
        return None
    delay_s = (delays_s[n_attempts - 1] if asked_s is None else asked_s) * (1 + JITTER * jitter)
    return delay_s if delay_s + MIN_ATTEMPT_S <= remaining_s else None


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for, be it a number or an HTTP date; None: it says nothing readable."""
    text = (header or "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text, re.ASCII):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds())


def verdict(outcome: CallOutcome, timeout_s: float) -> Verdict:
    """What an attempt with so much time tells about the service.

    A refusal is an answer. Asking for patience is no failure: opening the breaker for it would be a longer outage than
    what was asked for. And a fragment that came late, with little time left, proves nothing.
    """
    if outcome in (CallOutcome.SUCCESS, CallOutcome.REFUSED):
        return Verdict.ALIVE
    if outcome is CallOutcome.RATE_LIMITED or (outcome is CallOutcome.TIMED_OUT and timeout_s < FAIR_TIMEOUT_S):
        return Verdict.NOTHING
    return Verdict.FAILING
