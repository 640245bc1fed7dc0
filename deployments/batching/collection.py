"""Which of the items that wait go into the next call together, and when. PURE.

Items of one key fit into one call. They go once there are as many as a call takes, or once the first of them has waited
long enough for others. Whoever's time runs out first goes first; among equals, who came first. Those that give way go
behind all others.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How items are gathered."""

    max_batch_size: int = 1
    batch_wait_ms: int = 0
    """The longest that the first item waits for others."""


@dataclass(frozen=True, slots=True, eq=False)
class Waiting(Generic[T]):
    """One item. Times are in seconds of one clock."""

    item: T
    key: Hashable = None
    arrived_s: float = 0.0
    end_by_s: float = math.inf
    gives_way: bool = False

    @property
    def order(self) -> tuple[bool, float]:
        """The lowest goes first."""
        return self.gives_way, self.end_by_s


W = TypeVar("W", bound=Waiting[Any])


class Collection(Generic[W]):
    """What waits, in order of arrival.

    Args:
        limits: may be replaced; what waits is gathered under the new ones.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self.limits = limits
        self._waiting: list[W] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[W]:
        return iter(self._waiting)

    def add(self, one: W) -> None:
        """One more waits."""
        self._waiting.append(one)

    def keep(self, wanted: Callable[[W], bool]) -> None:
        """All others wait no longer."""
        self._waiting = [one for one in self._waiting if wanted(one)]

    def ready_in_s(self, now_s: float, *, company: bool) -> float:
        """Seconds until `take` gives something, as things are; infinite when nothing waits."""
        return min((self._wait_s(group, now_s, company=company) for group in self._groups()), default=math.inf)

    def take(self, now_s: float = 0.0, *, company: bool = False) -> list[W]:
        """The items of the next call, which wait no longer; none before there is one to be made.

        Args:
            now_s: the time.
            company: whether others may come that are worth waiting for.
        """
        ready = [group for group in self._groups() if self._wait_s(group, now_s, company=company) <= 0]
        in_order = [sorted(group, key=lambda one: one.order) for group in ready]
        batch = min(in_order, key=lambda group: group[0].order, default=[])[: self.limits.max_batch_size]
        self.keep(lambda one: one not in batch)
        return batch

    def _groups(self) -> Sequence[Sequence[W]]:
        groups: dict[Hashable, list[W]] = defaultdict(list)
        for one in self._waiting:
            groups[one.key].append(one)
        return list(groups.values())

    def _wait_s(self, group: Sequence[W], now_s: float, *, company: bool) -> float:
        if len(group) >= self.limits.max_batch_size or not company:
            return 0.0
        return max(0.0, group[0].arrived_s + self.limits.batch_wait_ms / 1000 - now_s)
