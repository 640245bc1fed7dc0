"""Blocking model calls off the event loop, never more at once than a replica says.

A thread that computes can't be stopped. It keeps its slot until it is done, whoever has stopped waiting for it, so a
replica never runs more calls than `slots`. What still waits when its time is up, or when its caller has gone, never
starts.
"""

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from deployments.errors import DeadlineExceeded, ModelFailed, Stage, StageError
from deployments.logs import get_logger
from deployments.replica.call_times import CallTimes, too_late
from deployments.replica.utilisation import Utilisation
from deployments.replica.watchdog import WEDGED_AFTER_S, Watchdog

T = TypeVar("T")

log = get_logger(__name__)
NICENESS = 5
"""Of threads that compute: where models take all cores of a machine, its sockets are answered first."""


def stand_back() -> None:
    """Let the calling thread, and what it starts from now on, give way to all that answers somebody."""
    if os.getpriority(os.PRIO_PROCESS, 0) < NICENESS:
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)


def aside(load: Callable[[], T]) -> T:
    """Load a model in a thread that stands back, as the threads do that the model's runtime starts meanwhile."""
    with ThreadPoolExecutor(1, initializer=stand_back) as pool:
        return pool.submit(load).result()


class ThreadPool:
    """The threads of one replica.

    Args:
        stage: what the replica does; named in errors and thread names.
        slots: how many calls may compute at once.
        clock: seconds, monotonic.
        wedged_after_s: how long a call may take before `check` says that it hangs.
    """

    def __init__(
        self,
        stage: Stage,
        slots: int,
        clock: Callable[[], float] = time.monotonic,
        wedged_after_s: float = WEDGED_AFTER_S,
    ) -> None:
        self.workload = Utilisation(slots, clock)
        self._stage = stage
        self._clock = clock
        self._running = Watchdog(wedged_after_s, clock)
        self._times = CallTimes(slots)
        self._pool = ThreadPoolExecutor(
            max_workers=slots, thread_name_prefix=f"livedub-{stage}", initializer=stand_back
        )

    async def run(self, work: Callable[[], T], budget_ms: int, n_fragments: int = 1, size: float | None = None) -> T:
        """Run `work`, which computes so many fragments, in a thread.

        Args:
            work: blocks.
            budget_ms: from now to its beginning; with a size, to its end.
            n_fragments: that it computes.
            size: what its length follows, such as a count of characters; None: its length is not foretold.

        Raises:
            QueueFull: it can't end within `budget_ms`, as calls of its size go; nothing was started.
            DeadlineExceeded: no slot came free within `budget_ms`; nothing was started.
            StageError: what `work` raised; anything else that it raised arrives as ModelFailed.
        """
        start_by = self._clock() + budget_ms / 1000
        call = self._times.come(size, start_by, self._clock())
        if call.refused:
            raise too_late(self._stage, call.expected_s, call.needed_s, call.left_s)

        def guarded() -> T:
            if self._clock() >= start_by:
                raise DeadlineExceeded(self._stage, "the fragment's time ran out while it waited for a free slot")
            if not self._times.may_start(call, self._clock()):
                raise too_late(self._stage, call.expected_s, call.needed_s, call.left_s)
            try:
                with self.workload.one(n_fragments), self._running.one() as n_computing:
                    log.debug("computing", n_computing=n_computing)
                    return work()
            except StageError:
                raise
            except Exception as error:
                raise ModelFailed(self._stage, f"{type(error).__name__}: {error}"[:500]) from error

        # Log lines of the thread then carry the fragment's identity too.
        computing = self._pool.submit(copy_context().run, guarded)
        computing.add_done_callback(lambda done: self._times.over(call, self._clock(), well=_computed(done)))
        return await asyncio.wrap_future(computing)

    def assume(self, took_s: float) -> None:
        """Calls take so long, by a measurement, until one has been seen."""
        self._times.assume(took_s, self._clock())

    def check(self) -> None:
        """Raise RuntimeError when a call hangs. For Serve's `check_health`."""
        self._running.check()

    def close(self) -> None:
        """Start nothing more; do not wait for what runs."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _computed(done: "Future[T]") -> bool:
    """Whether a call went all its way; one that came too late did."""
    return not done.cancelled() and isinstance(done.exception(), DeadlineExceeded | None)
