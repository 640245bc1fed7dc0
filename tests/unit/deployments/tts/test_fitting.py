"""How what a voice said becomes as long as its original."""

import numpy as np
import pytest

from deployments.audio.timing import FitLimits
from deployments.contracts import AudioFormat, Spoken
from deployments.errors import DeadlineExceeded, DurationMismatch
from deployments.tts.fitting import fit, room_ms

RATE_HZ = 24_000
PCM = AudioFormat("pcm_s16le", 48_000, 1)
LIMITS = FitLimits()


def spoken(duration_ms, rate=1.0):
    n_samples = duration_ms * RATE_HZ // 1000
    wave = 0.3 * np.sin(np.arange(n_samples) * 2 * np.pi * 220 / RATE_HZ)
    return Spoken(wave.astype(np.float32), RATE_HZ, rate)


def fitted(duration_ms, target_ms, *, rate=1.0, output=PCM, now_s=0.0):
    return fit(spoken(duration_ms, rate), target_ms, output, LIMITS, deadline_s=1.0, clock=lambda: now_s)


@pytest.mark.parametrize("spoken_ms", [1601, 1999, 2000, 2001, 3217, 4000])
def test_what_the_limits_reach_is_the_target_to_the_sample(spoken_ms):
    result = fitted(spoken_ms, 2000)
    assert result.samples.shape == (2 * RATE_HZ,)
    assert result.verdict == "success"
    assert result.speed_ratio == pytest.approx(spoken_ms / 2000)


def test_what_is_too_short_is_slowed_a_little_and_padded():
    result = fitted(400, 2000)
    assert result.samples.shape == (2 * RATE_HZ,)
    assert result.speed_ratio == 0.8
    assert np.abs(result.samples[RATE_HZ // 2 :]).max() == 0
    assert np.abs(result.samples[: RATE_HZ // 2]).max() > 0.1


@pytest.mark.parametrize(("spoken_ms", "verdict"), [(4400, "success"), (4402, "partial"), (4800, "partial")])
def test_what_is_too_long_is_kept_at_the_highest_speed_and_judged(spoken_ms, verdict):
    result = fitted(spoken_ms, 2000)
    assert result.verdict == verdict
    assert result.speed_ratio == 2.0
    assert result.samples.shape[0] == pytest.approx(spoken_ms / 2 * RATE_HZ / 1000, abs=RATE_HZ / 1000)


def test_what_is_far_too_long_is_not_stretched():
    with pytest.raises(DurationMismatch) as caught:
        fitted(4804, 2000, now_s=99.0)  # stretching would find its time gone
    assert caught.value.details["dubbed_duration_ms"] == 2402
    assert caught.value.details["speed_ratio"] == 2.0


def test_the_limits_bound_the_voice_and_the_stretch_together():
    assert fitted(3000, 2000, rate=1.4).speed_ratio == pytest.approx(2.0 / 1.4)
    assert fitted(1800, 2000, rate=0.8).speed_ratio == 1.0, "slowed once already, so it is padded"
    assert fitted(2100, 2000, rate=2.5).speed_ratio == 1.0, "fast already, and never slowed to make it longer"


def test_no_time_left_ends_the_stretching():
    with pytest.raises(DeadlineExceeded):
        fitted(3000, 2000, now_s=1.0)


def test_both_ends_are_silent_so_that_fragments_join_without_a_click():
    result = fitted(3000, 2000)
    assert result.samples[0] == 0
    assert result.samples[-1] == 0


def test_room_is_left_for_what_a_container_adds():
    assert room_ms(2000, PCM) == 2000
    assert room_ms(2000, AudioFormat("m4a", 48_000, 2)) == 2000
    assert 1940 <= room_ms(2000, AudioFormat("aac", 48_000, 2)) < 2000
    assert room_ms(20, AudioFormat("aac", 48_000, 2)) == 10
