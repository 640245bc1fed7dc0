"""How far a voice is behind what it translates, and how fast it has to speak not to fall further behind. PURE."""

EASY_LAG_S = 3.0
"""Up to here it speaks at its natural rate."""
HURRIED_LAG_S = 10.0
"""From here on it speaks at the highest rate."""
HIGHEST_RATE = 1.5
MAX_LAG_S = 30.0
"""What would be heard later than this is not spoken."""


class Playback:
    """What one listener still has to hear, who plays all that comes without a gap."""

    def __init__(self) -> None:
        self._ends_at = 0.0

    def lag_s(self, now: float) -> float:
        """How much is left to be heard; `now` is in seconds of any monotonic clock."""
        return max(0.0, self._ends_at - now)

    def sent(self, duration_s: float, now: float) -> None:
        """So much more has been sent."""
        self._ends_at = max(self._ends_at, now) + duration_s

    def rate(self, now: float) -> float | None:
        """How fast to say what comes next, 1.0 being natural; None: it is too late to say it."""
        lag_s = self.lag_s(now)
        if lag_s > MAX_LAG_S:
            return None
        hurry = (lag_s - EASY_LAG_S) / (HURRIED_LAG_S - EASY_LAG_S)
        return 1.0 + (HIGHEST_RATE - 1.0) * min(1.0, max(0.0, hurry))
