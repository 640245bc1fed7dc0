"""Calls of several threads computed together: what waits while a model computes goes into its next batch.

Not on the loop, because an engine that makes sentences of a text, computes them together with others' and makes sound
of its own is one blocking call from beginning to end. Nobody waits for a batch to fill: the thread whose turn it is
takes what is there, its own and others', so an idle model starts at once and a busy one works on as many as it may.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

from deployments.batching.collection import BatchLimits, Collection, Waiting
from deployments.errors import TransientError

J = TypeVar("J")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Asked(Waiting[J], Generic[J, R]):
    answer: "Future[R]"


class ThreadGatherer(Generic[J, R]):
    """Runs jobs in batches, in the order in which they came.

    Args:
        compute: gives one result a job, in order. It is never called by two threads at once.
        max_batch: jobs in one call of `compute`.
    """

    def __init__(self, compute: Callable[[Sequence[J]], Sequence[R]], max_batch: int) -> None:
        self._compute = compute
        self._waiting: Collection[_Asked[J, R]] = Collection(BatchLimits(max_batch))
        self._guard = Lock()
        self._turn = Lock()

    def run(self, jobs: Sequence[J]) -> list[R]:
        """The results of one caller's jobs, in order.

        Raises what `compute` raised for one of them. When a batch fails for a passing reason, each of its jobs is
        tried again alone, so that one caller's job doesn't fail another's.
        """
        mine: list[_Asked[J, R]] = [_Asked(job, answer=Future()) for job in jobs]
        with self._guard:
            for one in mine:
                self._waiting.add(one)
        try:
            return [self._seen_to(one.answer) for one in mine]
        finally:
            with self._guard:
                self._waiting.keep(lambda one: one not in mine)

    def _seen_to(self, answer: "Future[R]") -> R:
        while not answer.done():
            with self._turn:
                if not answer.done():
                    with self._guard:
                        batch = self._waiting.take()
                    self._answer(batch)
        return answer.result()

    def _answer(self, batch: Sequence[_Asked[J, R]]) -> None:
        try:
            results = self._compute([one.item for one in batch])
            answered = list(zip(batch, results, strict=True))
        except Exception as error:  # noqa: BLE001 - it belongs to the threads that wait for it
            again = isinstance(error, TransientError) and len(batch) > 1
            for one in batch:
                if again:
                    self._answer([one])
                else:
                    one.answer.set_exception(error)
        else:
            for one, result in answered:
                one.answer.set_result(result)
