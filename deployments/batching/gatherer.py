"""Items of different streams, gathered into one call. It knows neither audio nor texts, nor Ray.

Why not `@serve.batch`: Ray closes a batch `batch_wait_timeout_s` after its first item also while an earlier batch still
computes (ray 2.60, `serve/batching.py`, `_process_batches` takes the items before it takes the semaphore), so under
load, when batching pays, batches stay as small as that wait is short; and a lone fragment waits that long for nobody.
Here a batch stays open until a slot is free, whoever's time runs out first goes first, and a fragment need not wait for
fragments that nobody knows to be on their way.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, TypeVar

from deployments.batching.collection import BatchLimits, Collection, Waiting
from deployments.errors import DeadlineExceeded, Stage, StageError
from deployments.forecast import Expectation
from deployments.replica.call_times import too_late

T = TypeVar("T")
R = TypeVar("R")


class Timer(Protocol):
    """Something that will happen unless it is cancelled."""

    def cancel(self) -> None:
        """Let it not happen."""


def _on_the_loop(delay_s: float, action: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(delay_s, action)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Asked(Waiting[T], Generic[T, R]):
    answer: asyncio.Future[R]
    context: Context
    """The caller's, such as what its log lines say of the fragment."""


class Gatherer(Generic[T, R]):
    """Makes calls of many items out of many callers with one item. For one event loop.

    Args:
        stage: named in errors.
        call: works on several items at once and answers one entry an item, in order: an answer, or why that one failed.
        limits: how they are gathered.
        slots: calls that may run at once.
        waits_for_all: an item waits for others whether or not any are known to be on their way.
        foretells: a call takes as long as those before it, so that what it would answer too late is refused.
        clock: seconds, monotonic.
        after: calls an action in so many seconds, on the loop.
    """

    def __init__(
        self,
        stage: Stage,
        call: Callable[[Sequence[T]], Awaitable[Sequence[R | StageError]]],
        limits: BatchLimits,
        slots: int = 1,
        *,
        waits_for_all: bool = False,
        foretells: bool = False,
        clock: Callable[[], float] = time.monotonic,
        after: Callable[[float, Callable[[], None]], Timer] = _on_the_loop,
    ) -> None:
        self._stage = stage
        self._call = call
        self._slots = slots
        self._waits_for_all = waits_for_all
        self._foretells = foretells
        self._clock = clock
        self._after = after
        self._takes = Expectation()
        """Calls, whatever is in them; nothing is expected where nothing is foretold."""
        self._waiting: Collection[_Asked[T, R]] = Collection(limits)
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
        return self._slots * self._waiting.limits.max_batch_size

    def configure(self, limits: BatchLimits) -> None:
        """Change the limits; what already waits is gathered under the new ones."""
        self._waiting.limits = limits
        self._advance()

    async def submit(self, item: T, budget_ms: int, key: Hashable = None) -> R:
        """Have one item worked on, together with others of its key if there are any.

        Cancelled while it waits, it never starts; while it runs, the call goes on without it.

        Args:
            item: what the call takes.
            budget_ms: from now to the end of its call.
            key: items with equal keys fit into one call.

        Raises:
            QueueFull: its call can't end within `budget_ms`, as calls go; it was not begun.
            DeadlineExceeded: its call did not begin within `budget_ms`.
            StageError: what the call said of this item, or raised.
        """
        answer = self._add(item, self._clock() + budget_ms / 1000, key)
        self._advance()
        return await answer

    async def submit_coming(self, coming: Awaitable[T], budget_ms: int, *, gives_way: bool = False) -> R:
        """The same for an item that is on its way; while that takes, the items that are there may wait for it.

        Args:
            coming: gives the item.
            budget_ms: from now to the end of its call.
            gives_way: whether all others that wait go first.

        Raises:
            StageError: what `coming` raised, or as `submit`.
        """
        end_by_s = self._clock() + budget_ms / 1000
        self._coming += 1
        try:
            answer = self._add(await coming, end_by_s, gives_way=gives_way)
        finally:
            self._coming -= 1
            self._advance()
        return await answer

    def _add(self, item: T, end_by_s: float, key: Hashable = None, *, gives_way: bool = False) -> asyncio.Future[R]:
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        asked = _Asked(item, key, self._clock(), end_by_s, gives_way, answer=answer, context=copy_context())
        self._waiting.add(asked)
        return answer

    def _advance(self) -> None:
        """Start what can start; set the timer for what waits for company."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while len(self._running) < self._slots:
            self._drop_the_late()
            if not self._waiting:
                return
            now_s, company = self._clock(), self._waits_for_all or self._coming > 0
            batch = self._waiting.take(now_s, company=company)
            if not batch:
                self._timer = self._after(self._waiting.ready_in_s(now_s, company=company), self._advance)
                return
            self._start(batch)

    def _drop_the_late(self) -> None:
        now_s = self._clock()
        for one in self._waiting:
            error = None if one.answer.done() else self._refusal(one.end_by_s - now_s, now_s)
            if error is not None:
                one.answer.set_exception(error)
        self._waiting.keep(lambda one: not one.answer.done())

    def _refusal(self, left_s: float, now_s: float) -> StageError | None:
        """Why an item that has so long left is not begun."""
        if left_s <= 0:
            return DeadlineExceeded(self._stage, "the fragment's time ran out while it waited for a free slot")
        needed_s = self._takes.at_worst(1)
        worth_a_try = not self._running and self._takes.worth_a_try_in_s(now_s) == 0
        if needed_s <= left_s or worth_a_try:
            return None
        return too_late(self._stage, self._takes.of(1), needed_s, left_s)

    def _start(self, batch: Sequence[_Asked[T, R]]) -> None:
        # One of several gets no context: what one fragment bound to its log lines is not said of the others.
        context = batch[0].context if len(batch) == 1 else Context()
        task = asyncio.get_running_loop().create_task(self._work([one.item for one in batch]), context=context)
        self._running.add(task)
        task.add_done_callback(partial(self._finish, batch))

    async def _work(self, items: Sequence[T]) -> Sequence[R | StageError]:
        started_s = self._clock()
        answers = await self._call(items)
        now_s = self._clock()
        if self._foretells:
            self._takes.learn(1, now_s - started_s, now_s)
        return answers

    def _finish(self, batch: Sequence[_Asked[T, R]], task: asyncio.Task[Sequence[R | StageError]]) -> None:
        self._running.discard(task)
        waiting = [one.answer for one in batch]
        if task.cancelled():
            for answer in waiting:
                answer.cancel()
        else:
            error = task.exception()
            answers = task.result() if error is None else [error] * len(batch)
            for answer, told in zip(waiting, answers, strict=True):
                _deliver(answer, told)
        self._advance()


def _deliver(answer: asyncio.Future[R], told: R | BaseException) -> None:
    if answer.done():
        return
    if isinstance(told, BaseException):
        answer.set_exception(told)
    else:
        answer.set_result(told)
