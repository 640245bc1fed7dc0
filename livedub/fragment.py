"""What goes into a stream and what comes out of it. PURE."""

from dataclasses import dataclass
from typing import Literal

import pybase64

from serve_app.protocol import MAX_FRAGMENT_BYTES, Format, FragmentAudio, FragmentProcessed

Status = Literal["success", "partial", "failed"]

NO_ANSWER = "NO_ANSWER"
"""The client's own code: the server neither processed nor refused the fragment in time."""
CONNECTION_LOST = "CONNECTION_LOST"
"""The client's own code: the connection broke each time the fragment was in flight."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of the original audio."""

    audio: bytes
    """Encoded as `format` says."""
    format: Format
    sample_rate_hz: int
    channels: int
    duration_ms: int
    fragment_id: str | None = None
    """None: the client makes one up."""
    pts_ns: int | None = None
    """Where it starts on the worker's timeline; None: after the fragments before it."""

    def to_wire(self, *, binary: bool) -> FragmentAudio:
        """The audio as the protocol wants it.

        Raises:
            ValueError: a field is out of bounds, or the audio is above 10 MiB.
        """
        if len(self.audio) > MAX_FRAGMENT_BYTES:
            raise ValueError(
                f"a fragment may hold {MAX_FRAGMENT_BYTES} bytes of audio, this one has {len(self.audio)}: cut shorter"
            )
        return FragmentAudio(
            format=self.format,
            sample_rate_hz=self.sample_rate_hz,
            channels=self.channels,
            duration_ms=self.duration_ms,
            data=self.audio if binary else None,
            data_base64=None if binary else pybase64.b64encode_as_string(self.audio),
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a fragment has no dub."""

    code: str
    """Of the protocol, or NO_ANSWER or CONNECTION_LOST."""
    message: str
    retryable: bool
    stage: str | None = None
    """asr, translation or tts; None: it never reached a stage."""
    retry_after_ms: int | None = None
    """When the server expects to have room again, from when it said so; None: it did not say."""


@dataclass(frozen=True, slots=True)
class FragmentResult:
    """The one final result of a fragment, after every retry."""

    fragment_id: str
    sequence_number: int
    status: Status
    processed: FragmentProcessed | None
    """What the server sent last; None when it never processed the fragment."""
    failure: Failure | None
    """Set when, and only when, the status is failed."""
    attempts: int
    """How often the fragment was sent."""
    latency_ms: int
    """From the first send to the final result, retries included."""
