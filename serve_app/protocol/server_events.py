"""What the server sends. PURE."""

from typing import Any, ClassVar, Literal

import pybase64
from pydantic import ConfigDict, model_validator

from serve_app.protocol.errors import ERROR_TABLE, ErrorCode, StageName
from serve_app.protocol.wire import FORMATS, MAX_FRAGMENT_BYTES, WireModel, either_payload


class ServerEvent(WireModel):
    """An event that the server sends."""

    EVENT: ClassVar[str]
    KEEP_NULL: ClassVar[bool] = False
    """Whether optional fields go out as null rather than being left out."""

    def to_wire(self, *, binary: bool = False) -> dict[str, Any]:
        """The event's payload for Socket.IO. Audio goes as bytes when `binary`, else as base64."""
        payload = self.model_dump(exclude_none=not self.KEEP_NULL)
        audio = payload.get("dubbed_audio")
        if audio is not None and not binary:
            audio["data_base64"] = pybase64.b64encode_as_string(audio.pop("data"))
        return payload

    @property
    def bulk_bytes(self) -> int:
        """What it takes about, where that is more than a small event."""
        return 0

    def log_fields(self) -> dict[str, Any] | None:
        """What a line of the log says of it, without a word of what was said; None: it gets no line."""
        return None


class MeasuredTimes(WireModel):
    """What each stage took at its start for a fragment of 6 s, in ms; null: it did not measure itself."""

    asr_ms: float | None = None
    """Of one call, like `translation_ms` and `tts_ms`; CPU time is that of all cores together."""
    asr_cpu_ms: float | None = None
    translation_ms: float | None = None
    translation_cpu_ms: float | None = None
    tts_ms: float | None = None
    tts_cpu_ms: float | None = None


class Machine(WireModel):
    """What the server's machine can do."""

    live_streams: float | None = None
    """How many streams that send in real time it carries, by `measured`; null: not known."""
    measured: MeasuredTimes = MeasuredTimes()


class Capabilities(WireModel):
    """What this server can do."""

    batch_processing: bool = False
    async_delivery: bool = True
    binary_audio: bool = True
    formats: tuple[str, ...] = FORMATS
    max_fragment_bytes: int = MAX_FRAGMENT_BYTES
    asr_model: str = ""
    translation_model: str = ""
    tts_model: str = ""
    live_streams: float | None = None
    """How many streams that send in real time the server carries, by `measured`; null: not known."""
    measured: MeasuredTimes = MeasuredTimes()


class StreamReady(ServerEvent):
    """The stream is open."""

    EVENT = "stream:ready"
    stream_id: str
    session_id: str
    max_inflight: int
    capabilities: Capabilities


class FragmentQueued(ServerEvent):
    """The fragment is accepted and will get its result."""

    EVENT = "fragment:ack"
    fragment_id: str
    status: Literal["queued"] = "queued"
    timestamp: int
    """Unix ms of the server's clock."""
    queue_position: int
    """Fragments of the stream that are in flight before it."""


class DubbedAudio(WireModel):
    """The dub, in the stream's own format."""

    model_config = ConfigDict(json_schema_extra=either_payload)
    format: str
    sample_rate_hz: int
    channels: int
    duration_ms: int
    data: bytes
    """On the wire `data_base64`, unless the stream's fragments came as binary."""

    @model_validator(mode="before")
    @classmethod
    def _from_base64(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("data_base64"), str):
            value = {**value, "data": pybase64.b64decode(value["data_base64"], validate=True)}
        return value


class StageTimings(WireModel):
    """Computing time of each stage in ms; waiting is not in it."""

    asr_ms: int = 0
    translation_ms: int = 0
    tts_ms: int = 0


class FragmentError(WireModel):
    """Why a fragment failed."""

    stage: StageName
    code: str
    message: str
    retryable: bool


class FragmentMetrics(WireModel):
    """Durations, fit and models of one result."""

    original_duration_ms: int
    dubbed_duration_ms: int | None = None
    duration_variance_percent: float | None = None
    actual_variance_percent: float | None = None
    """Only when partial or failed."""
    speed_ratio: float | None = None
    """Spoken duration over fitted duration: above 1 the voice was sped up."""
    asr_model: str | None = None
    translation_model: str | None = None
    tts_model: str | None = None
    synthetic_voice: bool | None = None
    """Whether a model spoke; false where the dub is the original, or silence."""
    may_be_sold: bool | None = None
    """Whether the licence of the model that spoke allows it; left out where it is not known."""


class WordTiming(WireModel):
    """One word on the stream's timeline."""

    text: str
    start_ms: int
    end_ms: int
    confidence: float


class TranscriptSegment(WireModel):
    """One segment on the stream's timeline."""

    start_ms: int
    end_ms: int
    text: str
    confidence: float
    words: tuple[WordTiming, ...] | None = None


class TranscriptAsset(WireModel):
    """What was heard."""

    asset_id: str
    parent_asset_ids: tuple[str, ...]
    language: str
    segments: tuple[TranscriptSegment, ...]


class TranslationAsset(WireModel):
    """What it means."""

    asset_id: str
    parent_asset_ids: tuple[str, ...]
    source_language: str
    target_language: str


class AudioAsset(WireModel):
    """What was said."""

    asset_id: str
    parent_asset_ids: tuple[str, ...]
    duration_ms: int


class Assets(WireModel):
    """The lineage of a result: audio from translation from transcript from the fragment."""

    transcript: TranscriptAsset | None = None
    translation: TranslationAsset | None = None
    audio: AudioAsset | None = None


class FragmentProcessed(ServerEvent):
    """The one terminal result of an accepted fragment."""

    EVENT = "fragment:processed"
    fragment_id: str
    stream_id: str
    sequence_number: int
    status: Literal["success", "partial", "failed"]
    dubbed_audio: DubbedAudio | None = None
    transcript: str | None = None
    translated_text: str | None = None
    processing_time_ms: int
    """From acceptance to the moment this event leaves."""
    stage_timings: StageTimings
    warnings: tuple[str, ...] | None = None
    error: FragmentError | None = None
    metadata: FragmentMetrics
    assets: Assets

    @property
    def bulk_bytes(self) -> int:
        """What the dub takes."""
        return len(self.dubbed_audio.data) if self.dubbed_audio is not None else 0

    def log_fields(self) -> dict[str, Any]:
        """Who, how it went, how long each stage computed."""
        return {
            "stream_id": self.stream_id,
            "fragment_id": self.fragment_id,
            "sequence_number": self.sequence_number,
            "status": self.status,
            "code": self.error.code if self.error else None,
            "failed_stage": self.error.stage if self.error else None,
            "processing_ms": self.processing_time_ms,
            **self.stage_timings.model_dump(),
        }


class ErrorBreakdown(WireModel):
    """Failed results counted two ways."""

    by_stage: dict[str, int]
    by_code: dict[str, int]


class StreamStatistics(WireModel):
    """The stream's results in numbers."""

    success_count: int
    partial_count: int
    failed_count: int
    avg_processing_time_ms: int
    p95_processing_time_ms: int


class StreamComplete(ServerEvent):
    """Everything that was accepted has its result. The server closes the connection 5 s later."""

    EVENT = "stream:complete"
    stream_id: str
    total_fragments: int
    success_count: int
    partial_count: int
    failed_count: int
    avg_processing_time_ms: int
    total_duration_ms: int
    """Audio that got a result, by its decoded duration."""
    error_breakdown: ErrorBreakdown
    statistics: StreamStatistics


Severity = Literal["low", "medium", "high"]


class Backpressure(ServerEvent):
    """How full the stream is, sent when the level changes."""

    EVENT = "backpressure"
    KEEP_NULL = True
    stream_id: str
    severity: Severity
    action: Literal["none", "slow_down", "pause"]
    current_inflight: int
    max_inflight: int
    queue_depth: int
    """Fragments in flight that have no result yet."""
    threshold_exceeded: Literal["medium", "high"] | None
    recommended_delay_ms: int
    """How long to wait before the next fragment; 0 when low."""


class ErrorEvent(ServerEvent):
    """Something was refused or went wrong outside of a result."""

    EVENT = "error"
    code: str
    message: str
    severity: Literal["warning", "error", "fatal"] = "error"
    retryable: bool
    stream_id: str | None = None
    fragment_id: str | None = None
    sequence_number: int | None = None
    details: dict[str, Any] | None = None


def error_event(
    code: ErrorCode,
    message: str,
    *,
    severity: Literal["warning", "error", "fatal"] = "error",
    stream_id: str | None = None,
    fragment_id: str | None = None,
    sequence_number: int | None = None,
    details: dict[str, Any] | None = None,
) -> ErrorEvent:
    """An `error` whose retryable flag comes from the table."""
    return ErrorEvent(
        code=code,
        message=message,
        severity=severity,
        retryable=ERROR_TABLE[code].retryable,
        stream_id=stream_id,
        fragment_id=fragment_id,
        sequence_number=sequence_number,
        details=details or None,
    )
