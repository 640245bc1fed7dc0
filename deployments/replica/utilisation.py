"""How much a replica computes: what its deployment's scaling goes by."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

NEWEST_SHARE = 0.2
"""How much one call counts in the computing time of a fragment."""


class Utilisation:
    """The slots of a replica and how they are used. Threads may share it.

    Args:
        slots: calls that may compute at once.
        clock: seconds, monotonic.
    """

    def __init__(self, slots: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._slots = slots
        self._clock = clock
        self._lock = threading.Lock()
        self._computing = 0
        self._computed_s = 0.0
        """Of all slots together, since `read`."""
        self._counted_s = self._read_s = clock()
        self._fragment_ms: float | None = None

    @contextmanager
    def one(self, n_fragments: int = 1) -> Iterator[None]:
        """A call that computes so many fragments, for as long as this is open."""
        with self._lock:
            started_s = self._count()
            self._computing += 1
        try:
            yield
        finally:
            with self._lock:
                elapsed_ms = (self._count() - started_s) * 1000 / n_fragments
                self._computing -= 1
                before_ms = elapsed_ms if self._fragment_ms is None else self._fragment_ms
                self._fragment_ms = before_ms + NEWEST_SHARE * (elapsed_ms - before_ms)

    def read(self) -> dict[str, float]:
        """`busy`, `slots` and, once a fragment has been computed, `computing_ms`, as `scaling.ReplicaLoad` has them.

        `busy` is of the time since it was read last.
        """
        with self._lock:
            now_s = self._count()
            busy = self._computed_s / ((now_s - self._read_s) * self._slots) if now_s > self._read_s else 0.0
            self._read_s, self._computed_s = now_s, 0.0
            told = {"busy": busy, "slots": float(self._slots)}
            return told if self._fragment_ms is None else told | {"computing_ms": self._fragment_ms}

    def _count(self) -> float:
        """Add up until now, which it returns."""
        now_s = self._clock()
        self._computed_s += self._computing * (now_s - self._counted_s)
        self._counted_s = now_s
        return now_s
