"""Which calls of the model run now, and since when: how a model that hangs is noticed."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

WEDGED_AFTER_S = 60.0
"""No call takes this long: fragments last a minute at most, and their deadlines half of that."""


class Watchdog:
    """Calls that have begun and not ended. Threads may share it.

    Args:
        wedged_after_s: how long a call may take before the model is taken to hang.
        clock: seconds, monotonic.
    """

    def __init__(self, wedged_after_s: float = WEDGED_AFTER_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._wedged_after_s = wedged_after_s
        self._clock = clock
        self._lock = threading.Lock()
        self._started_s: dict[object, float] = {}

    @contextmanager
    def one(self) -> Iterator[int]:
        """A call, for as long as this is open. Gives how many there are now, with this one."""
        key = object()
        with self._lock:
            self._started_s[key] = self._clock()
            count = len(self._started_s)
        try:
            yield count
        finally:
            with self._lock:
                del self._started_s[key]

    def check(self) -> None:
        """Raise RuntimeError when a call has been running for too long. For Serve's `check_health`."""
        with self._lock:
            oldest_s = min(self._started_s.values(), default=None)
        if oldest_s is not None and (running_s := self._clock() - oldest_s) > self._wedged_after_s:
            raise RuntimeError(f"a call of the model has been running for {running_s:.0f} s")
