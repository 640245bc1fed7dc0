"""How much of what a client was sent it has not read yet.

A proxy in between takes everything at once, so that writing tells nothing. A client answers Engine.IO's pings in the
order in which it reads: what was sent before an answered ping has been read.
"""

from collections import deque

PROBES_IN_CAP = 8
"""A client that reads has this many answers on their way before the cap is reached."""


class Delivery:
    """Bytes on their way to one client.

    Args:
        max_unread_bytes: the cap; probes are spread so that it is not reached by a client that reads.
    """

    def __init__(self, max_unread_bytes: int) -> None:
        self.waiting_bytes = 0
        """Of events that have not been encoded yet."""
        self._cap_bytes = max_unread_bytes
        self._sent_bytes = 0
        self._read_bytes = 0
        self._probed_bytes = 0
        self._pings: deque[tuple[int, bool]] = deque()

    @property
    def unread_bytes(self) -> int:
        """Waiting here or sent and not known to be read."""
        return self.waiting_bytes + self._sent_bytes - self._read_bytes

    @property
    def over(self) -> bool:
        """Whether more is unread than the cap allows."""
        return self.unread_bytes > self._cap_bytes

    @property
    def room_bytes(self) -> int:
        """What the cap leaves for results kept for resends."""
        return max(0, self._cap_bytes - self.unread_bytes)

    @property
    def probe_due(self) -> bool:
        """Whether enough has been sent since the last ping to ask for another answer."""
        return self._sent_bytes - self._probed_bytes >= max(1, self._cap_bytes // PROBES_IN_CAP)

    def sent(self, size_bytes: int) -> None:
        """A message was handed over."""
        self._sent_bytes += size_bytes

    def pinged(self, *, probe: bool) -> None:
        """A ping was handed over; `probe`: ours, not the heartbeat's."""
        self._probed_bytes = self._sent_bytes
        self._pings.append((self._sent_bytes, probe))

    def ponged(self) -> bool:
        """A ping was answered. Returns whether it was a probe, of which the heartbeat must not hear."""
        if not self._pings:
            return False
        self._read_bytes, probe = self._pings.popleft()
        return probe
