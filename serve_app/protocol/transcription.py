"""Live transcription over Socket.IO: what a client sends and what it gets. PURE.

Protocol: Live transcription.
"""

from typing import Annotated, Any, ClassVar, Final, Literal, get_args

import pybase64
from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from deployments.contracts.values import RAW_BYTES, AudioFormat
from serve_app.protocol.client_events import CarriesAudio, ClientEvent, Hints, listed
from serve_app.protocol.server_events import FragmentError, ServerEvent, WordTiming
from serve_app.protocol.wire import Count, Id, LanguageTag, Text, WireModel, either_payload

LiveFormat = Literal["pcm_s16le", "pcm_f32le", "mulaw", "alaw", "opus", "webm", "ogg", "container"]
LIVE_FORMATS: Final[tuple[str, ...]] = get_args(LiveFormat)
"""Of chunks: raw, bare packets of Opus, or pieces of a container."""
WINDOW_BYTES: Final = 1024 * 1024
"""That may be sent and not acknowledged."""
MAX_CHUNK_BYTES: Final = 1024 * 1024
MAX_LANGUAGES: Final = 8
_ACKS_IN_WINDOW = 8
ACK_BYTES: Final = WINDOW_BYTES // _ACKS_IN_WINDOW
"""Taken since the last acknowledgement, when the next one is due."""

Languages = Annotated[
    list[LanguageTag],
    Field(max_length=MAX_LANGUAGES),
    BeforeValidator(
        listed, json_schema_input_type=LanguageTag | Annotated[list[LanguageTag], Field(max_length=MAX_LANGUAGES)]
    ),
]


class TranscriptionConfig(WireModel):
    """What is spoken, how it sounds and what it should become."""

    source_language: LanguageTag = "en"
    translate_to: Languages = Field(default_factory=list)
    """Each final is translated into each of these; one may come as a bare string."""
    format: LiveFormat = "pcm_s16le"
    sample_rate_hz: Annotated[int, Field(ge=8000, le=48_000)] = 16_000
    """Of raw audio; the others tell it themselves."""
    channels: Annotated[int, Field(ge=1, le=2)] = 1
    """Of raw audio; they are mixed."""
    interims: bool = True
    """Whether words are shown while they are being said."""
    endpointing_ms: Annotated[int, Field(ge=300, le=10_000)] = 500
    """How long a pause ends an utterance."""
    domain_hints: Hints | None = None

    @property
    def hints(self) -> tuple[str, ...]:
        """Domain hints as a tuple, empty when there are none."""
        return tuple(self.domain_hints or ())

    @property
    def audio_format(self) -> AudioFormat:
        """Of the chunks."""
        return AudioFormat(self.format, self.sample_rate_hz, self.channels)

    @property
    def frame_bytes(self) -> int:
        """What one sample of all channels takes; 1 where chunks may be cut anywhere."""
        return RAW_BYTES.get(self.format, 1) * (self.channels if self.format in RAW_BYTES else 1)


class AudioStart(ClientEvent):
    """Opens a transcription on this connection."""

    EVENT = "audio:start"
    stream_id: Id | None = None
    """None: that of the header X-Stream-ID, or one that is made up."""
    mode: Literal["transcribe", "echo"] = "transcribe"
    """echo: chunks come back, and no model is asked."""
    config: TranscriptionConfig = TranscriptionConfig()
    reconnections: Count = 0
    """How often the client had lost its connection before; it comes back in the metrics."""


class AudioChunk(ClientEvent, CarriesAudio):
    """What was heard since the last one."""

    EVENT = "audio:chunk"
    model_config = ConfigDict(json_schema_extra=either_payload)


class AudioPause(ClientEvent):
    """Finals for what was sent; nothing new for now."""

    EVENT = "audio:pause"
    reason: Text | None = None


class AudioResume(ClientEvent):
    """Chunks come again."""

    EVENT = "audio:resume"


class AudioKeepAlive(ClientEvent):
    """The client is still there."""

    EVENT = "audio:keepalive"


class AudioEnd(ClientEvent):
    """No more chunks come; asks for `transcript:complete`."""

    EVENT = "audio:end"
    reason: Text | None = None


class AudioReady(ServerEvent):
    """The transcription is open."""

    EVENT = "audio:ready"
    stream_id: str
    session_id: str
    formats: tuple[str, ...] = LIVE_FORMATS
    max_chunk_bytes: int = MAX_CHUNK_BYTES
    window_bytes: int = WINDOW_BYTES
    idle_timeout_s: float
    max_session_s: float
    max_transcript_characters: int
    asr_model: str = ""
    """Empty: no model is asked."""
    translation_model: str | None = None


class AudioAck(ServerEvent):
    """Chunks were taken; their room in the window is free again."""

    EVENT = "audio:ack"
    stream_id: str
    taken_bytes: int
    """Of all chunks, since the start."""


class AudioEcho(ServerEvent):
    """A chunk, as it came."""

    EVENT = "audio:echo"
    model_config = ConfigDict(json_schema_extra=either_payload)
    stream_id: str
    data: bytes
    """On the wire `data_base64`, unless chunks came as binary."""

    def to_wire(self, *, binary: bool = False) -> dict[str, Any]:
        """Its audio as bytes when `binary`, else as base64."""
        audio = {"data": self.data} if binary else {"data_base64": pybase64.b64encode_as_string(self.data)}
        return {"stream_id": self.stream_id, **audio}

    @model_validator(mode="before")
    @classmethod
    def _from_base64(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("data_base64"), str):
            value = {**value, "data": pybase64.b64decode(value["data_base64"], validate=True)}
        return value

    @property
    def bulk_bytes(self) -> int:
        """What the chunk takes."""
        return len(self.data)


class TranscriptUpdate(ServerEvent):
    """What an utterance says so far; the next one, or its final, stands in its place."""

    EVENT = "transcript:update"
    stream_id: str
    start_ms: int
    """Where the last final ended."""
    end_ms: int
    committed: str
    """No later update changes it; the final alone may."""
    tentative: str
    """What follows it, with the space between; it may change."""


class TranscriptFinal(ServerEvent):
    """What was said in a stretch of audio, for good. Finals follow each other without a gap."""

    EVENT = "transcript:final"
    stream_id: str
    start_ms: int
    end_ms: int
    text: str
    """Empty: nothing was said, or `error` says why it is not known."""
    words: tuple[WordTiming, ...]
    """None where the engine tells none."""
    confidence: float
    language: str
    utterance_over: bool
    """False: the utterance goes on, and was cut for its length."""
    translations: dict[str, str] | None = None
    """By language, as `translate_to` names it."""
    translation_errors: dict[str, FragmentError] | None = None
    """By language, where one failed."""
    error: FragmentError | None = None
    model: str | None = None

    WORD_BYTES: ClassVar[int] = 100
    """About what a word takes as JSON."""

    @property
    def bulk_bytes(self) -> int:
        """What its words and translations take about."""
        return len(self.words) * self.WORD_BYTES + sum(map(len, (self.translations or {}).values()))


class TranscriptionStatistics(WireModel):
    """Counts of one transcription."""

    chunks_received: int
    chunks_forwarded: int
    """That recognition has taken."""
    bytes_received: int
    audio_ms: int
    duration_ms: int
    """From `audio:start` until this left."""
    transcripts: int
    """Finals with words in them."""
    updates: int
    updates_dropped: int
    """That no model had time for."""
    revised_words: int
    """Shown and then changed."""
    translations: int
    errors: int
    """Chunks that were refused, and calls of models that failed; many of these were tried again."""
    reconnections: int
    """As `audio:start` told them."""


class TranscriptComplete(ServerEvent):
    """All that was taken has its finals. The connection stays open."""

    EVENT = "transcript:complete"
    stream_id: str
    session_id: str
    reason: Literal["ended", "idle", "lasted", "draining", "audio_failed", "failed"]
    transcript: str
    """Of all finals, the oldest left out above `max_transcript_characters`."""
    dropped_characters: int
    """That are left out."""
    translations: dict[str, str] | None = None
    """The same by language; each is cut by itself."""
    metrics: TranscriptionStatistics

    @property
    def bulk_bytes(self) -> int:
        """What the texts take about."""
        return len(self.transcript) + sum(map(len, (self.translations or {}).values()))
