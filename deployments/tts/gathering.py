"""Calls of several threads computed together: what waits while a model computes goes into its next batch.

Nobody waits for a batch to fill. The thread whose turn it is takes what is there, its own and others', so an idle model
starts at once and a busy one works on as many as it may.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

from deployments.errors import TransientError

J = TypeVar("J")
R = TypeVar("R")


@dataclass(slots=True, eq=False)
class _Place(Generic[J, R]):
    job: J
    results: tuple[R, ...] = ()
    """One once it is done, none before and none if it failed."""
    error: Exception | None = None

    @property
    def done(self) -> bool:
        return bool(self.results) or self.error is not None


class Gathering(Generic[J, R]):
    """Runs jobs in batches, in the order in which they came.

    Args:
        compute: gives one result a job, in order. It is never called by two threads at once.
        max_batch: jobs in one call of `compute`.
    """

    def __init__(self, compute: Callable[[Sequence[J]], Sequence[R]], max_batch: int) -> None:
        self._compute = compute
        self._max_batch = max_batch
        self._waiting: list[_Place[J, R]] = []
        self._guard = Lock()
        self._turn = Lock()

    def run(self, jobs: Sequence[J]) -> list[R]:
        """The results of one caller's jobs, in order.

        Raises what `compute` raised for one of them. When a batch fails for a passing reason, each of its jobs is
        tried again alone, so that one caller's job doesn't fail another's.
        """
        mine = [_Place[J, R](job) for job in jobs]
        with self._guard:
            self._waiting.extend(mine)
        try:
            for place in mine:
                self._see_to(place)
        finally:
            with self._guard:
                self._waiting = [place for place in self._waiting if place not in mine]
        return [place.results[0] for place in mine]

    def _see_to(self, place: _Place[J, R]) -> None:
        while not place.done:
            with self._turn:
                if not place.done:
                    self._compute_next()
        if place.error is not None:
            raise place.error

    def _compute_next(self) -> None:
        with self._guard:
            batch = self._waiting[: self._max_batch]
            del self._waiting[: self._max_batch]
        try:
            self._fill(batch)
        except TransientError as error:
            if len(batch) == 1:
                batch[0].error = error
                return
            for place in batch:
                self._fill_alone(place)
        except Exception as error:  # noqa: BLE001 - it belongs to the threads that wait for it
            for place in batch:
                place.error = error

    def _fill_alone(self, place: _Place[J, R]) -> None:
        try:
            self._fill([place])
        except Exception as error:  # noqa: BLE001 - it belongs to the thread that waits for it
            place.error = error

    def _fill(self, batch: Sequence[_Place[J, R]]) -> None:
        results = self._compute([place.job for place in batch])
        for place, result in zip(batch, results, strict=True):
            place.results = (result,)
