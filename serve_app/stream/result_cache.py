"""What a stream remembers of fragments that are no longer in flight, so that resends are idempotent. PURE.

Protocol: Retry.
"""

from collections import OrderedDict
from dataclasses import dataclass

from serve_app.protocol import FragmentProcessed

MAX_UNDONE = 256
"""Failed and rejected fragments remembered by stream."""


@dataclass(frozen=True, slots=True)
class Done:
    """A fragment with a usable result."""

    digest: bytes
    result: FragmentProcessed


@dataclass(frozen=True, slots=True)
class Undone:
    """A fragment that failed or was rejected; a resend is processed anew."""

    sequence_number: int
    digest: bytes | None
    """None: rejected, its audio was never looked at."""
    start_ms: int | None
    """Its place on the stream's timeline, once known."""


class ResultCache:
    """The last results by count and bytes, and the last failures by count."""

    def __init__(self) -> None:
        self._done: OrderedDict[str, Done] = OrderedDict()
        self._undone: OrderedDict[str, Undone] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._done) + len(self._undone)

    @property
    def kept_bytes(self) -> int:
        """Audio bytes of all kept results."""
        return self._bytes

    def find(self, fragment_id: str) -> Done | Undone | None:
        """What is remembered of the fragment."""
        return self._done.get(fragment_id) or self._undone.get(fragment_id)

    def keep(self, digest: bytes, result: FragmentProcessed, max_results: int, max_bytes: int) -> None:
        """Keep a usable result; the oldest go when there are too many or they are too large.

        One that is too large all by itself is not kept and costs the others nothing.
        """
        self._undone.pop(result.fragment_id, None)
        self._drop(result.fragment_id)
        if _size(result) > max_bytes:
            return
        self._done[result.fragment_id] = Done(digest, result)
        self._bytes += _size(result)
        while len(self._done) > max_results:
            self._drop(next(iter(self._done)))
        self.trim(max_bytes)

    def trim(self, max_bytes: int) -> None:
        """Let the oldest results go until no more bytes are kept."""
        while self._bytes > max_bytes:
            self._drop(next(iter(self._done)))

    def note_undone(self, fragment_id: str, undone: Undone) -> None:
        """Remember that a fragment failed or was rejected."""
        self._undone.pop(fragment_id, None)
        self._undone[fragment_id] = undone
        if len(self._undone) > MAX_UNDONE:
            self._undone.popitem(last=False)

    def place(self, first: int, last: int, start_ms: int, step_ms: int) -> None:
        """Numbers first … last are passed over; they lie at start_ms and every step_ms after."""
        for fragment_id, undone in self._undone.items():
            if undone.start_ms is None and first <= undone.sequence_number <= last:
                place_ms = start_ms + (undone.sequence_number - first) * step_ms
                self._undone[fragment_id] = Undone(undone.sequence_number, undone.digest, place_ms)

    def _drop(self, fragment_id: str) -> None:
        dropped = self._done.pop(fragment_id, None)
        if dropped is not None:
            self._bytes -= _size(dropped.result)


def _size(result: FragmentProcessed) -> int:
    return len(result.dubbed_audio.data) if result.dubbed_audio else 0
