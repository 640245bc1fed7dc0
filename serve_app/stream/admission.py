"""How many fragments of all streams may be in flight, so that what is accepted still meets its deadline. PURE.

Nobody tells the capacity; it is learnt from results. While they come with time to spare, the limit grows; once half of
them use up most of their time, it shrinks below what was in flight. The median decides: a few streams whose fragments
hang don't shrink it for all. At the limit, a stream with less than its equal share is still let in, so that a hog is
refused before its neighbours are.
"""

import math
import statistics

START = 1000
"""Far above what one ingress replica carries, until the first signs of lateness."""
FLOOR = 4
SAMPLE = 8
"""Results that a change of the limit rests on."""
MOST_SAMPLES = 256
PERIOD_S = 1.0
"""Between two changes at least."""
LATE, EARLY = 0.65, 0.5
"""Shares of its time that a result has used: above the one there is too much in flight, below the other room."""
SHRINK, GROW = 0.8, 1.1


class Admission:
    """The door for fragments of all streams of one ingress replica."""

    def __init__(self) -> None:
        self.limit = float(START)
        """Fragments in flight over all streams above which not everything is let in."""
        self._streams = 0
        self._in_flight = 0
        self._peak = 0
        """Most in flight since the last change."""
        self._used: list[float] = []
        self._since = 0.0
        self._changed_at = -math.inf

    def load(self, streams: int, in_flight: int) -> None:
        """How many streams are open, and how many fragments are in flight over all of them."""
        self._streams, self._in_flight = streams, in_flight
        self._peak = max(self._peak, in_flight)

    def admits(self, own: int) -> bool:
        """Whether a stream with `own` fragments in flight may have one more."""
        return self._in_flight < self.limit or own < max(1.0, self.limit / max(self._streams, 1))

    def finished(self, accepted_at: float, deadline: float, now: float) -> None:
        """A result leaves. Times are in seconds of one clock; one accepted before the last change doesn't count."""
        if accepted_at < self._changed_at:
            return
        if not self._used:
            self._since = now
        self._used.append((now - accepted_at) / (deadline - accepted_at))
        took_s = now - self._since
        if len(self._used) < SAMPLE or took_s < PERIOD_S:
            self._used = self._used[-MOST_SAMPLES:]
            return
        middle = statistics.median(self._used)
        if middle > LATE:
            in_time = sum(used < 1 for used in self._used) - 1  # the first one starts the clock
            fits = in_time / took_s * EARLY * (deadline - accepted_at)  # what leaves in that time at this rate
            self._change(max(FLOOR, min(fits, self.limit * SHRINK, self._peak * SHRINK)), now)
        elif middle < EARLY and self._peak >= self.limit * SHRINK:
            self._change(min(START, self.limit * GROW + 1), now)
        else:
            self._start_over()

    def _change(self, limit: float, now: float) -> None:
        self.limit = limit
        self._changed_at = now
        self._start_over()

    def _start_over(self) -> None:
        self._used.clear()
        self._peak = self._in_flight


class StreamAdmission(Admission):
    """The door for fragments of one stream: narrow where all of them are late, and where only its own are.

    Those of a stream that sends more than its share of the models are late while its neighbours' come in time.

    Args:
        shared: the door for all streams, which is told of everything.
    """

    def __init__(self, shared: Admission) -> None:
        super().__init__()
        self._shared = shared

    def admits(self, own: int) -> bool:
        """Whether this stream, with `own` fragments in flight, may have one more."""
        self.load(1, own)
        return self._shared.admits(own) and super().admits(own)

    def finished(self, accepted_at: float, deadline: float, now: float) -> None:
        """A result of this stream leaves."""
        self._shared.finished(accepted_at, deadline, now)
        super().finished(accepted_at, deadline, now)
