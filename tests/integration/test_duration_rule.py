"""A translation that is much longer than its original: sped up as far as it sounds like speech, then judged."""

import pytest

from tests.support import clips
from tests.support.worker import Worker

MS = 1000


@pytest.mark.parametrize(
    ("times_as_long", "status", "variance"), [(1.8, "success", 0.0), (2.3, "partial", 15.0), (3.0, "failed", 50.0)]
)
async def test_edge_a_dub_that_is_too_long_is_sped_up_then_partial_then_failed(serve, times_as_long, status, variance):
    """Speed is limited to 2.0, so a voice 2.3 times as long stays 15 % over, one 3 times as long 50 %."""
    server = serve("fakes", {"args.tts.duration_factor": times_as_long})
    async with Worker(server.url) as worker:
        await worker.init("long", {"format": "wav"})
        samples = clips.clip("two_cities.flac")[: MS * 48]
        await worker.send(0, clips.encoded(samples, "wav"), audio__format="wav", audio__duration_ms=MS)
        result = (await worker.wait_results(1))[0]
    assert result["status"] == status
    metadata = result["metadata"]
    assert metadata["duration_variance_percent"] == pytest.approx(variance, abs=0.5)
    assert metadata["original_duration_ms"] == MS
    if status == "success":
        assert metadata["speed_ratio"] == pytest.approx(times_as_long, abs=0.02)
        assert "actual_variance_percent" not in metadata
    else:
        assert metadata["actual_variance_percent"] == pytest.approx(variance, abs=0.5)
    if status == "partial":
        assert result["warnings"] == ["duration_variance_high"]
        assert result["dubbed_audio"]["duration_ms"] == pytest.approx(1150, abs=5)
    if status == "failed":
        assert result["error"]["code"] == "DURATION_MISMATCH_EXCEEDED"
        assert (result["error"]["stage"], result["error"]["retryable"]) == ("tts", False)
        assert "dubbed_audio" not in result
