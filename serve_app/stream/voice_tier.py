"""Which of two voices speaks a stream's next fragment: the first, or a faster one where the first would be late. PURE.

A stream keeps the faster voice for a while once it needed it, so that its voice doesn't change from fragment to
fragment, and each time for longer when the first voice soon proves too slow again.

Protocol: In time or not at all.
"""

import math

HOLD_S, MOST_HOLD_S = 20.0, 160.0
"""How long the faster voice stays, at first and at most; doubled when it is needed again within as long."""
COMFORTABLE = 0.6
"""Share of what is left that the first voice may need when it comes back."""


class VoiceTier:
    """One stream's choice. Times are in seconds of one clock."""

    def __init__(self) -> None:
        self._faster = False
        self._hold_s = HOLD_S
        self._until = -math.inf
        self._left_at = -math.inf
        """When the first voice came back."""

    def choose(self, needed_s: float, left_s: float, now: float) -> bool:
        """Whether the faster voice is to speak, where the first one would need `needed_s` of the `left_s`."""
        if self._faster:
            if now < self._until or needed_s > COMFORTABLE * left_s:
                return True
            self._faster, self._left_at = False, now
        elif needed_s > left_s:
            self.fall(now)
        return self._faster

    def fall(self, now: float) -> None:
        """The first voice is, or was, too slow."""
        if self._faster:
            return
        again = now - self._left_at < self._hold_s
        self._hold_s = min(2 * self._hold_s, MOST_HOLD_S) if again else HOLD_S
        self._faster, self._until = True, now + self._hold_s
