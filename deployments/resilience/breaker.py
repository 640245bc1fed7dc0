"""A circuit breaker: leaves a service alone that has failed again and again, then asks with one call at a time.

    closed     --failures in a row-->            open
    open       --after a while, on a call-->     half_open
    half_open  --successes in a row-->           closed
    half_open  --one failure-->                  open

It knows no clock and no service. Why our own: pybreaker holds its lock while a call runs, so only one call runs at a
time, and reads the wall clock; purgatory lets every call through while half-open, and one success closes it.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from deployments.resilience.retries import Verdict


class BreakerState(StrEnum):
    """Whether calls go through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """When the state changes."""

    open_after_failures: int
    """In a row."""
    half_open_after_s: float
    close_after_successes: int


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one call; to be handed back with `record`, whatever came of it."""

    period: int
    """Counts state changes: what was begun in an earlier state says nothing about this one."""


class CircuitBreaker:
    """One service's breaker. Any thread may use it; time is an argument, seconds, monotonic.

    Args:
        limits: when the state changes.
        changed: told of every new state, in order and inside the lock: it must be quick and must not call back.
    """

    def __init__(self, limits: BreakerLimits, changed: Callable[[BreakerState], None] = lambda _: None) -> None:
        self._limits = limits
        self._changed = changed
        self._lock = threading.Lock()
        self._state = BreakerState.CLOSED
        self._period = 0
        self._in_a_row = 0
        self._open_until_s = 0.0
        self._probing = False

    @property
    def state(self) -> BreakerState:
        """The state; open until a call finds that it may be the probe."""
        return self._state

    def admit(self, now_s: float) -> Permit | None:
        """Leave for one call, or None: the service is to be left alone."""
        with self._lock:
            if self._state is BreakerState.OPEN and now_s >= self._open_until_s:
                self._enter(BreakerState.HALF_OPEN)
            if self._state is BreakerState.OPEN or self._probing:
                return None
            self._probing = self._state is BreakerState.HALF_OPEN
            return Permit(self._period)

    def record(self, permit: Permit, verdict: Verdict, now_s: float) -> None:
        """Hand a permit back with what the call told."""
        with self._lock:
            if permit.period != self._period:
                return
            self._probing = False
            if self._state is BreakerState.CLOSED:
                self._record_closed(verdict, now_s)
            else:
                self._record_probe(verdict, now_s)

    def _record_closed(self, verdict: Verdict, now_s: float) -> None:
        if verdict is Verdict.ALIVE:
            self._in_a_row = 0
        elif verdict is Verdict.FAILING:
            self._in_a_row += 1
            if self._in_a_row >= self._limits.open_after_failures:
                self._open(now_s)

    def _record_probe(self, verdict: Verdict, now_s: float) -> None:
        if verdict is Verdict.FAILING:
            self._open(now_s)
        elif verdict is Verdict.ALIVE:
            self._in_a_row += 1
            if self._in_a_row >= self._limits.close_after_successes:
                self._enter(BreakerState.CLOSED)

    def _open(self, now_s: float) -> None:
        self._open_until_s = now_s + self._limits.half_open_after_s
        self._enter(BreakerState.OPEN)

    def _enter(self, state: BreakerState) -> None:
        self._state = state
        self._period += 1
        self._in_a_row = 0
        self._probing = False
        self._changed(state)
