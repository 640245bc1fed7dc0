"""What a worker sends. PURE."""

import base64
import binascii
from typing import Annotated, ClassVar, Literal, Self

import pybase64
from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from serve_app.protocol.errors import ErrorCode, WireError
from serve_app.protocol.wire import (
    MAX_FRAGMENT_BYTES,
    Count,
    Format,
    Hint,
    Id,
    LanguageTag,
    Nanoseconds,
    Text,
    WireModel,
    either_payload,
)


class ClientEvent(WireModel):
    """An event that a worker sends."""

    EVENT: ClassVar[str]


def listed(value: object) -> object:
    """A single value as a list of it."""
    return [value] if isinstance(value, str) else value


Hints = Annotated[
    list[Hint],
    Field(max_length=64),
    BeforeValidator(listed, json_schema_input_type=Hint | Annotated[list[Hint], Field(max_length=64)]),
]


class StreamConfig(WireModel):
    """How a stream sounds and what it should become."""

    source_language: LanguageTag = "en"
    target_language: LanguageTag
    voice_profile: Annotated[str, StringConstraints(min_length=1, max_length=128)] = "default"
    chunk_duration_ms: Annotated[int, Field(ge=100, le=30_000)] = 6000
    sample_rate_hz: Annotated[int, Field(ge=8000, le=96_000)] = 48_000
    channels: Annotated[int, Field(ge=1, le=2)] = 1
    format: Format = "m4a"
    domain_hints: Hints | None = None
    """One may come as a bare string."""

    @property
    def hints(self) -> tuple[str, ...]:
        """Domain hints as a tuple, empty when there are none."""
        return tuple(self.domain_hints or ())


class StreamInit(ClientEvent):
    """Opens a stream on this connection."""

    EVENT = "stream:init"
    stream_id: Id
    worker_id: Id
    config: StreamConfig
    max_inflight: Annotated[int, Field(ge=1, le=10)] | None = None
    """None: the server's default, 3."""
    timeout_ms: Annotated[int, Field(ge=1000, le=30_000)] | None = None
    """From acceptance to result. None: the server's default, 8000."""
    first_sequence_number: Count = 0


class CarriesAudio(WireModel):
    """Audio as `data_base64`, or as `data`, a binary attachment."""

    model_config = ConfigDict(json_schema_extra=either_payload)
    FIELD: ClassVar[str] = ""
    """Where it stands in its event, with a dot behind."""
    data_base64: str | None = None
    data: bytes | None = None

    @model_validator(mode="after")
    def _one_payload(self) -> Self:
        if (self.data_base64 is None) == (self.data is None):
            raise ValueError("exactly one of data_base64 and data is needed")
        return self

    def payload(self, limit_bytes: int = MAX_FRAGMENT_BYTES) -> bytes:
        """The encoded audio.

        Raises:
            WireError: FRAGMENT_TOO_LARGE above `limit_bytes`, MALFORMED_DATA when the base64 is broken.
        """
        size = len(self.data) if self.data is not None else len(self.data_base64 or "") * 3 // 4
        if size > limit_bytes + 2:
            self._refuse_size(size, limit_bytes)
        decoded = self.data if self.data is not None else _from_base64(self.data_base64 or "", self.FIELD)
        if len(decoded) > limit_bytes:
            self._refuse_size(len(decoded), limit_bytes)
        return decoded

    def _refuse_size(self, size: int, limit_bytes: int) -> None:
        raise WireError(
            ErrorCode.FRAGMENT_TOO_LARGE,
            f"audio holds {size} bytes; {limit_bytes} may come at once",
            {"field": self.FIELD.rstrip(".") or "data", "size_bytes": size, "limit_bytes": limit_bytes},
        )


class FragmentAudio(CarriesAudio):
    """The sound of one fragment."""

    FIELD = "audio."
    format: Format
    sample_rate_hz: Annotated[int, Field(ge=8000, le=96_000)]
    channels: Annotated[int, Field(ge=1, le=2)]
    duration_ms: Annotated[int, Field(ge=0, le=60_000)]


def _from_base64(text: str, field: str) -> bytes:
    """What a text stands for; Python's own decoder, fifty times slower, says what is wrong with a broken one."""
    try:
        return pybase64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        pass
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise WireError(
            ErrorCode.MALFORMED_DATA,
            f"{field}data_base64 is not valid base64: {error}",
            {"field": f"{field}data_base64"},
        ) from None


class FragmentMetadata(WireModel):
    """Where the fragment stands on the worker's timeline."""

    pts_ns: Nanoseconds | None = None
    source_pts_ns: Nanoseconds | None = None


class FragmentData(ClientEvent):
    """One fragment of a stream."""

    EVENT = "fragment:data"
    fragment_id: Id
    stream_id: Id
    sequence_number: Count
    timestamp: Count
    """Unix ms of the worker's clock."""
    audio: FragmentAudio
    metadata: FragmentMetadata | None = None


class FragmentAck(ClientEvent):
    """The worker has a result. Informative."""

    EVENT = "fragment:ack"
    fragment_id: Id
    status: Literal["received", "applied"]
    timestamp: Count


class StreamPause(ClientEvent):
    """Let what is in flight finish, take nothing new."""

    EVENT = "stream:pause"
    stream_id: Id
    reason: Text | None = None


class StreamResume(ClientEvent):
    """Take fragments again."""

    EVENT = "stream:resume"
    stream_id: Id


class StreamEnd(ClientEvent):
    """No more fragments come; asks for `stream:complete`."""

    EVENT = "stream:end"
    stream_id: Id
    reason: Text | None = None
