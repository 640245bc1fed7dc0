"""Engines without a model. They ship: the whole chain runs with them, on any machine, at no cost.

Both speak any voice and play a script of delays, errors and crashes.
"""

import zlib
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from deployments.audio import pcm
from deployments.contracts.engines import Line, Spoken, TtsEngine
from deployments.contracts.values import FRAGMENT_MS, Voice
from deployments.errors import Stage, SynthesisFailed
from deployments.fault_script import Script, Step
from deployments.options import EngineOptions
from deployments.tts.text_normalization import plain_text

_RATE_HZ = 24_000
_AMPLITUDE = 0.3
_LOWEST_HZ, _RANGE_HZ = 180, 340


class FakeVoiceOptions(EngineOptions):
    """A tone in place of a voice."""

    measured_ms: ClassVar[int | None] = FRAGMENT_MS
    """What it takes doesn't depend on the length."""

    engine: Literal["fake"] = "fake"
    delay_ms: int = Field(default=0, ge=0)
    """How long it takes over a text."""
    duration_factor: float = Field(default=1.0, gt=0.0, le=10.0)
    """The tone's duration over its target's: above 2.4 it fits by no stretch (DURATION_MISMATCH_EXCEEDED)."""
    script: tuple[Step, ...] = ()

    def build(self) -> TtsEngine:
        """The engine, not yet loaded and picklable."""
        return FakeTts(self)


class FakeTtsOptions(FakeVoiceOptions):
    """The same, with another behind it."""

    faster: FakeVoiceOptions | None = None
    """The fake that speaks what this one can't in time; None: nothing does."""


class FakeTts:
    """Says a tone; its pitch tells texts apart."""

    model = "fake"
    voice_models: frozenset[str] | None = None
    wants_original = False

    def __init__(self, options: FakeVoiceOptions) -> None:
        self._options = options

    def load(self, voices: Mapping[str, Voice]) -> None:  # noqa: ARG002 - it speaks any voice
        """Open the script."""
        self._script = Script(self._options.script, delay_ms=self._options.delay_ms)

    def speak(self, line: Line) -> Spoken:
        """A tone, `duration_factor` times as long as the target."""
        self._script.play(line.ref, Stage.TTS)
        pitch_hz = _LOWEST_HZ + zlib.crc32(plain_text(line.text).encode()) % _RANGE_HZ
        n_samples = pcm.ms_to_samples(line.target_duration_ms * self._options.duration_factor, _RATE_HZ)
        phase = np.arange(n_samples) * (2 * np.pi * pitch_hz / _RATE_HZ)
        return Spoken((_AMPLITUDE * np.sin(phase)).astype(np.float32), _RATE_HZ)


class EchoOptions(EngineOptions):
    """The original in place of a dub: what the worker sent comes back through the whole chain."""

    measured_ms: ClassVar[int | None] = FRAGMENT_MS
    """What it takes doesn't depend on the length."""

    engine: Literal["echo"] = "echo"
    faster: None = None
    """None is."""
    delay_ms: int = Field(default=0, ge=0)
    """How long it takes over a text."""
    script: tuple[Step, ...] = ()

    def build(self) -> TtsEngine:
        """The engine, not yet loaded and picklable."""
        return Echo(self)


class Echo:
    """Gives the worker's own audio back, whatever the text."""

    model = "echo"
    voice_models: frozenset[str] | None = None
    wants_original = True

    def __init__(self, options: EchoOptions) -> None:
        self._options = options

    def load(self, voices: Mapping[str, Voice]) -> None:  # noqa: ARG002 - it has no voice
        """Open the script."""
        self._script = Script(self._options.script, delay_ms=self._options.delay_ms)

    def speak(self, line: Line) -> Spoken:
        """The original's samples."""
        self._script.play(line.ref, Stage.TTS)
        if line.original is None:
            raise SynthesisFailed(Stage.TTS, "there is no original to echo")
        return Spoken(line.original, line.original_rate_hz, original=True)
