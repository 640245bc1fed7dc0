"""Fragments of different streams, gathered into one engine call. It knows neither audio nor Ray.

Why not `@serve.batch`: Ray closes a batch `batch_wait_timeout_s` after its first item also while an earlier batch still
computes (ray 2.60, `serve/batching.py`, `_process_batches` takes the items before it takes the semaphore), so under
load, when batching pays, batches stay as small as that wait is short; and a lone fragment waits that long for nobody.
Here a batch stays open until a slot is free, whoever's time runs out first goes first, and a fragment waits only for
fragments that are known to be on their way.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, TypeVar

from deployments.call_times import too_late
from deployments.errors import DeadlineExceeded, Stage, StageError
from deployments.forecast import Expectation

T = TypeVar("T")
R = TypeVar("R")


class Timer(Protocol):
    """Something that will happen unless it is cancelled."""

    def cancel(self) -> None:
        """Let it not happen."""


def _on_the_loop(delay_s: float, action: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(delay_s, action)


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting(Generic[T, R]):
    item: T
    arrived_s: float
    end_by_s: float
    answer: asyncio.Future[R]


class Gatherer(Generic[T, R]):
    """Makes calls of many items out of many callers with one item.

    Args:
        stage: named in errors.
        call: works on several items at once and answers one entry an item, in order: an answer, or why that one failed.
        slots: calls that may run at once.
        clock: seconds, monotonic.
        after: calls an action in so many seconds, on the loop.
    """

    def __init__(
        self,
        stage: Stage,
        call: Callable[[Sequence[T]], Awaitable[Sequence[R | StageError]]],
        slots: int = 1,
        clock: Callable[[], float] = time.monotonic,
        after: Callable[[float, Callable[[], None]], Timer] = _on_the_loop,
    ) -> None:
        self._stage = stage
        self._call = call
        self._slots = slots
        self._clock = clock
        self._after = after
        self._takes = Expectation()
        """Calls, whatever they hear."""
        self._max_batch_size = 1
        self._batch_wait_s = 0.0
        self._waiting: list[_Waiting[T, R]] = []
        self._coming = 0
        self._running: set[asyncio.Task[Sequence[R | StageError]]] = set()
        self._timer: Timer | None = None

    @property
    def n_waiting(self) -> int:
        """Items that wait for their call to begin."""
        return len(self._waiting)

    @property
    def at_once(self) -> int:
        """Items that are worked on at once, at most."""
        return self._slots * self._max_batch_size

    def configure(self, max_batch_size: int, batch_wait_ms: int) -> None:
        """Change the limits; what already waits is gathered under the new ones."""
        self._max_batch_size = max_batch_size
        self._batch_wait_s = batch_wait_ms / 1000
        self._advance()

    async def submit(self, coming: Awaitable[T], budget_ms: int) -> R:
        """Have one item worked on once it is there, together with others if there are any.

        Cancelled while it waits, it never starts; while it runs, the call goes on without it.

        Args:
            coming: makes the item; while that takes, the items that are there may wait for it.
            budget_ms: from now to the end of its call.

        Raises:
            QueueFull: its call can't end within `budget_ms`, as calls go; it was not begun.
            DeadlineExceeded: its call did not begin within `budget_ms`.
            StageError: what `coming` raised, or what the call said of this item or raised.
        """
        end_by_s = self._clock() + budget_ms / 1000
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._coming += 1
        try:
            item = await coming
            self._waiting.append(_Waiting(item, self._clock(), end_by_s, answer))
        finally:
            self._coming -= 1
            self._advance()
        return await answer

    def _advance(self) -> None:
        """Start what can start; set the timer for what waits for company."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while len(self._running) < self._slots:
            self._drop_the_late()
            if not self._waiting:
                return
            wait_s = self._wait_for_company_s()
            if wait_s > 0:
                self._timer = self._after(wait_s, self._advance)
                return
            self._start()

    def _drop_the_late(self) -> None:
        now_s = self._clock()
        needed_s = self._takes.at_worst(1)
        worth_a_try = not self._running and self._takes.worth_a_try_in_s(now_s) == 0
        for waiting in self._waiting:
            left_s = waiting.end_by_s - now_s
            if waiting.answer.done():
                continue
            if left_s <= 0:
                message = "the fragment's time ran out while it waited for a free slot"
                waiting.answer.set_exception(DeadlineExceeded(self._stage, message))
            elif needed_s > left_s and not worth_a_try:
                waiting.answer.set_exception(too_late(self._stage, self._takes.of(1), needed_s, left_s))
        self._waiting = [waiting for waiting in self._waiting if not waiting.answer.done()]

    def _wait_for_company_s(self) -> float:
        """Seconds until the batch may start as it is."""
        if len(self._waiting) >= self._max_batch_size or not self._coming:
            return 0.0
        return min(waiting.arrived_s for waiting in self._waiting) + self._batch_wait_s - self._clock()

    def _start(self) -> None:
        self._waiting.sort(key=lambda waiting: waiting.end_by_s)
        batch, self._waiting = self._waiting[: self._max_batch_size], self._waiting[self._max_batch_size :]
        work = self._work([waiting.item for waiting in batch])
        # A context of its own: what one fragment bound to its log lines is not said of the others.
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._running.add(task)
        task.add_done_callback(partial(self._finish, batch))

    async def _work(self, items: Sequence[T]) -> Sequence[R | StageError]:
        started_s = self._clock()
        answers = await self._call(items)
        now_s = self._clock()
        self._takes.learn(1, now_s - started_s, now_s)
        return answers

    def _finish(self, batch: Sequence[_Waiting[T, R]], task: asyncio.Task[Sequence[R | StageError]]) -> None:
        self._running.discard(task)
        if task.cancelled():
            for waiting in batch:
                waiting.answer.cancel()
        elif (error := task.exception()) is not None:
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
        else:
            for waiting, answer in zip(batch, task.result(), strict=True):
                _deliver(waiting, answer)
        self._advance()


def _deliver(waiting: _Waiting[T, R], answer: R | StageError) -> None:
    if waiting.answer.done():
        return
    if isinstance(answer, StageError):
        waiting.answer.set_exception(answer)
    else:
        waiting.answer.set_result(answer)
