"""Which of several openings of one stream is the newest, without a clock. PURE; one for each ingress replica.

An opening takes the number after the largest that any replica knows for its stream (Lamport's clock), so it is above
all that were told before it. No two nodes' clocks are ever compared.

Protocol: Losing the connection.
"""

from collections import OrderedDict

MAX_STREAMS = 10_000


class Epochs:
    """The largest number that was heard of, by stream.

    A stream that is open has its number with it; here it is remembered for news that come late.

    Args:
        max_streams: that are remembered; those heard of longest ago are forgotten first.
    """

    def __init__(self, max_streams: int = MAX_STREAMS) -> None:
        self._max_streams = max_streams
        self._largest: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._largest)

    def largest(self, stream_id: str) -> int:
        """0: none was heard of."""
        return self._largest.get(stream_id, 0)

    def note(self, stream_id: str, epoch: int) -> None:
        """An opening has this number."""
        self._largest[stream_id] = max(epoch, self.largest(stream_id))
        self._largest.move_to_end(stream_id)
        if len(self._largest) > self._max_streams:
            self._largest.popitem(last=False)
