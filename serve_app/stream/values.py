"""What goes into a session and what comes out of it. PURE."""

from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deployments.contracts.values import (
    FASTER_NEEDS_MS,
    FASTER_VOICE,
    AudioFormat,
    EncodedAudio,
)
from serve_app.protocol import ServerEvent

FallbackMode: TypeAlias = Literal["silence", "original"]
ORIGINAL_AUDIO, SILENCE = "original_audio", "silence"
"""Warnings of what is sent where no voice could speak in time."""
LAST_RESORT_NEEDS_S = 0.5
"""For the original, or for silence; a tenth of the fragment's time where that is less."""
Rung: TypeAlias = Literal["faster_voice", "original", "silence"]
NORMAL_CLOSURE = 1000
SERVICE_RESTART = 1012
"""WebSocket close code that makes Socket.IO clients come back by themselves."""


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """What `stream:init` agreed on; fixed for the stream's life."""

    stream_id: str
    session_id: str
    worker_id: str
    source_language: str
    """Base language, such as en."""
    target_language: str
    voice: str
    """A key of voices.json, `default` already resolved."""
    hints: tuple[str, ...]
    output: AudioFormat
    """The stream's own format; PCM in it tells rate and channels of the dub."""
    chunk_duration_ms: int
    max_inflight: int
    timeout_ms: int
    first_sequence_number: int
    wall_offset_s: float = 0.0
    """Unix time minus the clock that `now` is read from."""
    faster_voice: str = ""
    """A key of voices.json: speaks where `voice` would be late; empty: none can."""
    faster_needs_ms: int = FASTER_NEEDS_MS
    """What is kept of a fragment's time for that one."""


class StreamLimits(BaseModel):
    """Thresholds and defaults that an operator may change while streams run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_inflight: int = Field(default=3, ge=1, le=10)
    """Of a stream that names none (FR-054)."""
    critical_inflight: int = Field(default=10, ge=1, le=100)
    """A fragment that would make more than this many in flight is rejected."""
    timeout_ms: int = Field(default=8000, ge=1000, le=30_000)
    """From acceptance to result, of a stream that names none (FR-055)."""
    fallback_mode: FallbackMode = "silence"
    """What a fragment without speech comes back as (FR-056)."""
    start_wait_ms: int = Field(default=1000, ge=0, le=30_000)
    """How long a stream's very first numbers are waited for."""
    release_slack_ms: int = Field(default=250, ge=0, le=1000)
    """A finished result held back by a missing number leaves this long before its deadline."""
    kept_results: int = Field(default=64, ge=0, le=1024)
    kept_bytes: int = Field(default=8 * 1024 * 1024, ge=0)
    """Audio kept for resends, by stream; less while the client has much to read."""
    close_delay_ms: int = Field(default=5000, ge=0, le=60_000)
    """From `stream:complete` to the end of the connection."""
    degrade: tuple[Rung, ...] = Field(default=(FASTER_VOICE,), max_length=2)
    """What a fragment gets, in this order, that would be late otherwise: the voice of `tts.faster`; the original, or
    silence, as a partial result. Empty: it fails."""

    @model_validator(mode="after")
    def _one_after_the_other(self) -> Self:
        if len(set(self.degrade)) < len(self.degrade) or set(self.degrade) == {"original", "silence"}:
            raise ValueError("degrade: at most faster_voice, then either original or silence")
        if FASTER_VOICE in self.degrade[1:]:
            raise ValueError("degrade: faster_voice comes first, since it is better than the others")
        return self


@dataclass(frozen=True, slots=True)
class Fragment:
    """One fragment as it arrived."""

    fragment_id: str
    sequence_number: int
    audio: EncodedAudio
    declared_duration_ms: int
    digest: bytes
    """Of the audio bytes: tells a resend from a reused id."""
    pts_ms: int | None = None
    """Start on the worker's timeline."""


def last_resort(rungs: tuple[Rung, ...]) -> FallbackMode | None:
    """What is sent where no voice can speak in time; None: the failure is."""
    return next((rung for rung in rungs if rung != "faster_voice"), None)


def reserve_s(rungs: tuple[Rung, ...], timeout_ms: int) -> float:
    """What is kept of a fragment's time for the last resort, if there is one."""
    return min(LAST_RESORT_NEEDS_S, timeout_ms / 10_000) if last_resort(rungs) else 0.0


# --- effects: what the shell has to do, in this order -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Emit:
    """Send an event to the stream's worker."""

    event: ServerEvent
    again: bool = False
    """A kept result that goes out once more; it was counted the first time."""


@dataclass(frozen=True, slots=True)
class Submit:
    """Start the pipeline on a fragment."""

    ticket: int
    """Names this attempt in `running`, `complete` and `Cancel`; never reused."""
    fragment: Fragment
    deadline: float
    """On the clock of `now`, in seconds."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop the pipeline of an attempt; its result is not wanted any more."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Close:
    """End the connection."""

    delay_ms: int
    code: int
    reason: str


Effect: TypeAlias = Emit | Submit | Cancel | Close
