"""The one in-flight count of a stream, its marks and its level. PURE.

Protocol: In flight and backpressure.
"""

import math
from enum import StrEnum
from typing import Literal

Action = Literal["none", "slow_down", "pause"]


class Level(StrEnum):
    """How full a stream is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


ACTIONS: dict[Level, Action] = {Level.LOW: "none", Level.MEDIUM: "slow_down", Level.HIGH: "pause"}
SLOW_DOWN, PAUSE = 0.75, 1.0
"""Shares of the wait that one more fragment could afford, above which a worker should slow down or pause."""
EASED = 0.5
"""Below this share it goes on as before."""
_RANK = {Level.LOW: 0, Level.MEDIUM: 1, Level.HIGH: 2}


class InFlight:
    """Fragments between acceptance and result, and the level that follows from their number and from time.

    By number, with m = `max_inflight` and c = `critical`: 1 … m is low, up to min(2m, c) medium, up to c high. By time:
    low while one more fragment would be done in time with some to spare, high when it would be late. The higher of the
    two counts. Going up takes more than a mark, going down less than one below it, so the level doesn't flap.
    """

    def __init__(self, max_inflight: int, critical: int) -> None:
        self._max_inflight = max_inflight
        self.critical = critical
        self.count = 0
        self.by_count = Level.LOW
        """The level that their number alone has reached."""
        self._by_time = Level.LOW
        self._announced = False

    @property
    def full(self) -> bool:
        """Whether one more would exceed the critical limit."""
        return self.count >= self.critical

    @property
    def level(self) -> Level:
        """The level that was reached last."""
        return max(self.by_count, self._by_time, key=_RANK.__getitem__)

    def enter(self, waits_s: float = 0.0, affordable_s: float = 0.0) -> Level | None:
        """One more; the level when the worker has to be told, that is at the first fragment and at a change.

        Args:
            waits_s: how long yet another fragment would wait.
            affordable_s: how long it could wait and still be in time.
        """
        before = self.level
        self.count += 1
        self._settle(waits_s, affordable_s)
        if self.level is before and self._announced:
            return None
        self._announced = True
        return self.level

    def leave(self, waits_s: float = 0.0, affordable_s: float = 0.0) -> Level | None:
        """One less; the level when it changed."""
        before = self.level
        self.count -= 1
        self._settle(waits_s, affordable_s)
        return None if self.level is before else self.level

    def _settle(self, waits_s: float, affordable_s: float) -> None:
        low, medium = min(self._max_inflight, self.critical), min(2 * self._max_inflight, self.critical)
        self.by_count = _moved(self.by_count, self.count, (low, medium), (low, medium))
        if self.count == 0:  # who has nothing in flight would hear nothing that lets it go on
            waits_s = 0.0
        share = math.inf if affordable_s <= 0 else waits_s / affordable_s
        up, down = (SLOW_DOWN, PAUSE), (EASED, SLOW_DOWN)
        self._by_time = Level.LOW if waits_s <= 0 else _moved(self._by_time, share, up, down)


def _moved(level: Level, value: float, up: tuple[float, float], down: tuple[float, float]) -> Level:
    """The level that a value leads to: up above the marks of `up`, down below those of `down`."""
    raised = Level.LOW if value <= up[0] else Level.MEDIUM if value <= up[1] else Level.HIGH
    settled = Level.LOW if value < down[0] else Level.MEDIUM if value < down[1] else Level.HIGH
    if _RANK[raised] > _RANK[level]:
        return raised
    return settled if _RANK[settled] < _RANK[level] else level
