"""Where each fragment lies on its stream's timeline. PURE.

Protocol: `fragment:data`.
"""

MAX_GAP = 1000
"""Missing numbers that count as a hole; more of them are a new start."""


class StreamTimeline:
    """The sum of the durations so far, corrected wherever a fragment names its own time.

    Args:
        chunk_ms: what a missing number counts for.
    """

    def __init__(self, chunk_ms: int) -> None:
        self._chunk_ms = chunk_ms
        self.position_ms = 0
        self._started = False

    def place(self, duration_ms: int, pts_ms: int | None) -> int:
        """The start of the next fragment in order; moves the timeline to its end."""
        start_ms = self.position_ms if pts_ms is None else pts_ms
        self.position_ms = start_ms + duration_ms
        self._started = True
        return start_ms

    def pass_over(self, count: int) -> int | None:
        """Numbers that never came or were rejected; the start of the first, or None where they take no time."""
        if not self._started or not 0 < count <= MAX_GAP:
            return None
        start_ms = self.position_ms
        self.position_ms += count * self._chunk_ms
        return start_ms
