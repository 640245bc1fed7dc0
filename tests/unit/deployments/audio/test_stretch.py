import math

import numpy as np
import pytest
from numpy.typing import NDArray

from deployments.audio.stretch import stretch
from deployments.errors import DeadlineExceeded, Stage

NEVER_S = math.inf


def tone(rate_hz: int, duration_s: float, frequency_hz: float = 440.0) -> NDArray[np.float32]:
    times_s = np.arange(round(rate_hz * duration_s)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * frequency_hz * times_s)).astype(np.float32)


def dominant_hz(samples: NDArray[np.float32], rate_hz: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * rate_hz / len(samples))


@pytest.mark.parametrize("speed_ratio", [0.5, 0.8, 0.97, 1.04, 1.31, 2.0])
@pytest.mark.parametrize("n_samples", [24_000, 24_001, 8_192, 16_384, 1_024])
def test_length_is_exact(speed_ratio: float, n_samples: int) -> None:
    stretched = stretch(tone(24_000, 2)[:n_samples], 24_000, speed_ratio, deadline_s=NEVER_S)
    assert stretched.shape == (round(n_samples / speed_ratio),)
    assert stretched.dtype == np.float32


@pytest.mark.parametrize("speed_ratio", [0.6, 1.5])
def test_pitch_is_kept(speed_ratio: float) -> None:
    stretched = stretch(tone(24_000, 1), 24_000, speed_ratio, deadline_s=NEVER_S)
    assert dominant_hz(stretched, 24_000) == pytest.approx(440, abs=2)
    assert np.sqrt((stretched**2).mean()) == pytest.approx(0.5 / math.sqrt(2), rel=0.1)


@pytest.mark.parametrize("speed_ratio", [0.5, 0.8, 1.3, 2.0])
def test_onsets_stay_where_the_ratio_puts_them(speed_ratio: float) -> None:
    rate_hz = 24_000
    samples = np.zeros(3 * rate_hz, dtype=np.float32)
    samples[2 * rate_hz : 2 * rate_hz + rate_hz // 5] = tone(rate_hz, 0.2, 1_000)
    stretched = stretch(samples, rate_hz, speed_ratio, deadline_s=NEVER_S)
    onset_s = np.flatnonzero(np.abs(stretched) > 0.1)[0] / rate_hz
    assert onset_s == pytest.approx(2 / speed_ratio, abs=0.01)


def test_channels_stay_apart() -> None:
    stereo = np.stack([tone(48_000, 0.5, 300), tone(48_000, 0.5, 900)], axis=1)
    stretched = stretch(stereo, 48_000, 1.25, deadline_s=NEVER_S)
    assert stretched.shape == (19_200, 2)
    assert dominant_hz(stretched[:, 0], 48_000) == pytest.approx(300, abs=4)
    assert dominant_hz(stretched[:, 1], 48_000) == pytest.approx(900, abs=4)


def test_a_mono_column_stays_a_column() -> None:
    assert stretch(tone(24_000, 0.1)[:, np.newaxis], 24_000, 1.25, deadline_s=NEVER_S).shape == (1_920, 1)


@pytest.mark.parametrize("speed_ratio", [0.9991, 1.0, 1.0009])
def test_a_ratio_of_one_changes_nothing(speed_ratio: float) -> None:
    samples = tone(24_000, 0.1)
    assert stretch(samples, 24_000, speed_ratio, deadline_s=-NEVER_S) is samples


@pytest.mark.parametrize("n_samples", [0, 1, 10, 1_023])
@pytest.mark.parametrize("speed_ratio", [0.5, 2.0])
def test_what_is_too_short_to_stretch_is_cut_or_padded(n_samples: int, speed_ratio: float) -> None:
    samples = np.full((n_samples, 2), 0.1, dtype=np.float32)
    assert stretch(samples, 24_000, speed_ratio, deadline_s=NEVER_S).shape == (round(n_samples / speed_ratio), 2)


@pytest.mark.parametrize("looks", [0, 1, 5, 9])
def test_the_clock_is_looked_at_while_stretching(looks: int) -> None:
    now_s = iter(range(1_000))
    with pytest.raises(DeadlineExceeded) as caught:
        stretch(tone(24_000, 2), 24_000, 1.5, deadline_s=looks, clock=lambda: next(now_s))
    assert caught.value.stage is Stage.TTS
    assert next(now_s) == looks + 1, "nothing was done after the deadline"


@pytest.mark.parametrize("speed_ratio", [0.0, -1.0, math.inf, math.nan])
def test_a_ratio_that_is_none_is_refused(speed_ratio: float) -> None:
    with pytest.raises(ValueError, match="speed_ratio"):
        stretch(tone(24_000, 0.1), 24_000, speed_ratio, deadline_s=NEVER_S)
