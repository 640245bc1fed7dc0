"""What a session tells: each door puts it into its own protocol's words. PURE."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from deployments.contracts.values import Word
from deployments.errors import StageError


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """A voice is heard."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """A pause, the end, or a flush has ended an utterance; its final is on its way."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class Interim:
    """What an utterance says so far."""

    start_ms: int
    """Where the last final ended."""
    end_ms: int
    committed: str
    """Never revised by later interims; the final alone may differ."""
    tentative: str
    """What follows, and may change."""
    model: str = ""
    latency_s: float | None = None
    """Of the first one of an utterance: since the audio came in which it starts; None: it is a later one."""

    @property
    def text(self) -> str:
        """All of it."""
        return f"{self.committed}{self.tentative}".strip()


@dataclass(frozen=True, slots=True)
class Final:
    """What was said in a stretch of audio, for good. Finals follow each other without a gap."""

    start_ms: int
    end_ms: int
    text: str
    """Empty: nothing was said."""
    words: tuple[Word, ...] = ()
    """Times from the session's start; none where the engine tells none."""
    confidence: float = 0.0
    model: str = ""
    utterance_over: bool = True
    """False: the utterance goes on, and was cut for its length."""
    flushed: bool = False
    """Whether a flush asked for it."""
    failure: StageError | None = None
    """Why the text is empty though a voice was heard."""
    latency_s: float | None = None
    """Since the audio came in which the voice ended; None: there was no voice."""


@dataclass(frozen=True, slots=True)
class UtteranceEnd:
    """No word has followed for as long as was asked for."""

    last_word_end_ms: int


@dataclass(frozen=True, slots=True)
class AudioFailed:
    """What comes can't be decoded, or not any further; finals for what could be, and the end, follow."""

    failure: StageError


@dataclass(frozen=True, slots=True)
class Overdue:
    """The session has to end: its client says nothing any more, or it has lasted as long as one may."""

    why: Literal["idle", "lasted"]
    limit_s: float


@dataclass(slots=True)
class Statistics:
    """Counts of one session."""

    audio_ms: int = 0
    chunks: int = 0
    listened: int = 0
    """Calls that looked for a voice."""
    interims: int = 0
    interims_dropped: int = 0
    """That no model had time for."""
    finals: int = 0
    """With words in them."""
    revised_words: int = 0
    """Shown and then changed."""
    errors: int = 0
    """Calls of models that failed."""
    codes: dict[str, int] = field(default_factory=dict)
    """Of these, by the error's code."""


@dataclass(frozen=True, slots=True)
class Completed:
    """The last event of every session: all audio is covered by finals."""

    statistics: Statistics


Event: TypeAlias = SpeechStarted | SpeechEnded | Interim | Final | UtteranceEnd | AudioFailed | Overdue | Completed
