"""Where a voice is in live audio: one probability for each 32 ms. Nothing is kept between calls."""

from functools import cache
from typing import Protocol, runtime_checkable

import numpy as np

from deployments.contracts.engines import ASR_RATE_HZ, Samples
from deployments.contracts.values import VOICE_FRAME_MS

FRAME_SAMPLES = ASR_RATE_HZ * VOICE_FRAME_MS // 1000
LEAST_LEVEL = 10 ** (-55 / 20)
"""Of a frame's RMS: what is quieter is no voice, whatever it sounds like."""


@runtime_checkable
class FindsVoice(Protocol):
    """An engine that can tell by itself where a voice is."""

    def voice(self, samples: Samples) -> Samples:
        """Probabilities, float32 (n_frames,), of samples (n_frames * FRAME_SAMPLES,). Blocks."""


def voice_probabilities(samples: Samples, context_samples: int, engine: object) -> tuple[float, ...]:
    """That a voice is heard, of each frame behind the context.

    Args:
        samples: float32 (n_samples,), mono, 16 000 Hz. The last frame is filled up with silence.
        context_samples: how many come before what is asked about.
        engine: is asked where it can tell; else what is loud enough counts as a voice.
    """
    lead = -context_samples % FRAME_SAMPLES
    end = -(lead + len(samples)) % FRAME_SAMPLES
    padded = np.pad(samples, (lead, end))
    first = (lead + context_samples) // FRAME_SAMPLES
    levels = np.sqrt(np.square(padded, dtype=np.float64).reshape(-1, FRAME_SAMPLES).mean(axis=1))
    loud = levels >= LEAST_LEVEL
    if not loud[first:].any():
        return (0.0,) * (len(levels) - first)
    found = engine.voice(padded) if isinstance(engine, FindsVoice) else loud.astype(np.float32)
    return tuple(float(one) for one in np.where(loud, found, 0.0)[first:])


@cache
def _silero() -> object:
    from faster_whisper.vad import get_vad_model  # noqa: PLC0415  loads ONNX Runtime

    return get_vad_model()


def by_silero(samples: Samples) -> Samples:
    """The probabilities of Silero VAD as faster-whisper has it."""
    model = _silero()
    return np.asarray(model(samples.copy()), dtype=np.float32).reshape(-1)  # type: ignore[operator]  # it zeroes its input
