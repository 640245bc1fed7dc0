"""What the three stages exchange: values that cross processes and the protocols that engines fulfil. PURE.

Values are frozen and picklable. Times inside a value are relative to the start of its fragment; placing them on the
stream's timeline is not the business of this package. Audio travels as bytes (cheaper than arrays between replicas);
inside a replica it is float32 in [-1, 1].
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deployments.errors import StageError

Samples: TypeAlias = NDArray[np.float32]

ASR_RATE_HZ = 16_000
"""The rate that every ASR engine hears."""
FASTER_VOICE: Final = "faster_voice"
"""The warning of a dub that the faster voice spoke, since the first one would have been late."""
FASTER_NEEDS_MS = 750
"""What is kept of a fragment's time for the faster voice, where there is one."""
FILL_MODEL = "none"
"""The model of what nobody spoke."""
FRAGMENT_MS = 6000
"""How long the fragments of a live stream are, as a rule."""


@dataclass(frozen=True, slots=True)
class FragmentRef:
    """Which fragment some work belongs to: log context and the key of scripted fakes."""

    stream_id: str
    fragment_id: str
    sequence_number: int


ITSELF = FragmentRef("", "itself", -1)
"""The fragment of a replica that measures itself; no worker's, and no script is about it."""


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """How encoded audio is laid out."""

    container: str
    """A format name of the wire protocol: m4a, wav, pcm_s16le, …"""
    sample_rate_hz: int
    channels: int


@dataclass(frozen=True, slots=True)
class EncodedAudio:
    """Audio as it came from, or goes to, the wire."""

    data: bytes
    format: AudioFormat
    """For a container only a declaration, the container itself tells rate and channels; for PCM the truth."""


# --- speech recognition -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time within a fragment."""

    start_ms: int
    end_ms: int

    @property
    def duration_ms(self) -> int:
        """How long it lasts."""
        return self.end_ms - self.start_ms


@dataclass(frozen=True, slots=True)
class Word:
    """One recognised word."""

    text: str
    start_ms: int
    end_ms: int
    confidence: float
    """Probability in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech between pauses."""

    text: str
    start_ms: int
    end_ms: int
    confidence: float
    """Mean probability of its tokens, in [0, 1]."""
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class Recognition:
    """What an ASR engine heard in one fragment. No segments: no speech."""

    segments: tuple[Segment, ...]
    language: str
    """Base language, such as en."""

    @property
    def text(self) -> str:
        """All segments as one line; empty when nothing was said."""
        return " ".join(segment.text.strip() for segment in self.segments).strip()

    @property
    def speech(self) -> tuple[Span, ...]:
        """When something was said: of each word where the engine tells words, else of each segment."""
        return tuple(Span(part.start_ms, part.end_ms) for one in self.segments for part in one.words or (one,))


@dataclass(frozen=True, slots=True)
class TranscribeRequest:
    """One fragment for the Asr deployment."""

    ref: FragmentRef
    audio: EncodedAudio
    language: str
    """Base language spoken, such as en."""
    hints: tuple[str, ...]
    """Words and topics to expect (domain hints)."""
    budget_ms: int
    """What is left of the fragment's deadline when the request leaves the caller."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """The Asr deployment's answer."""

    recognition: Recognition
    duration_ms: int
    """Of the decoded audio."""
    audio_format: AudioFormat
    """What the decoder found, not what was declared: the container name of the request, true rate and channels."""
    model: str
    elapsed_ms: int
    """Decoding and inference; waiting is not in it."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One fragment as an ASR engine gets it."""

    ref: FragmentRef
    samples: Samples
    """float32 (n_samples,), mono, [-1, 1], 16 000 Hz."""
    language: str
    hints: tuple[str, ...] = ()


class AsrEngine(Protocol):
    """Turns speech into text. Methods block and are called from a worker thread, never from an event loop."""

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


# --- translation ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TranslateRequest:
    """One fragment's text for the Translation deployment, or one text of a batch for its engine."""

    ref: FragmentRef
    text: str
    """Never empty: empty transcripts are not translated."""
    source_language: str
    target_language: str
    hints: tuple[str, ...]
    context: str
    """What the stream said just before, in the source language; not translated."""
    budget_ms: int


@dataclass(frozen=True, slots=True)
class Translation:
    """The Translation deployment's answer."""

    text: str
    source_language: str
    target_language: str
    model: str
    elapsed_ms: int


class TranslationEngine(Protocol):
    """Turns text of one language into another. Methods block and are called from a worker thread."""

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


# --- speech synthesis -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Voice:
    """One entry of voices.json."""

    name: str
    """The key that workers send as voice_profile."""
    model: str
    """The engine or model that speaks it: kokoro, espeak, xtts_v2, …"""
    language: str
    """Base language it speaks."""
    speaker: str = ""
    """The model's own name for the speaker, if it has one."""
    speaker_wav: str = ""
    """Path of a reference recording, for models that clone a voice."""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Carried:
    """The end of a dub that ran over its original; the next fragment's dub opens with it."""

    data: bytes
    """16 bit integers, little endian, mono."""
    sample_rate_hz: int

    @property
    def duration_ms(self) -> int:
        """How long it lasts."""
        return round(len(self.data) * 500 / self.sample_rate_hz)


@dataclass(frozen=True, slots=True)
class SynthesizeRequest:
    """One fragment's translation for the Tts deployment."""

    ref: FragmentRef
    text: str
    """Never empty: empty translations are filled, not spoken."""
    voice: str
    """A key of voices.json."""
    target_duration_ms: int
    """The decoded duration of the original."""
    output: AudioFormat
    budget_ms: int
    original: EncodedAudio | None = None
    """Only for engines whose `wants_original` is set."""
    speech: tuple[Span, ...] = ()
    """When the original speaks, ordered; none: nobody knows, and the dub takes all of its time."""
    carried: Carried | None = None
    """What the fragment before left over."""
    may_carry: bool = False
    """Whether the next fragment can still open with what is left over of this one."""
    faster_voice: str = ""
    """A key of voices.json that the faster engine speaks where `voice` would be late; empty: nothing does."""
    hasten: bool = False
    """Whether the faster voice is to speak from the start."""


@dataclass(frozen=True, slots=True)
class FillRequest:
    """A fragment without speech for the Tts deployment: silence, or the original, in the stream's format."""

    ref: FragmentRef
    target_duration_ms: int
    output: AudioFormat
    budget_ms: int
    original: EncodedAudio | None = None
    """Given: the original is sent back. None: silence."""
    carried: Carried | None = None
    """What the fragment before left over; it is heard over the original."""


@dataclass(frozen=True, slots=True)
class Speech:
    """The Tts deployment's answer: audio ready for the wire."""

    audio: EncodedAudio
    duration_ms: int
    """Of the dub, as a decoder will find it."""
    variance_percent: float
    """|dub − original| / original × 100."""
    speed_ratio: float
    """Spoken duration over fitted duration: above 1 the voice was sped up."""
    model: str
    elapsed_ms: int
    """Speaking, fitting and encoding; waiting is not in it."""
    partial: bool = False
    """The variance is above the success limit and within the partial one."""
    warnings: tuple[str, ...] = ()
    carried: Carried | None = None
    """What is left over for the next fragment."""


@dataclass(frozen=True, slots=True)
class Line:
    """One text as a TTS engine gets it."""

    ref: FragmentRef
    text: str
    voice: Voice
    target_duration_ms: int
    """How long the original lasts. The engine asks for the rate that `pace.wanted_rate` says; the rest is stretched."""
    original: Samples | None = None
    """float32 (n_samples, n_channels) at `original_rate_hz`, for engines whose `wants_original` is set."""
    original_rate_hz: int = 0
    speech_ms: int | None = None
    """How long the original speaks within its duration; None: all the time."""
    room_ms: int | None = None
    """How long the voice may be heard, where that isn't the original's duration."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """What a TTS engine said."""

    samples: Samples
    """float32 (n_samples,) mono or (n_samples, n_channels), [-1, 1]."""
    sample_rate_hz: int
    rate: float = 1.0
    """The speaking rate that was asked for, 1.0 being the voice's natural one."""


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


# --- what a deployment can do -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Measured:
    """What a replica took at its start for a fragment of `FRAGMENT_MS`, with nothing else to do."""

    fragment_ms: float
    """Of one slot."""
    cpu_ms: float
    """Of all cores together; what child processes compute is not in it."""
    slots: int
    """Fragments that compute at once."""
    cores: float
    """That it may use, with all that runs beside it."""


@dataclass(frozen=True, slots=True)
class AsrCapabilities:
    """What streams may ask of the Asr deployment."""

    model: str
    languages: frozenset[str] | None
    measured: Measured | None = None
    """None: it did not measure itself."""
    at_once: int = 0
    """Fragments that a replica computes at once, at most; 0: not known."""


@dataclass(frozen=True, slots=True)
class TranslationCapabilities:
    """What streams may ask of the Translation deployment."""

    model: str
    pairs: frozenset[tuple[str, str]] | None
    measured: Measured | None = None
    """None: it did not measure itself, as where each text costs money."""
    at_once: int = 0
    """Fragments that a replica computes at once, at most; 0: not known."""


@dataclass(frozen=True, slots=True)
class TtsCapabilities:
    """What streams may ask of the Tts deployment."""

    model: str
    voices: Mapping[str, str] = field(default_factory=dict)
    """Voice name to base language; the language `*` speaks any."""
    default_voices: Mapping[str, str] = field(default_factory=dict)
    """Base language (or `*`) to the voice that `default` means."""
    wants_original: bool = False
    measured: Measured | None = None
    """None: it did not measure itself."""
    at_once: int = 0
    """Fragments that a replica computes at once, at most; 0: not known."""
    faster_voices: Mapping[str, str] = field(default_factory=dict)
    """Base language (or `*`) to the voice of the faster engine; empty: there is none."""
