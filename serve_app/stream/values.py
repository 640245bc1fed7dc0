"""What goes into a session and what comes out of it. PURE."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from deployments.contracts import FASTER_VOICE, AudioFormat, EncodedAudio, Speech, Transcript, Translation
from deployments.errors import Stage, StageError
from serve_app.protocol import ServerEvent
from serve_app.stream.carry import Carry
from serve_app.stream.said import Said

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


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Thresholds and defaults that an operator may change while streams run."""

    max_inflight: int = 3
    """For a stream that names none."""
    timeout_ms: int = 8000
    """From acceptance to result, for a stream that names none."""
    fallback_mode: FallbackMode = "silence"
    """What a fragment without speech comes back as."""
    critical_inflight: int = 10
    """A fragment that would make more than this many in flight is rejected."""
    start_wait_ms: int = 1000
    """How long a stream's very first numbers are waited for."""
    release_slack_ms: int = 250
    """A finished result held back by a missing number leaves this long before its deadline."""
    kept_results: int = 64
    kept_bytes: int = 8 * 1024 * 1024
    """Audio kept for resends, by stream."""
    close_delay_ms: int = 5000
    """From `stream:complete` to the end of the connection."""
    degrade: tuple[Rung, ...] = (FASTER_VOICE,)
    """What a fragment gets, in this order, that would be late otherwise; empty: nothing."""


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


def last_resort(rungs: tuple[Rung, ...]) -> FallbackMode | None:
    """What is sent where no voice can speak in time; None: the failure is."""
    return next((rung for rung in rungs if rung != "faster_voice"), None)


def reserve_s(rungs: tuple[Rung, ...], timeout_ms: int) -> float:
    """What is kept of a fragment's time for the last resort, if there is one."""
    return min(LAST_RESORT_NEEDS_S, timeout_ms / 10_000) if last_resort(rungs) else 0.0


Running: TypeAlias = Callable[[Stage, Outcome], bool]
"""Told by the pipeline that a stage starts, with what was done before it; whether the faster voice is to speak.

Raises QueueFull where the fragment can't be done in time any more.
"""


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
    said: Said = field(default_factory=Said, compare=False, repr=False)
    """The stream's, shared by its attempts: the pipeline notes transcripts there and reads the context."""
    carry: Carry = field(default_factory=Carry, compare=False, repr=False)
    """The stream's likewise: the pipeline asks there what a dub opens with, and whether it may leave something over."""


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
