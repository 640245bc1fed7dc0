"""Gauges that stay in /metrics for as long as their process lives.

Ray's exporter forgets a gauge that nobody has set for two report intervals, so that it doesn't tell of processes that
are gone. What changes rarely (open streams, a breaker's state) would vanish with them, so it is set again and again.
"""

import threading
from collections.abc import Sequence

from serve_app.observability.metrics import CounterLike, GaugeLike, HistogramLike, Instruments

PERIOD_S = 0.5
"""Half of the shortest report interval that Ray knows."""

Tags = frozenset[tuple[str, str]]


class LastingGauge:
    """A gauge that remembers what it was set to. Threads may share it.

    Args:
        gauge: the real one.
    """

    def __init__(self, gauge: GaugeLike) -> None:
        self._gauge = gauge
        self._values: dict[Tags, float] = {}
        self._lock = threading.Lock()
        """Held while the real one is set: an old value must not be told after a new one."""

    def set(self, value: float, tags: dict[str, str] | None = None) -> None:
        """Replace."""
        key = frozenset((tags or {}).items())
        with self._lock:
            if self._values.get(key) != value:  # what it is told again in time anyhow
                self._values[key] = value
                self._gauge.set(value, tags)

    def tell(self) -> None:
        """Set the real one to all that this one was set to."""
        with self._lock:
            for tags, value in self._values.items():
                self._gauge.set(value, dict(tags) or None)


class LastingInstruments:
    """Makes instruments whose gauges last.

    Args:
        make: makes the real ones.
    """

    def __init__(self, make: Instruments) -> None:
        self._make = make
        self._gauges: list[LastingGauge] = []

    def Counter(self, name: str, description: str, tag_keys: tuple[str, ...]) -> CounterLike:  # noqa: N802
        """A real one: Ray's exporter forgets none."""
        return self._make.Counter(name, description=description, tag_keys=tag_keys)

    def Histogram(  # noqa: N802
        self, name: str, description: str, boundaries: Sequence[float], tag_keys: tuple[str, ...]
    ) -> HistogramLike:
        """A real one: Ray's exporter forgets none."""
        return self._make.Histogram(name, description=description, boundaries=boundaries, tag_keys=tag_keys)

    def Gauge(self, name: str, description: str, tag_keys: tuple[str, ...]) -> GaugeLike:  # noqa: N802
        """One that lasts."""
        gauge = LastingGauge(self._make.Gauge(name, description=description, tag_keys=tag_keys))
        self._gauges.append(gauge)
        return gauge

    def tell(self) -> None:
        """Tell every gauge again."""
        for gauge in list(self._gauges):
            gauge.tell()


def lasting(make: Instruments) -> Instruments:
    """Instruments whose gauges a thread tells again for as long as the process lives."""
    instruments = LastingInstruments(make)
    threading.Thread(target=_keep_telling, args=(instruments,), name="livedub-gauges", daemon=True).start()
    return instruments


def _keep_telling(instruments: LastingInstruments) -> None:
    pause = threading.Event()
    while not pause.wait(PERIOD_S):
        instruments.tell()
