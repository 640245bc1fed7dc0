"""Calls of outside services: tried again where that can help, never beyond the deadline, not at all while it can't.

What is decided is decided by `retries` and `breaker` beside it; here is who asks the clock, sleeps, and
tells the log and the observers. It knows no service: an adapter turns a service's failures into AttemptFailed.

Why our own: tenacity and stamina bring the loop and leave all the rest to be written as their callbacks, and with
neither do an attempt's own timeout, the wait that the service asks for and what a fragment has left share one clock.
"""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from deployments.errors import DeadlineExceeded, RateLimitExceeded, Stage, StageError, TranslationUnavailable
from deployments.logs import get_logger
from deployments.resilience.breaker import BreakerLimits, BreakerState, CircuitBreaker
from deployments.resilience.retries import MIN_ATTEMPT_S, CallOutcome, Verdict, next_delay_s, verdict

T = TypeVar("T")

MAX_HOLD_S = 60.0
"""The longest that one Retry-After keeps other calls back."""

logger = get_logger(__name__)


class AttemptFailed(Exception):
    """One attempt failed.

    Args:
        outcome: the kind of failure.
        error: what the fragment's caller is told when it is not tried again.
        retry_after_s: what the service asks for.
    """

    def __init__(self, outcome: CallOutcome, error: StageError, retry_after_s: float | None = None) -> None:
        super().__init__(str(error))
        self.outcome = outcome
        self.error = error
        self.retry_after_s = retry_after_s


class CallObserver(Protocol):
    """Told of what happens between us and a service, from any thread; it must be quick and must not raise."""

    def attempted(self, service: str, outcome: CallOutcome, elapsed_s: float) -> None:
        """An attempt has ended, or was not made because the breaker is open."""

    def breaker_changed(self, service: str, state: BreakerState) -> None:
        """The breaker has a new state; told once at the start too."""


@runtime_checkable
class Observable(Protocol):
    """An engine that calls an outside service."""

    def observe(self, observer: CallObserver) -> None:
        """Tell this one too. To be called before `load`."""


@dataclass(frozen=True, slots=True)
class CallLimits:
    """How long and how often."""

    timeout_s: float
    """Of one attempt; less where the deadline is nearer."""
    max_attempts: int
    breaker: BreakerLimits


class ResilientCaller:
    """Calls one outside service, from any thread.

    Args:
        service: its name in logs and metrics.
        stage: named in errors.
        limits: how long and how often.
        observers: told of attempts and of the breaker.
        clock: seconds, monotonic.
        sleep: takes seconds, blocks.
        jitter: a number in [0, 1).
    """

    def __init__(
        self,
        service: str,
        stage: Stage,
        limits: CallLimits,
        observers: tuple[CallObserver, ...] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._service = service
        self._stage = stage
        self._limits = limits
        self._observers = observers
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._breaker = CircuitBreaker(limits.breaker, self._breaker_changed)
        self._hold_lock = threading.Lock()
        self._held_until_s = 0.0
        for observer in observers:
            observer.breaker_changed(service, self._breaker.state)

    @property
    def breaker_state(self) -> BreakerState:
        """Whether the service is being left alone."""
        return self._breaker.state

    def call(self, attempt: Callable[[float], T], give_up_at_s: float) -> T:
        """What `attempt` returns, tried as often as makes sense.

        Args:
            attempt: takes the seconds it may last; raises AttemptFailed.
            give_up_at_s: the deadline, by the caller's clock.

        Raises:
            DeadlineExceeded: there is no time for an attempt.
            RateLimitExceeded: the service has asked to be left alone beyond the deadline.
            TranslationUnavailable: the breaker is open.
            StageError: what the last attempt failed with.
        """
        n_attempts = 0
        while True:
            self._wait_for_hold(give_up_at_s)
            n_attempts += 1
            try:
                return self._attempt(attempt, n_attempts, give_up_at_s - self._clock())
            except AttemptFailed as failed:
                if failed.outcome is CallOutcome.RATE_LIMITED and failed.retry_after_s is not None:
                    self._hold(failed.retry_after_s)
                remaining_s = give_up_at_s - self._clock()
                delay_s = next_delay_s(failed.outcome, n_attempts, remaining_s, failed.retry_after_s, self._jitter())
                if delay_s is None or n_attempts >= self._limits.max_attempts:
                    raise failed.error from failed
            self._sleep(delay_s)

    def _attempt(self, attempt: Callable[[float], T], n_attempts: int, remaining_s: float) -> T:
        """One attempt, if there is time for it and the breaker lets it."""
        if remaining_s < MIN_ATTEMPT_S:
            raise DeadlineExceeded(self._stage, f"no time is left to ask {self._service}")
        started_s = self._clock()
        permit = self._breaker.admit(started_s)
        if permit is None:
            self._tell(CallOutcome.BREAKER_OPEN, 0.0)
            raise TranslationUnavailable(self._stage, f"{self._service} keeps failing and is left alone for a while")
        timeout_s = min(self._limits.timeout_s, remaining_s)
        outcome: CallOutcome | None = None
        try:
            answer = attempt(timeout_s)
            outcome = CallOutcome.SUCCESS
        except AttemptFailed as failed:
            outcome = failed.outcome
            logger.warning(
                "service_call_failed",
                service=self._service,
                outcome=outcome,
                code=failed.error.code,
                attempt=n_attempts,
                elapsed_ms=round((self._clock() - started_s) * 1000),
                retry_after_s=failed.retry_after_s,
            )
            raise
        finally:
            # Without an outcome it is a bug of ours, and the probe's place must come free all the same.
            ended_s = self._clock()
            told = Verdict.NOTHING if outcome is None else verdict(outcome, timeout_s)
            self._breaker.record(permit, told, ended_s)
            if outcome is not None:
                self._tell(outcome, ended_s - started_s)
        elapsed_ms = round((ended_s - started_s) * 1000)
        logger.debug("service_called", service=self._service, attempt=n_attempts, elapsed_ms=elapsed_ms)
        return answer

    def _hold(self, asked_s: float) -> None:
        with self._hold_lock:
            self._held_until_s = max(self._held_until_s, self._clock() + min(asked_s, MAX_HOLD_S))

    def _wait_for_hold(self, give_up_at_s: float) -> None:
        now_s = self._clock()
        held_s = self._held_until_s - now_s
        if held_s <= 0:
            return
        if now_s + held_s + MIN_ATTEMPT_S > give_up_at_s:
            self._tell(CallOutcome.RATE_LIMITED, 0.0)
            raise RateLimitExceeded(self._stage, f"{self._service} has asked for patience beyond the deadline")
        self._sleep(held_s)

    def _tell(self, outcome: CallOutcome, elapsed_s: float) -> None:
        for observer in self._observers:
            observer.attempted(self._service, outcome, elapsed_s)

    def _breaker_changed(self, state: BreakerState) -> None:
        log = logger.info if state is BreakerState.CLOSED else logger.warning
        log("breaker_changed", service=self._service, state=state)
        for observer in self._observers:
            observer.breaker_changed(self._service, state)
