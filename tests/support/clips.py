"""Fragments cut from the real recordings in tests/data/speech, encoded as workers send them."""

import json
from functools import cache
from pathlib import Path

import av
import numpy as np

from deployments.audio import codec, pcm
from deployments.contracts.engines import Samples
from deployments.contracts.values import AudioFormat, EncodedAudio

SPEECH = Path(__file__).resolve().parents[1] / "data" / "speech"


@cache
def transcripts() -> dict[str, str]:
    entries = json.loads((SPEECH / "transcripts.json").read_text(encoding="utf-8"))
    return {name: entry["text"] for name, entry in entries.items()}


@cache
def clip(name: str, rate_hz: int = 48_000) -> Samples:
    """float32 (n_samples, 1) of one recording."""
    decoded = codec.decode(
        EncodedAudio((SPEECH / name).read_bytes(), AudioFormat(name.rsplit(".", maxsplit=1)[-1], 16_000, 1))
    )
    return codec.resample(decoded.samples, decoded.sample_rate_hz, rate_hz)


def encoded(samples: Samples, container: str, rate_hz: int = 48_000, channels: int = 2) -> bytes:
    return codec.encode(samples, rate_hz, AudioFormat(container, rate_hz, channels)).data


@cache
def adts_fragments(duration_ms: int = 6000) -> tuple[bytes, ...]:
    """The long clip as raw ADTS AAC, 48 kHz stereo: what existing workers label m4a."""
    samples = clip("two_cities.flac")
    step = duration_ms * 48
    return tuple(encoded(samples[i : i + step], "aac") for i in range(0, len(samples) - step, step))


@cache
def silence(container: str = "aac", duration_ms: int = 3000) -> bytes:
    return encoded(np.zeros((duration_ms * 48, 1), np.float32), container)


@cache
def music(container: str = "aac", duration_ms: int = 3000) -> bytes:
    """A chord that swells and fades, with a little vibrato."""
    t = np.arange(duration_ms * 48, dtype=np.float32) / 48_000
    chord = sum(np.sin(2 * np.pi * f * t + 0.5 * np.sin(2 * np.pi * 5 * t)) for f in (220.0, 277.2, 329.6, 440.0))
    swell = np.sin(np.pi * t / t[-1]) * 0.15
    return encoded((chord * swell).astype(np.float32)[:, None], container)


def decoded(result_audio: bytes, container: str, rate_hz: int = 48_000, channels: int = 2) -> codec.Decoded:
    return codec.decode(EncodedAudio(result_audio, AudioFormat(container, rate_hz, channels)))


def g711(samples: Samples, law: str, rate_hz: int = 8000) -> bytes:
    """Samples (n,) as a telephone sends them, `mulaw` or `alaw`, by FFmpeg's encoder."""
    context = av.CodecContext.create(f"pcm_{law}", "w")
    context.sample_rate, context.layout, context.format = rate_hz, "mono", "s16"
    frame = av.AudioFrame.from_ndarray(pcm.to_s16(samples)[np.newaxis], "s16", "mono")
    frame.sample_rate = rate_hz
    return b"".join(bytes(packet) for packet in (*context.encode(frame), *context.encode(None)))
