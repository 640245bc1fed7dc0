"""A translation that is much longer than its original: it runs over, then is sped up, then judged."""

import base64

import numpy as np
import pytest

from tests.support import clips
from tests.support.worker import Worker

MS = 1000


async def test_a_dub_runs_over_and_opens_the_next_one_while_that_has_not_been_sent(serve):
    server = serve("fakes", {"args.tts.duration_factor": 1.8})
    audio = clips.encoded(clips.clip("sense_and_sensibility-0880.wav")[: MS * 48], "wav")
    async with Worker(server.url) as worker:
        await worker.init("over", {"format": "wav"})
        for number in range(2):
            await worker.send(number, audio, audio__format="wav", audio__duration_ms=MS)
            await worker.wait_results(number + 1)
    first, second = worker.results
    assert (first["status"], second["status"]) == ("success", "success")
    assert first["metadata"]["speed_ratio"] == pytest.approx(1.8 / 1.4, abs=0.02), "1.8 s are said in 1.4"
    dub = clips.decoded(base64.b64decode(second["dubbed_audio"]["data_base64"]), "wav")
    assert dub.duration_ms == MS
    levels = np.abs(dub.samples[:, 0]).reshape(-1, 480).max(axis=1)
    loud = levels > levels.max() / 5  # it is as loud as its original, with its room behind it
    assert loud[1:39].all(), "the end of the first"
    assert not loud[41:47].any()
    assert loud[49:99].all(), "its own words"


@pytest.mark.parametrize(("times_as_long", "status", "variance"), [(2.3, "partial", 15.0), (3.0, "failed", 50.0)])
async def test_edge_a_dub_that_is_too_long_is_sped_up_then_partial_then_failed(serve, times_as_long, status, variance):
    """Speed is limited to 2.0, so a voice 2.3 times as long stays 15 % over, one 3 times as long 50 %."""
    server = serve("fakes", {"args.tts.duration_factor": times_as_long, "args.fit.overhang_ms": 0})
    async with Worker(server.url) as worker:
        await worker.init("long", {"format": "wav"})
        samples = clips.clip("two_cities.flac")[: MS * 48]
        await worker.send(0, clips.encoded(samples, "wav"), audio__format="wav", audio__duration_ms=MS)
        result = (await worker.wait_results(1))[0]
    assert result["status"] == status
    metadata = result["metadata"]
    assert metadata["duration_variance_percent"] == pytest.approx(variance, abs=0.5)
    assert metadata["original_duration_ms"] == MS
    assert metadata["actual_variance_percent"] == pytest.approx(variance, abs=0.5)
    if status == "partial":
        assert result["warnings"] == ["duration_variance_high"]
        assert result["dubbed_audio"]["duration_ms"] == pytest.approx(1150, abs=5)
    if status == "failed":
        assert result["error"]["code"] == "DURATION_MISMATCH_EXCEEDED"
        assert (result["error"]["stage"], result["error"]["retryable"]) == ("tts", False)
        assert "dubbed_audio" not in result
