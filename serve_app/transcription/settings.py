"""What a transcription session is asked for, and the bounds that an operator sets. PURE."""

from dataclasses import dataclass
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

LEAST_ENDPOINTING_MS = 300
"""A shorter pause ends no utterance: each end costs a call of the model, and breaths are no ends."""

RECORDING_LISTEN_MS, RECORDING_UTTERANCE_MS, RECORDING_TIMEOUT_MS, RECORDING_PENDING = 5_000, 28_000, 120_000, 8
"""Limits of whole files, in place of those of live sessions: see `TranscriptionLimits`."""
_DAY_S = 86_400.0
LEAST_RECORDING_UTTERANCE_MS = 12_000
"""What a pause may end of a whole file: a call of the model costs much the same for one second as for these."""


@dataclass(frozen=True, slots=True)
class TranscriptionSettings:
    """What one session was opened with; fixed for its life."""

    language: str
    """Base language spoken, such as en."""
    hints: tuple[str, ...] = ()
    """Words to expect."""
    interims: bool = True
    """Whether words are shown while they are being said."""
    endpointing_ms: int | None = 500
    """How long a pause ends an utterance; None: only a flush, the end and the longest utterance do."""
    utterance_end_ms: int | None = None
    """How long after the last word it is told that no more came; None: never."""
    least_utterance_ms: int = 0
    """A pause ends only an utterance that has lasted so long: whole files are cheaper in longer pieces."""

    @classmethod
    def of_recording(cls, language: str, hints: tuple[str, ...]) -> Self:
        """For a whole file: nobody reads along, and pieces may be long."""
        return cls(language, hints, interims=False, least_utterance_ms=LEAST_RECORDING_UTTERANCE_MS)


class TranscriptionLimits(BaseModel):
    """What a session may cost, and how often the models are asked for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen_ms: int = Field(default=256, ge=64, le=5000)
    """How much audio is looked through for a voice at a time."""
    interim_step_ms: int = Field(default=500, ge=100, le=10_000)
    """From one interim to the next at the best; more where the models need longer."""
    max_utterance_ms: int = Field(default=15_000, ge=5000, le=28_000)
    """One that lasts longer is cut at its quietest place."""
    final_timeout_ms: int = Field(default=10_000, ge=1000, le=120_000)
    """From the end of an utterance to its final, which is empty if it takes longer."""
    max_pending: int = Field(default=3, ge=1, le=64)
    """Utterances of one session that wait for their final; audio is not listened to above that."""
    max_backlog_ms: int = Field(default=30_000, ge=5000, le=600_000)
    """Audio that waits to be listened to; above, no more is read from the client."""
    idle_timeout_s: float = Field(default=300.0, gt=0)
    """Without a message from the client."""
    max_session_s: float = Field(default=3600.0, gt=0)
    max_sessions: int = Field(default=64, ge=1, le=10_000)
    """Of one ingress replica."""
    max_transcript_characters: int = Field(default=50_000, ge=1000, le=1_000_000)
    """Of the whole transcript that a session keeps for its end, and of each translation; the oldest go."""
    max_recording_s: float = Field(default=14_400.0, gt=0)
    """Of a whole file; what is longer is refused, once so much of it has been heard."""
    max_upload_bytes: int = Field(default=512 * 1024 * 1024, ge=1024)
    """Of a whole file, as it is sent."""
    fetch: Literal["off", "public", "any"] = "off"
    """Whether a whole file may be named by a URL for this server to fetch: not at all, from public addresses, or from
    those inside its networks too."""

    def of_recordings(self) -> Self:
        """The same for whole files: many of their utterances wait at once, and for as long as live ones come first."""
        return self.model_copy(
            update={
                "listen_ms": RECORDING_LISTEN_MS,
                "max_utterance_ms": RECORDING_UTTERANCE_MS,
                "final_timeout_ms": RECORDING_TIMEOUT_MS,
                "max_pending": RECORDING_PENDING,
                "idle_timeout_s": _DAY_S,
                "max_session_s": _DAY_S,
            }
        )
