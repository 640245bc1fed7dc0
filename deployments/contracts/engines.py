"""What an engine is given, gives back and has to be. PURE.

Audio is float32 in [-1, 1] here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deployments.contracts.values import FragmentRef, Recognition, TranslateRequest, Voice
from deployments.errors import StageError

Samples: TypeAlias = NDArray[np.float32]

ASR_RATE_HZ = 16_000
"""The rate that every ASR engine hears."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One fragment as an ASR engine gets it."""

    ref: FragmentRef
    samples: Samples
    """float32 (n_samples,), mono, [-1, 1], 16 000 Hz."""
    language: str
    hints: tuple[str, ...] = ()


class AsrEngine(Protocol):
    """FairQueue speech into text. Methods block and are called from a worker thread, never from an event loop."""

    @property
    def model(self) -> str:
        """The model's name as it stands in results."""

    @property
    def languages(self) -> frozenset[str] | None:
        """Base languages it hears; None: any."""

    def load(self) -> None:
        """Load the model. Called once, before anything else; heavy imports happen here."""

    def transcribe(self, utterances: Sequence[Utterance]) -> list[Recognition | StageError]:
        """Recognise several fragments, of several streams if need be.

        Returns one entry an utterance, in order: what was heard, or why that one failed. Raises StageError only when
        the whole call failed.
        """


class TranslationEngine(Protocol):
    """FairQueue text of one language into another. Methods block and are called from a worker thread."""

    @property
    def model(self) -> str:
        """The engine's name as it stands in results."""

    @property
    def pairs(self) -> frozenset[tuple[str, str]] | None:
        """(source, target) base languages it can do once loaded; None: any."""

    def load(self) -> None:
        """Get ready. Called once, before anything else."""

    def translate(self, requests: Sequence[TranslateRequest]) -> list[str | StageError]:
        """Translate several texts. One entry a request, in order: the translation, or why that one failed."""

    def close(self) -> None:
        """Let go of processes and connections."""


@dataclass(frozen=True, slots=True)
class Line:
    """One text as a TTS engine gets it."""

    ref: FragmentRef
    text: str
    voice: Voice
    target_duration_ms: int
    """How long the original lasts. The engine asks for the rate that `speech_rate.wanted_rate` says; the rest is
    stretched."""
    original: Samples | None = None
    """float32 (n_samples, n_channels) at `original_rate_hz`, for engines whose `wants_original` is set."""
    original_rate_hz: int = 0
    speech_ms: int | None = None
    """How long the original speaks within its duration; None: all the time."""
    room_ms: int | None = None
    """How long the voice may be heard, where that isn't the original's duration."""
    rate: float | None = None
    """How fast it is to be said, 1.0 being the voice's natural rate, where there is no original to fit;
    `target_duration_ms` is a guess then."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """What a TTS engine said."""

    samples: Samples
    """float32 (n_samples,) mono or (n_samples, n_channels), [-1, 1]."""
    sample_rate_hz: int
    rate: float = 1.0
    """The speaking rate that was asked for, 1.0 being the voice's natural one."""
    original: bool = False
    """It is the original itself, as loud as that and in its own room."""


class TtsEngine(Protocol):
    """Turns text into speech. Methods block and are called from a worker thread."""

    @property
    def model(self) -> str:
        """The model's name as it stands in results."""

    @property
    def voice_models(self) -> frozenset[str] | None:
        """Which `model` values of voices.json it speaks; None: any."""

    @property
    def wants_original(self) -> bool:
        """Whether `Line.original` must be given."""

    def load(self, voices: Mapping[str, Voice]) -> None:
        """Load the model and check the voices that it will be asked for. Called once, before anything else."""

    def speak(self, line: Line) -> Spoken:
        """Speak one text. Raises StageError."""
