"""What a stream came to over all its connections; each server knows only its own part. PURE."""

from collections import Counter, deque

from serve_app.protocol import ErrorBreakdown, FragmentProcessed, StreamComplete, StreamStatistics

RECENT = 1000
"""Results whose times the 95th percentile is taken of."""


class Totals:
    """Counts results as the servers do: each that arrives, those of retries included."""

    def __init__(self) -> None:
        self._statuses: Counter[str] = Counter()
        self._stages: Counter[str] = Counter()
        self._codes: Counter[str] = Counter()
        self._processing_ms: deque[int] = deque(maxlen=RECENT)
        self._processing_sum_ms = 0
        self._duration_ms = 0

    def add(self, result: FragmentProcessed) -> None:
        """Count a result."""
        self._statuses[result.status] += 1
        self._processing_ms.append(result.processing_time_ms)
        self._processing_sum_ms += result.processing_time_ms
        self._duration_ms += result.metadata.original_duration_ms
        if result.error is not None:
            self._stages[result.error.stage] += 1
            self._codes[result.error.code] += 1

    def complete(self, stream_id: str) -> StreamComplete:
        """The summary of the whole stream."""
        count = sum(self._statuses.values())
        counts = {f"{status}_count": self._statuses[status] for status in ("success", "partial", "failed")}
        average_ms = round(self._processing_sum_ms / count) if count else 0
        times_ms = sorted(self._processing_ms)
        p95_ms = times_ms[-(-len(times_ms) * 95 // 100) - 1] if times_ms else 0
        return StreamComplete(
            stream_id=stream_id,
            total_fragments=count,
            **counts,
            avg_processing_time_ms=average_ms,
            total_duration_ms=self._duration_ms,
            error_breakdown=ErrorBreakdown(by_stage=dict(self._stages), by_code=dict(self._codes)),
            statistics=StreamStatistics(**counts, avg_processing_time_ms=average_ms, p95_processing_time_ms=p95_ms),
        )
