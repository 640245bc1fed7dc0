"""The one in-flight count of a stream, its marks and its level. PURE."""

from enum import StrEnum
from typing import Literal

Action = Literal["none", "slow_down", "pause"]


class Level(StrEnum):
    """How full a stream is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


ACTIONS: dict[Level, Action] = {Level.LOW: "none", Level.MEDIUM: "slow_down", Level.HIGH: "pause"}
_RANK = {Level.LOW: 0, Level.MEDIUM: 1, Level.HIGH: 2}


class InFlight:
    """Fragments between acceptance and result, and the level that follows from their number.

    With m = `max_inflight` and c = `critical`: 1 … m is low, up to min(2m, c) medium, up to c high. Going up takes a
    count above a mark, going down one below it, so the level doesn't flap.
    """

    def __init__(self, max_inflight: int, critical: int) -> None:
        self._max_inflight = max_inflight
        self.critical = critical
        self.count = 0
        self._level = Level.LOW
        self._announced = False

    @property
    def full(self) -> bool:
        """Whether one more would exceed the critical limit."""
        return self.count >= self.critical

    @property
    def level(self) -> Level:
        """The level that was reached last."""
        return self._level

    def enter(self) -> Level | None:
        """One more; the level when the worker has to be told, that is at the first fragment and at a change."""
        self.count += 1
        reached = self._level_above()
        if _RANK[reached] > _RANK[self._level]:
            self._level = reached
        elif self._announced:
            return None
        self._announced = True
        return self._level

    def leave(self) -> Level | None:
        """One less; the level when it changed."""
        self.count -= 1
        low, medium = self._marks()
        settled = Level.LOW if self.count < low else Level.MEDIUM if self.count < medium else Level.HIGH
        if _RANK[settled] >= _RANK[self._level]:
            return None
        self._level = settled
        return settled

    def _marks(self) -> tuple[int, int]:
        return min(self._max_inflight, self.critical), min(2 * self._max_inflight, self.critical)

    def _level_above(self) -> Level:
        low, medium = self._marks()
        return Level.LOW if self.count <= low else Level.MEDIUM if self.count <= medium else Level.HIGH
