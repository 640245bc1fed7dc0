"""Samples as numbers and as raw bytes. PURE: numpy only; containers, codecs and deadlines are not known here.

Audio is float32 (n_samples, n_channels) in [-1, 1] everywhere in this package; (n_samples,) is taken as mono.
"""

import numpy as np
from numpy.typing import NDArray

from deployments.contracts.engines import Samples
from deployments.contracts.values import RAW_BYTES, Span
from deployments.errors import InvalidAudio, Stage

SAMPLE_BYTES = {name: RAW_BYTES[name] for name in ("pcm_s16le", "pcm_f32le")}
"""The raw formats that are spoken too, and the bytes that one sample of one channel takes."""

_FRAME_MS = 10
_S16_SCALE = 32_768.0
_CANCELLED = 0.05
"""Share of the loudest channel's power below which a mix has lost it; two that have nothing in common keep a half, and
one beside a silent one a quarter."""
_CENTRE_GAIN = 0.7071
"""What a surround channel contributes to each side of a stereo downmix (−3 dB)."""


def ms_to_samples(duration_ms: float, sample_rate_hz: int) -> int:
    """The nearest number of samples."""
    return round(duration_ms * sample_rate_hz / 1000)


def samples_to_ms(n_samples: int, sample_rate_hz: int) -> int:
    """The nearest number of milliseconds."""
    return round(n_samples * 1000 / sample_rate_hz)


def with_channel_axis(samples: Samples) -> Samples:
    """The same samples as (n_samples, n_channels)."""
    return samples[:, np.newaxis] if samples.ndim == 1 else samples


def bounded(samples: Samples) -> Samples:
    """The samples clipped to [-1, 1]. NaN and infinities: InvalidAudio."""
    if not np.isfinite(samples).all():
        raise InvalidAudio(Stage.ASR, "the samples hold NaN or infinity")
    return np.clip(samples, -1.0, 1.0)


def from_bytes(data: bytes, container: str, channels: int) -> Samples:
    """Raw interleaved PCM as float32 (n_samples, channels).

    Bytes that don't make whole samples of all channels, NaN and infinities: InvalidAudio. `container` is a key of
    `RAW_BYTES`.
    """
    frame_bytes = RAW_BYTES[container] * channels
    if len(data) % frame_bytes:
        raise InvalidAudio(
            Stage.ASR,
            f"{len(data)} bytes of {container} are not whole samples of {channels} channel(s)",
            {"frame_bytes": frame_bytes},
        )
    if container == "pcm_s16le":
        samples = np.frombuffer(data, dtype="<i2").astype(np.float32) / np.float32(_S16_SCALE)
    elif container in _TELEPHONE_LEVELS:
        samples = _TELEPHONE_LEVELS[container][np.frombuffer(data, dtype=np.uint8)]
    else:
        samples = bounded(np.frombuffer(data, dtype="<f4").astype(np.float32))
    return samples.reshape(-1, channels)


def _mulaw_levels() -> Samples:
    """What each byte of mu-law stands for, float32 (256,) (ITU-T G.711)."""
    code = ~np.arange(256, dtype=np.uint8)
    exponent, mantissa = (code >> 4 & 7).astype(np.int32), (code & 15).astype(np.int32)
    level = ((mantissa << 3) + 0x84 << exponent) - 0x84
    return np.where(code & 0x80, -level, level).astype(np.float32) / np.float32(_S16_SCALE)


def _alaw_levels() -> Samples:
    """What each byte of A-law stands for, float32 (256,) (ITU-T G.711)."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent, mantissa = (code >> 4 & 7).astype(np.int32), (code & 15).astype(np.int32)
    level = (mantissa << 4) + 8
    level = np.where(exponent > 0, level + 0x100 << np.maximum(exponent - 1, 0), level)
    return np.where(code & 0x80, level, -level).astype(np.float32) / np.float32(_S16_SCALE)


_TELEPHONE_LEVELS = {"mulaw": _mulaw_levels(), "alaw": _alaw_levels()}


def to_s16(samples: Samples) -> NDArray[np.int16]:
    """Samples as 16 bit integers, clipped and never wrapped around."""
    scaled = np.clip(np.rint(samples * np.float32(_S16_SCALE)), -_S16_SCALE, _S16_SCALE - 1)
    return np.asarray(scaled, dtype=np.int16)


def to_bytes(samples: Samples, container: str) -> bytes:
    """Samples as raw interleaved PCM. `container` is a key of `SAMPLE_BYTES`."""
    if container == "pcm_s16le":
        return to_s16(samples).astype("<i2").tobytes()
    return np.clip(samples, -1.0, 1.0).astype("<f4").tobytes()


def map_channels(samples: Samples, channels: int) -> Samples:
    """Samples (n_samples, n_channels) spread or mixed to 1 or 2 channels, without clipping.

    More than two channels are taken as left, right and others that are heard on both sides.
    """
    have = samples.shape[1]
    if have == channels:
        return samples
    if have > 2:  # noqa: PLR2004 - more than left and right
        others = samples[:, 2:].mean(axis=1, keepdims=True)
        samples = (samples[:, :2] + np.float32(_CENTRE_GAIN) * others) / np.float32(1 + _CENTRE_GAIN)
        return map_channels(samples, channels)
    if channels == 1:
        return np.asarray(samples.mean(axis=1, keepdims=True), dtype=np.float32)
    return np.repeat(samples, channels, axis=1)


def heard(samples: Samples) -> Samples:
    """Samples (n_samples, n_channels) as one channel, (n_samples,), without a constant offset.

    The mean of the channels, unless these cancel each other out: then the loudest of them.
    """
    if not samples.shape[0]:
        return samples[:, 0]
    centred = samples - samples.mean(axis=0, dtype=np.float64).astype(np.float32)
    mono = map_channels(centred, 1)[:, 0]
    powers = np.square(centred, dtype=np.float64).mean(axis=0)
    loudest = int(powers.argmax())
    if np.square(mono, dtype=np.float64).mean() < _CANCELLED * powers[loudest]:
        return np.asarray(centred[:, loudest])
    return mono


def silence(n_samples: int, channels: int) -> Samples:
    """Zeros, float32 (n_samples, channels)."""
    return np.zeros((n_samples, channels), dtype=np.float32)


def fit_length(samples: Samples, n_samples: int) -> Samples:
    """Samples (n,) or (n, n_channels) cut, or filled up with silence at the end, to n_samples."""
    missing = n_samples - samples.shape[0]
    if missing <= 0:
        return samples[:n_samples]
    return np.concatenate([samples, np.zeros((missing, *samples.shape[1:]), dtype=np.float32)])


def trim_silence(samples: Samples, sample_rate_hz: int, threshold: float = 0.01, *, keep_ms: float = 10.0) -> Samples:
    """Samples (n,) or (n, n_channels) without what is quieter than `threshold` before and after the loud part.

    `keep_ms` of the quiet stays on each side, so that soft consonants do. Nothing loud: no samples.
    """
    loud = np.flatnonzero(np.abs(with_channel_axis(samples)).max(axis=1, initial=0.0) > threshold)
    if loud.size == 0:
        return samples[:0]
    keep = ms_to_samples(keep_ms, sample_rate_hz)
    return samples[max(0, int(loud[0]) - keep) : int(loud[-1]) + 1 + keep]


def loud_spans(
    samples: Samples, sample_rate_hz: int, *, least_gap_ms: int = 120, below_peak_db: float = 35.0
) -> tuple[Span, ...]:
    """When samples (n,) or (n, n_channels) are heard: frames less than `below_peak_db` quieter than the loudest one.

    Gaps shorter than `least_gap_ms` (stops inside words) are no gaps. Only silence: none.
    """
    n_frame = max(1, ms_to_samples(_FRAME_MS, sample_rate_hz))
    mono = with_channel_axis(samples).mean(axis=1)
    n_frames = -(-mono.shape[0] // n_frame)
    frames = fit_length(mono.astype(np.float32), n_frames * n_frame).reshape(n_frames, n_frame)
    power = np.square(frames, dtype=np.float64).mean(axis=1)
    loudest = float(power.max(initial=0.0))
    if loudest <= 0:
        return ()
    edges = np.flatnonzero(np.diff(power > loudest * 10 ** (-below_peak_db / 10), prepend=False, append=False))
    end_ms = samples_to_ms(mono.shape[0], sample_rate_hz)
    found: list[Span] = []
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        start_ms, until_ms = int(start) * _FRAME_MS, min(int(end) * _FRAME_MS, end_ms)
        if found and start_ms - found[-1].end_ms < least_gap_ms:
            found[-1] = Span(found[-1].start_ms, until_ms)
        else:
            found.append(Span(start_ms, until_ms))
    return tuple(found)


def fade(
    samples: Samples, sample_rate_hz: int, fade_ms: float = 5.0, *, start: bool = True, end: bool = True
) -> Samples:
    """A copy of samples (n,) or (n, n_channels) that starts and ends at zero without a click."""
    faded = samples.copy()
    n_samples = min(ms_to_samples(fade_ms, sample_rate_hz), samples.shape[0] // 2)
    if n_samples > 0:
        ramp = np.linspace(0.0, 1.0, n_samples, dtype=np.float32).reshape(-1, *[1] * (samples.ndim - 1))
        if start:
            faded[:n_samples] *= ramp
        if end:
            faded[-n_samples:] *= ramp[::-1]
    return faded
