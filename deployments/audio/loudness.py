"""How loud sound is to a listener, and what a room sounds like when nobody speaks: samples in, numbers or samples out.

Loudness is that of ITU-R BS.1770-5: K-weighted, gated, in LUFS; of several channels the mean counts, so that the same
voice on one or on two is equally loud. Peaks are true peaks, looked for between the samples.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from deployments.audio import pcm
from deployments.contracts.engines import Samples
from deployments.contracts.values import Acoustics

MAX_PEAK_DB = -1.5
"""True peak of a dub: codecs add up to half a decibel, and −1 dBTP is what broadcasters take."""
LEAST_LUFS, MOST_LUFS = -60.0, -12.0
"""No dub is made quieter or louder than this, whatever its original is."""
MAX_GAIN_DB = 20.0
_MEASURED_HZ = 24_000
"""Nothing that speech has above half of it changes how loud it is."""
_ROOM_PERIOD_S = 2.0
_ABSOLUTE_GATE_LUFS, _RELATIVE_GATE_LU = -70.0, -10.0
_BLOCK_S, _OVERLAP = 0.4, 4
_OFFSET_DB = -0.691
_FLOOR_EDGES_HZ = (100, 200, 400, 800, 1600, 3200, 6400)
"""Where bands begin that a room's sound is told in, the last one up to half of the rate; below the first is rumble."""
_FLOOR_FRAME_S = 0.032
_FLOOR_PERCENTILE = 10
_LEAST_FLOOR_DB, _MOST_FLOOR_DB = -85.0, -40.0
"""Below is no room, above no quiet."""
_OVERSAMPLED = 4
_SURELY_BELOW = 1.4
"""A true peak is no further above the samples beside it than this, but in sounds that nobody speaks."""
_LIMITER_STEP_S, _LIMITER_REACH = 0.001, 5
"""It looks so many steps ahead and back."""
_SEED = 1770


def loudness_lufs(samples: Samples, sample_rate_hz: int) -> float | None:
    """Loudness of samples (n,) or (n, n_channels); None: nothing is heard, or too little to tell."""
    mono = pcm.heard(pcm.with_channel_axis(samples))
    if sample_rate_hz > _MEASURED_HZ:
        mono = np.asarray(soxr.resample(mono, sample_rate_hz, _MEASURED_HZ, "LQ"), dtype=np.float32)
        sample_rate_hz = _MEASURED_HZ
    block = round(_BLOCK_S * sample_rate_hz)
    power = np.square(_k_weighted(mono, sample_rate_hz), dtype=np.float64)
    if power.shape[0] < block:
        powers = np.array([power.mean()]) if power.shape[0] else np.zeros(1)
    else:
        sums = np.concatenate([[0.0], np.cumsum(power)])
        starts = np.arange(0, power.shape[0] - block + 1, block // _OVERLAP)
        powers = (sums[starts + block] - sums[starts]) / block
    heard = powers[_lufs(powers) > _ABSOLUTE_GATE_LUFS]
    if not heard.size:
        return None
    loud = heard[_lufs(heard) > _lufs(heard.mean()) + _RELATIVE_GATE_LU]
    return float(_lufs(loud.mean()))


def acoustics(samples: Samples, sample_rate_hz: int) -> Acoustics:
    """What is to be known of an original, samples (n,), for its dub to sound as if it were there."""
    return Acoustics(loudness_lufs(samples, sample_rate_hz), _floor_db(samples, sample_rate_hz))


def gain(samples: Samples, sample_rate_hz: int, target_lufs: float) -> np.float32:
    """The factor that makes samples as loud as the target, within bounds; 1 where nothing is heard."""
    have_lufs = loudness_lufs(samples, sample_rate_hz)
    if have_lufs is None:
        return np.float32(1)
    wanted_db = min(max(target_lufs, LEAST_LUFS), MOST_LUFS) - have_lufs
    return np.float32(10 ** (min(wanted_db, MAX_GAIN_DB) / 20))


def limited(samples: Samples, sample_rate_hz: int, max_peak_db: float = MAX_PEAK_DB) -> Samples:
    """Samples (n,) or (n, n_channels), turned down around peaks that are too high, for some milliseconds."""
    ceiling = 10 ** (max_peak_db / 20)
    if np.abs(samples).max(initial=0.0) <= ceiling / _SURELY_BELOW:
        return samples
    peaks = _true_peaks(pcm.with_channel_axis(samples))
    if peaks.max(initial=0.0) <= ceiling:
        return samples
    step = max(1, round(_LIMITER_STEP_S * sample_rate_hz))
    n_steps = -(-peaks.shape[0] // step)
    highest = np.pad(peaks, (0, n_steps * step - peaks.shape[0])).reshape(n_steps, step).max(axis=1)
    needed = np.pad(np.minimum(1.0, ceiling / np.maximum(highest, 1e-9)), 2 * _LIMITER_REACH, mode="edge")
    lowest = np.lib.stride_tricks.sliding_window_view(needed, 2 * _LIMITER_REACH + 1).min(axis=1)
    # A mean over no more steps than the minimum was taken over is nowhere above what is needed.
    smooth = np.lib.stride_tricks.sliding_window_view(lowest, 2 * _LIMITER_REACH + 1).mean(axis=1)
    factors = np.interp(np.arange(samples.shape[0]), (np.arange(n_steps) + 0.5) * step, smooth)
    return np.asarray(samples * factors.reshape(-1, *[1] * (samples.ndim - 1)), dtype=np.float32)


def room_tone(n_samples: int, sample_rate_hz: int, floor_db: tuple[float, ...]) -> Samples:
    """Noise, float32 (n_samples,), with so much power in each band: the sound of a room in which nobody speaks."""
    if not floor_db or not n_samples:
        return pcm.silence(n_samples, 1)[:, 0]
    n_period = min(n_samples, round(_ROOM_PERIOD_S * sample_rate_hz))
    noise = np.fft.rfft(np.random.default_rng(_SEED).standard_normal(n_period))
    frequencies = np.fft.rfftfreq(n_period, 1 / sample_rate_hz)
    shaped = np.zeros_like(noise)
    for band, level_db in zip(_bands(frequencies), floor_db, strict=False):
        power = np.square(np.abs(noise[band])).sum() * 2 / n_period**2
        if power > 0:
            shaped[band] = noise[band] * np.sqrt(10 ** (level_db / 10) / power)
    period = np.asarray(np.fft.irfft(shaped, n_period), dtype=np.float32)
    return np.resize(period, n_samples)  # made of whole waves, so its end joins its beginning


def in_room(samples: Samples, sample_rate_hz: int, original: Acoustics) -> Samples:
    """Samples (n,) or (n, n_channels) with the original's room behind them."""
    tone = room_tone(samples.shape[0], sample_rate_hz, original.floor_db)
    return np.asarray(np.clip(samples + tone.reshape(-1, *[1] * (samples.ndim - 1)), -1.0, 1.0), dtype=np.float32)


def _floor_db(samples: Samples, sample_rate_hz: int) -> tuple[float, ...]:
    """Power by band, dB of full scale, in the quietest moments; none: there is no quiet, or it is digital silence."""
    frame = round(_FLOOR_FRAME_S * sample_rate_hz)
    n_frames = samples.shape[0] // frame
    if n_frames < _FLOOR_PERCENTILE:
        return ()
    window = np.hanning(frame)
    frames = samples[: n_frames * frame].reshape(n_frames, frame) * window
    spectra = np.square(np.abs(np.fft.rfft(frames, axis=1))) * 2 / (frame * np.square(window).sum())
    frequencies = np.fft.rfftfreq(frame, 1 / sample_rate_hz)
    bands = np.stack([spectra[:, band].sum(axis=1) for band in _bands(frequencies)], axis=1)
    totals = bands.sum(axis=1)
    floor = bands[totals <= np.percentile(totals, _FLOOR_PERCENTILE)].mean(axis=0)
    total_db = 10 * np.log10(max(float(floor.sum()), 1e-12))
    if not _LEAST_FLOOR_DB < total_db < _MOST_FLOOR_DB:
        return ()
    return tuple(round(float(level), 1) for level in 10 * np.log10(np.maximum(floor, 1e-12)))


def _bands(frequencies: NDArray[np.floating[Any]]) -> list[NDArray[np.bool_]]:
    return [(frequencies >= low) & (frequencies < high) for low, high in pairwise((*_FLOOR_EDGES_HZ, float("inf")))]


def _lufs(power: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    return _OFFSET_DB + 10 * np.log10(np.maximum(power, 1e-12))


def _k_weighted(samples: Samples, sample_rate_hz: int) -> Samples:
    """Samples (n,) as the ear weighs them: the standard's two filters, given by what they do at 48 kHz."""
    n_padded = -(-(samples.shape[0] + sample_rate_hz // 20) // 1024) * 1024  # a size that is quick to transform
    z = np.exp(-2j * np.pi * np.fft.rfftfreq(n_padded, 1 / sample_rate_hz) / 48_000)
    shelf = (1.53512485958697 - 2.69169618940638 * z + 1.19839281085285 * z**2) / (
        1 - 1.69065929318241 * z + 0.73248077421585 * z**2
    )
    high_pass = (1 - 2 * z + z**2) / (1 - 1.99004745483398 * z + 0.99007225036621 * z**2)
    spectrum = np.fft.rfft(samples, n_padded) * (shelf * high_pass)
    return np.asarray(np.fft.irfft(spectrum, n_padded)[: samples.shape[0]], dtype=np.float32)


def _true_peaks(samples: Samples) -> NDArray[np.float64]:
    """The highest value at and right behind each sample, (n,), of all channels."""
    n_samples = samples.shape[0]
    between = np.abs(soxr.resample(samples, 1, _OVERSAMPLED, "LQ"))
    highest = np.zeros(_OVERSAMPLED * n_samples)
    highest[: between.shape[0]] = between.max(axis=1)[: _OVERSAMPLED * n_samples]
    peaks = np.maximum(highest.reshape(n_samples, _OVERSAMPLED).max(axis=1), np.abs(samples).max(axis=1))
    return np.asarray(peaks)
