"""What the stages exchange: requests, answers, what a deployment can do. PURE.

Values are frozen and picklable: they cross processes. Times inside a value are relative to the start of its fragment;
placing them on the stream's timeline is not the business of this package. Audio travels as bytes, which is cheaper
between replicas than arrays.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Generic, Protocol, Self, TypeVar, cast

from deployments.errors import Stage, StageError

FASTER_VOICE: Final = "faster_voice"
"""The warning of a dub that the faster voice spoke, since the first one would have been late."""
FASTER_NEEDS_MS = 750
"""What is kept of a fragment's time for the faster voice, where there is one, at the least."""
FILL_MODEL = "none"
"""The model of what nobody spoke."""
FRAGMENT_MS = 6000
"""How long the fragments of a live stream are, as a rule."""
VOICE_FRAME_MS = 32
"""How long the stretches of audio are in which a voice is looked for."""
RAW_BYTES = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}
"""Audio without a container, which can be cut between any two samples: what one of these takes, of one channel."""

SAID_RATE_HZ = 24_000
"""Of what is said without an original."""
OPUS_PACKETS: Final = "opus"
"""Live audio as bare packets of Opus, one a message."""
CONTAINER: Final = "container"
"""Live audio in whatever container its bytes show, such as the WebM of a browser's recorder."""


@dataclass(frozen=True, slots=True)
class FragmentRef:
    """Which fragment some work belongs to: log context and the key of scripted fakes."""

    stream_id: str
    fragment_id: str
    sequence_number: int


ITSELF = FragmentRef("", "itself", -1)
"""The fragment of a replica that measures itself; no worker's, and no script is about it."""


class Answer(Protocol):
    """What a stage answers."""

    @property
    def elapsed_ms(self) -> int:
        """That it computed; waiting is not in it."""


A = TypeVar("A", bound=Answer)


class Request(Generic[A]):
    """What a stage is asked about a fragment; `A` is its answer."""

    __slots__ = ()
    STAGE: ClassVar[Stage]
    """Whose it is."""
    METHOD: ClassVar[str]
    """Of the stage's deployment."""
    ref: FragmentRef
    budget_ms: int
    """What is left of the fragment's deadline when the request leaves the caller."""

    def changed(self, **changes: Any) -> Self:
        """The same but for these fields."""
        return cast(Self, replace(cast(Any, self), **changes))


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
    repeats: bool = False
    """What is said again and again is left out: it may be the model's own doing, or a speaker's."""

    @property
    def text(self) -> str:
        """All segments as one line; empty when nothing was said."""
        return " ".join(segment.text.strip() for segment in self.segments).strip()

    @property
    def speech(self) -> tuple[Span, ...]:
        """When something was said: of each word where the engine tells words, else of each segment."""
        return tuple(Span(part.start_ms, part.end_ms) for one in self.segments for part in one.words or (one,))


@dataclass(frozen=True, slots=True)
class TranscribeRequest(Request["Transcript"]):
    """One fragment for the Asr deployment."""

    STAGE = Stage.ASR
    METHOD = "transcribe"
    ref: FragmentRef
    audio: EncodedAudio
    language: str
    """Base language spoken, such as en."""
    hints: tuple[str, ...]
    """Words and topics to expect (domain hints)."""
    budget_ms: int
    interim: bool = False
    """It will be heard again when more of it is there: fast is better than right, and late is worth nothing."""


@dataclass(frozen=True, slots=True)
class VoiceActivity:
    """The Asr deployment's answer to `ListenRequest`."""

    probabilities: tuple[float, ...]
    """That a voice is heard, in [0, 1], of each `VOICE_FRAME_MS`; the last frame may be shorter."""
    elapsed_ms: int


@dataclass(frozen=True, slots=True)
class ListenRequest(Request["VoiceActivity"]):
    """A stretch of live audio for the Asr deployment: is there a voice in it?"""

    STAGE = Stage.ASR
    METHOD = "listen"
    ref: FragmentRef
    audio: EncodedAudio
    context_ms: int
    """How much of it comes before what is asked about."""
    budget_ms: int


@dataclass(frozen=True, slots=True)
class Acoustics:
    """What an original sounds like, for its dub to sound as if it were there."""

    loudness_lufs: float | None
    """Of what is heard in it; None: nothing is."""
    floor_db: tuple[float, ...] = ()
    """Power in its quietest moments, dB of full scale, by band from low to high; none: no room is heard."""


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
    acoustics: Acoustics | None = None
    """None: not measured."""


@dataclass(frozen=True, slots=True)
class TranslateRequest(Request["Translation"]):
    """One fragment's text for the Translation deployment, or one text of a batch for its engine."""

    STAGE = Stage.TRANSLATION
    METHOD = "translate"
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
class Overhang:
    """The end of a dub that ran over its original; the next fragment's dub opens with it."""

    data: bytes
    """16 bit integers, little endian, mono."""
    sample_rate_hz: int

    @property
    def duration_ms(self) -> int:
        """How long it lasts."""
        return round(len(self.data) * 500 / self.sample_rate_hz)


@dataclass(frozen=True, slots=True)
class SynthesizeRequest(Request["Speech"]):
    """One fragment's translation for the Tts deployment."""

    STAGE = Stage.TTS
    METHOD = "synthesize"
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
    overhang: Overhang | None = None
    """What the fragment before left over."""
    may_run_over: bool = False
    """Whether the next fragment can still open with what is left over of this one."""
    faster_voice: str = ""
    """A key of voices.json that the faster engine speaks where `voice` would be late; empty: nothing does."""
    hasten: bool = False
    """Whether the faster voice is to speak from the start."""
    acoustics: Acoustics | None = None
    """Of the original; None: the dub is as loud as the voice."""


@dataclass(frozen=True, slots=True)
class SayRequest(Request["Sound"]):
    """A text for the Tts deployment to say as a voice says it: there is no original whose time it has to fit."""

    STAGE = Stage.TTS
    METHOD = "say"
    ref: FragmentRef
    text: str
    """Never empty. A sentence or a few: nothing of it is heard before all of it is spoken."""
    voice: str
    """A key of voices.json."""
    budget_ms: int
    rate: float = 1.0
    """How fast, 1.0 being the voice's natural rate; .25 to 4."""


@dataclass(frozen=True, slots=True)
class Sound:
    """The Tts deployment's answer to `SayRequest`."""

    data: bytes
    """16 bit integers, little endian, mono, `SAID_RATE_HZ`; quiet at both ends."""
    model: str
    elapsed_ms: int
    """Speaking and stretching; waiting is not in it."""


@dataclass(frozen=True, slots=True)
class FillRequest(Request["Speech"]):
    """A fragment without speech for the Tts deployment: silence, or the original, in the stream's format."""

    STAGE = Stage.TTS
    METHOD = "fill"
    ref: FragmentRef
    target_duration_ms: int
    output: AudioFormat
    budget_ms: int
    original: EncodedAudio | None = None
    """Given: the original is sent back. None: silence."""
    overhang: Overhang | None = None
    """What the fragment before left over; it is heard over the original."""
    acoustics: Acoustics | None = None
    """Of the original; None: silence is digital."""


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
    overhang: Overhang | None = None
    """What is left over for the next fragment."""
    may_be_sold: bool | None = None
    """By the licence of the model that spoke; None: not known, or nobody spoke."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the pipeline made of a fragment. Parts are there as far as it came."""

    transcript: Transcript | None = None
    translation: Translation | None = None
    speech: Speech | None = None
    failure: StageError | None = None
    replaced: StageError | None = None
    """The failure in whose place the original, or silence, is sent."""
    warnings: tuple[str, ...] = ()


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

    def hears(self, language: str) -> bool:
        """Whether a base language may be spoken."""
        return self.languages is None or language in self.languages

    @property
    def default_language(self) -> str:
        """What is taken to be spoken where nobody says."""
        return "en" if self.languages is None or "en" in self.languages else min(self.languages)


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
    faster_needs_ms: int = FASTER_NEEDS_MS
    """What is to be kept of a fragment's time for that one."""
