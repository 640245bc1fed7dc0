"""A stream's results in numbers, in bounded memory. PURE.

Protocol: `stream:complete`.
"""

import math
from collections import Counter

from serve_app.protocol import ErrorBreakdown, FragmentProcessed, StreamComplete, StreamStatistics

_GROWTH = 1.02
"""Each bucket's upper edge over the one before: percentiles are right to 2 %."""
_ROUNDING = 1e-6
"""A whole number that is a bucket's edge must not fall below itself."""


class Percentiles:
    """Durations in ms as a histogram with exponential buckets; about 600 of them cover a minute."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self._count = 0

    def add(self, value_ms: int) -> None:
        """Count one duration."""
        self._buckets[math.ceil(math.log(max(value_ms, 1), _GROWTH))] += 1
        self._count += 1

    def at(self, fraction: float) -> int:
        """The duration that `fraction` of all stay within; 0 when there are none."""
        wanted = fraction * self._count
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return math.floor(_GROWTH**bucket + _ROUNDING)
        return 0


class Statistics:
    """Counts every terminal result once; a kept result that is sent again is no new one."""

    def __init__(self) -> None:
        self._statuses: Counter[str] = Counter()
        self._stages: Counter[str] = Counter()
        self._codes: Counter[str] = Counter()
        self._processing = Percentiles()
        self._processing_sum_ms = 0
        self._duration_ms = 0

    def record(self, result: FragmentProcessed) -> None:
        """Count one result."""
        self._statuses[result.status] += 1
        self._processing.add(result.processing_time_ms)
        self._processing_sum_ms += result.processing_time_ms
        self._duration_ms += result.metadata.original_duration_ms
        if result.error is not None:
            self._stages[result.error.stage] += 1
            self._codes[result.error.code] += 1

    @property
    def total(self) -> int:
        """Results so far."""
        return sum(self._statuses.values())

    @property
    def average_processing_ms(self) -> int:
        """Mean time from acceptance to result; 0 when there is none."""
        return round(self._processing_sum_ms / self.total) if self.total else 0

    def complete(self, stream_id: str) -> StreamComplete:
        """The stream's `stream:complete`."""
        counts = {f"{status}_count": self._statuses[status] for status in ("success", "partial", "failed")}
        return StreamComplete(
            stream_id=stream_id,
            total_fragments=self.total,
            **counts,
            avg_processing_time_ms=self.average_processing_ms,
            total_duration_ms=self._duration_ms,
            error_breakdown=ErrorBreakdown(by_stage=dict(self._stages), by_code=dict(self._codes)),
            statistics=StreamStatistics(
                **counts,
                avg_processing_time_ms=self.average_processing_ms,
                p95_processing_time_ms=self._processing.at(0.95),
            ),
        )
