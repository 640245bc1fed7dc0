"""A stream's summary over all its connections."""

from livedub.totals import Totals
from serve_app.protocol import FragmentAudio, FragmentData, FragmentProcessed

from .conftest import failed, processed


def result(number: int, *, code: str = "", **changes: object) -> FragmentProcessed:
    audio = FragmentAudio(format="pcm_s16le", sample_rate_hz=16_000, channels=1, duration_ms=100, data=bytes(2))
    data = FragmentData(fragment_id=f"f{number}", stream_id="s", sequence_number=number, timestamp=0, audio=audio)
    payload = data.model_dump(exclude_none=True)
    answer = failed(payload, code) if code else processed(payload)
    return FragmentProcessed.model_validate(answer | changes, strict=False)


def test_a_stream_without_results_is_all_zero():
    summary = Totals().complete("s")
    assert (summary.total_fragments, summary.avg_processing_time_ms, summary.statistics.p95_processing_time_ms) == (
        0,
        0,
        0,
    )


def test_every_result_counts_in_the_summary():
    totals = Totals()
    for number in range(20):
        totals.add(result(number, processing_time_ms=10 * (number + 1)))
    totals.add(result(20, status="partial", processing_time_ms=0))
    totals.add(result(21, code="TIMEOUT", processing_time_ms=0))

    summary = totals.complete("s")

    assert (summary.total_fragments, summary.success_count, summary.partial_count, summary.failed_count) == (
        22,
        20,
        1,
        1,
    )
    assert (summary.avg_processing_time_ms, summary.total_duration_ms) == (95, 2200)
    assert summary.statistics.p95_processing_time_ms == 190
    assert (summary.error_breakdown.by_stage, summary.error_breakdown.by_code) == ({"asr": 1}, {"TIMEOUT": 1})
