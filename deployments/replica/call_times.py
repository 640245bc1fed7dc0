"""How long the calls of one replica take, and which of them can't end in time. No clock, no thread of its own."""

import math
import threading
from dataclasses import dataclass

from deployments.errors import QueueFull, Stage
from deployments.forecast import EXPECTED_MS, Expectation, Lane


@dataclass(eq=False, slots=True)
class Call:
    """One call, from its coming until it is over."""

    size: float | None
    """None: its length is not foretold."""
    end_by: float
    expected_s: float = 0.0
    needed_s: float = 0.0
    """Until its end, any wait included, when that was looked at last."""
    left_s: float = math.inf
    """Until `end_by`, at the same moment."""
    refused: bool = False
    started_at: float | None = None


class CallTimes:
    """The calls of one replica that come, wait, compute and end. Threads may share it.

    A call that can't end in time is refused when it comes, or when its turn comes after others took longer than was
    expected. Where nothing computes and nothing has been learnt for some time, one is let through all the same.

    Args:
        slots: calls that compute at once.
    """

    def __init__(self, slots: int) -> None:
        self._lock = threading.Lock()
        self._lane = Lane(slots)
        self._takes = Expectation()
        self._computing = 0

    def assume(self, took_s: float, now: float) -> None:
        """Calls take so long, by a measurement, until one has been seen."""
        with self._lock:
            self._takes.assume(took_s, now)

    def come(self, size: float | None, end_by: float, now: float) -> Call:
        """A call wants to compute; one that is `refused` is over already."""
        call = Call(size, end_by)
        if size is None:
            return call
        with self._lock:
            self._look(call, self._lane.starts_in_s(now), now)
            if not call.refused:
                self._lane.come(call, call.expected_s, now)
        return call

    def may_start(self, call: Call, now: float) -> bool:
        """The call's turn has come: whether it can still end in time."""
        with self._lock:
            if call.size is not None:
                self._look(call, 0.0, now)
            if not call.refused:
                call.started_at = now
                self._computing += 1
        return not call.refused

    def over(self, call: Call, now: float, *, well: bool) -> None:
        """The call has ended, well or not, or was given up before it began."""
        with self._lock:
            self._computing -= call.started_at is not None
            if call.size is None:
                return
            self._lane.leave(call, now)
            if well and call.started_at is not None:
                self._takes.learn(call.size, now - call.started_at, now)

    def _look(self, call: Call, starts_in_s: float, now: float) -> None:
        size = call.size or 0.0
        call.expected_s, call.left_s = self._takes.of(size), call.end_by - now
        call.needed_s = starts_in_s + self._takes.at_worst(size)
        worth_a_try = self._computing == 0 and self._takes.worth_a_try_in_s(now) == 0
        call.refused = call.needed_s > call.left_s and not worth_a_try


def too_late(stage: Stage, expected_s: float, needed_s: float, left_s: float) -> QueueFull:
    """What refuses a call that would take so long, with waits so much, and has so much left."""
    needed_ms, left_ms = round(needed_s * 1000), round(left_s * 1000)
    return QueueFull(
        stage,
        f"about {needed_ms} ms are needed from here and {left_ms} ms are left; nothing was started",
        {EXPECTED_MS: round(expected_s * 1000), "recommended_delay_ms": max(1, needed_ms - left_ms)},
    )
