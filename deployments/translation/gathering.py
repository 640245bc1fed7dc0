"""Texts of different streams, gathered into one engine call. It knows neither engines nor Ray.

For engines that ask a service: the calls run side by side anyway, so gathering saves requests, not computing time, and
a text waits for company a few milliseconds at most.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, TypeVar, runtime_checkable

from deployments.contracts import TranslateRequest
from deployments.errors import StageError

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How texts are gathered."""

    max_batch_size: int
    batch_wait_ms: int
    """The longest that the first text waits for others."""


@runtime_checkable
class Batching(Protocol):
    """What an engine has beside its protocol when several texts are better given to it at once."""

    @property
    def batch_limits(self) -> BatchLimits:
        """How many, and how long to wait for them."""

    def batch_key(self, request: TranslateRequest) -> Hashable:
        """Requests with equal keys fit into one call."""


class Timer(Protocol):
    """Something that will happen unless it is cancelled."""

    def cancel(self) -> None:
        """Let it not happen."""


def _on_the_loop(delay_s: float, action: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(delay_s, action)


@dataclass(frozen=True, slots=True)
class _Batch(Generic[T, R]):
    items: list[tuple[T, asyncio.Future[R]]]
    timer: Timer


class Gatherer(Generic[T, R]):
    """Makes calls of many items out of many callers with one item. For one event loop.

    Args:
        call: works on several items of one key and answers one entry an item, in order.
        limits: how they are gathered.
        after: calls an action in so many seconds, on the loop.
    """

    def __init__(
        self,
        call: Callable[[Sequence[T]], Awaitable[Sequence[R | StageError]]],
        limits: BatchLimits,
        after: Callable[[float, Callable[[], None]], Timer] = _on_the_loop,
    ) -> None:
        self._call = call
        self._limits = limits
        self._after = after
        self._open: dict[Hashable, _Batch[T, R]] = {}
        self._running: set[asyncio.Task[Sequence[R | StageError]]] = set()

    async def submit(self, key: Hashable, item: T) -> R:
        """Have one item worked on, together with others of its key if there are any.

        Cancelled while it waits, it never starts; while it runs, the call goes on without it as long as it is for
        anybody, and is cancelled with the last one.

        Raises:
            StageError: what the call said of this item, or raised.
        """
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        batch = self._open.get(key)
        if batch is None:
            timer = self._after(self._limits.batch_wait_ms / 1000, lambda: self._start(key))
            batch = self._open[key] = _Batch([], timer)
        batch.items.append((item, answer))
        if len(batch.items) >= self._limits.max_batch_size:
            self._start(key)
        return await answer

    def _start(self, key: Hashable) -> None:
        batch = self._open.pop(key)
        batch.timer.cancel()
        wanted = [(item, answer) for item, answer in batch.items if not answer.done()]
        if wanted:
            # A context of its own: what one fragment bound to its log lines is not said of the others.
            work = self._work([item for item, _ in wanted])
            task = asyncio.get_running_loop().create_task(work, context=Context())
            self._running.add(task)
            answers = [answer for _, answer in wanted]
            task.add_done_callback(partial(self._finish, answers))
            for answer in answers:
                answer.add_done_callback(partial(self._cancel_if_for_nobody, task, answers))

    @staticmethod
    def _cancel_if_for_nobody(
        task: asyncio.Task[Sequence[R | StageError]], answers: Sequence[asyncio.Future[R]], _: asyncio.Future[R]
    ) -> None:
        if all(answer.done() for answer in answers):
            task.cancel()

    async def _work(self, items: Sequence[T]) -> Sequence[R | StageError]:
        return await self._call(items)

    def _finish(self, answers: Sequence[asyncio.Future[R]], task: asyncio.Task[Sequence[R | StageError]]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        results = [error] * len(answers) if task.cancelled() or error is not None else task.result()
        for answer, result in zip(answers, results, strict=True):
            if answer.done():
                continue
            if result is None:
                answer.cancel()
            elif isinstance(result, BaseException):
                answer.set_exception(result)
            else:
                answer.set_result(result)
