"""How long a call will take and when it could start, learned from the calls before it. PURE.

What can't end in time is not begun: a call that is thrown away half done has cost others the time that they needed.
"""

import heapq
import math
from collections.abc import Hashable

NEWEST_SHARE = 0.25
"""How much the latest call counts: a machine that slows down is noticed within a few calls."""
SIZES_DIFFER = 0.03
"""Standard deviation of sizes over their mean from which on they can tell what a call's size is worth."""
SHORTER, LONGER = 1.5, 1.0
"""Standard deviations by which shorter calls are below what is expected, and longer ones above."""
ENOUGH_SEEN, OUTLIER = 3, 2.0
"""Once so many calls were seen, one counts for no more than so many times of what was expected: a single text that
takes for ever must not close the door for all."""
TRY_AGAIN_AFTER_S = 15.0
"""A call that seems too long is made all the same when none was seen for this long: the machine may be fast again."""

EXPECTED_MS = "expected_ms"
"""In the details of a QueueFull: how long the call would have computed, by all that is known of it."""


class Expectation:
    """How long calls take by their size: a line through the latest ones, or their mean while all are of one size.

    Sizes are whatever a call's length follows: characters, seconds of sound. Times are in seconds of one clock.
    """

    def __init__(self) -> None:
        self._count = 0
        self._size = self._took_s = 0.0
        self._variance = self._covariance = self._error = 0.0
        self._learned_at = -math.inf

    @property
    def known(self) -> bool:
        """Whether a call has been seen."""
        return self._count > 0

    @property
    def mean_s(self) -> float:
        """Seconds that the latest calls took; 0 while nothing is known."""
        return self._took_s

    def of(self, size: float) -> float:
        """Seconds that a call of this size will take; 0 while nothing is known."""
        if self._variance <= (SIZES_DIFFER * self._size) ** 2 or self._covariance <= 0:
            return self._took_s
        slope = self._covariance / self._variance
        if slope * self._size >= self._took_s:  # no call takes less than nothing
            return self._took_s * size / self._size
        return self._took_s + slope * (size - self._size)

    def at_best(self, size: float) -> float:
        """Seconds that a call takes if it is one of the shorter ones of its size; 0 while nothing is known."""
        return max(0.0, self.of(size) - SHORTER * math.sqrt(self._error))

    def at_worst(self, size: float) -> float:
        """Seconds that a call takes if it is one of the longer ones of its size; 0 while nothing is known."""
        return self.of(size) + LONGER * math.sqrt(self._error)

    def assume(self, took_s: float, now: float) -> None:
        """Calls take so long by a measurement; the first one that is seen counts instead."""
        self._took_s, self._learned_at = took_s, now

    def learn(self, size: float, took_s: float, now: float) -> None:
        """A call is over. What was learnt long before counts no more: the machine may have more to give by now."""
        if self.worth_a_try_in_s(now) == 0:
            self._count = 0
            self._variance = self._covariance = self._error = 0.0
        self._learned_at = now
        if self._count >= ENOUGH_SEEN:
            took_s = min(took_s, OUTLIER * max(self.of(size), self._took_s))
        self._count += 1
        share = max(NEWEST_SHARE, 1 / self._count)
        error = (took_s - self.of(size)) ** 2 if self._count > 1 else 0.0
        size_off, took_off = size - self._size, took_s - self._took_s
        self._size += share * size_off
        self._took_s += share * took_off
        self._variance = (1 - share) * (self._variance + share * size_off**2)
        self._covariance = (1 - share) * (self._covariance + share * size_off * took_off)
        self._error += share * (error - self._error)

    def learn_at_least(self, size: float, took_s: float, now: float) -> None:
        """A call was given up; how long it would have taken is not known, only that it is more.

        The first call of all says nothing so: it may have been lost, rather than slow.
        """
        if not self.known:
            return
        if took_s > self.of(size):
            self.learn(size, took_s, now)
        self._learned_at = now

    def worth_a_try_in_s(self, now: float) -> float:
        """Seconds until what is known is so old that a call that seems too long is made all the same."""
        return max(0.0, self._learned_at + TRY_AGAIN_AFTER_S - now)


class Lane:
    """The calls of one stage: those that compute and those that wait, first come, first served.

    Args:
        servers: calls that compute at once; infinite: nobody waits.
    """

    def __init__(self, servers: float = math.inf) -> None:
        self.servers = servers
        self._running: dict[Hashable, tuple[float, float]] = {}
        """When each began, and when it is expected to end."""
        self._waiting: dict[Hashable, float] = {}
        """How long each is expected to take."""
        self._abandoned: list[float] = []
        """When calls are expected to end that compute for nobody."""

    def __len__(self) -> int:
        return len(self._running) + len(self._waiting) + len(self._abandoned)

    def come(self, key: Hashable, expected_s: float, now: float) -> None:
        """A call wants to compute, for about so long."""
        self._waiting[key] = expected_s
        self._start(now)

    def leave(self, key: Hashable, now: float) -> None:
        """A call is over, or was given up before it began."""
        if self._running.pop(key, None) is None:
            self._waiting.pop(key, None)
        self._start(now)

    def abandon(self, key: Hashable, now: float) -> float:
        """Nobody waits for the call any more; one that computes can't be stopped and holds its server to its end.

        Returns:
            Seconds that it has computed.
        """
        began_at, ends_at = self._running.get(key, (now, now))
        self._abandoned.append(ends_at)
        self.leave(key, now)
        return now - began_at

    def starts_in_s(self, now: float, waiting_before: float = math.inf, to_come: int = 0, each_s: float = 0.0) -> float:
        """Seconds until a call that comes now can start.

        Args:
            now: the time.
            waiting_before: at most so many of those that wait go first.
            to_come: calls that have not come yet and go first as well.
            each_s: how long each of these takes.
        """
        self._start(now)
        waiting_before = min(waiting_before, len(self._waiting) + to_come)
        if self._busy() + waiting_before < self.servers:
            return 0.0
        servers = max(1, round(self.servers))
        busy_s = sorted(max(0.0, ends_at - now) for ends_at in self._ends())
        free_in_s = [0.0] * (servers - len(busy_s)) + busy_s[max(0, len(busy_s) - servers) :]
        before_s = [*self._waiting.values(), *[each_s] * to_come]
        for expected_s in before_s[: int(waiting_before)]:
            heapq.heapreplace(free_in_s, free_in_s[0] + expected_s)
        return free_in_s[0]

    def _ends(self) -> list[float]:
        return [*(ends_at for _, ends_at in self._running.values()), *self._abandoned]

    def _busy(self) -> int:
        return len(self._running) + len(self._abandoned)

    def _start(self, now: float) -> None:
        for ended_at in sorted(ends_at for ends_at in self._abandoned if ends_at <= now):
            self._abandoned.remove(ended_at)
            self._fill(ended_at)
        self._fill(now)

    def _fill(self, now: float) -> None:
        while self._waiting and self._busy() < max(1, self.servers):
            key = next(iter(self._waiting))
            self._running[key] = now, now + self._waiting.pop(key)
