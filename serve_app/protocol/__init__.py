"""The wire contract: one frozen model a Socket.IO event, and the table of error codes. PURE.

Wire names appear only in this package. What a client sends is parsed strictly (`true`, `"5"` and `1e3` are no
integers); unknown fields are ignored, so that newer clients can talk to older servers. What the server sends is built
from these models too, and the client reads it with them.
"""

from serve_app.protocol.client_events import (
    CLIENT_EVENTS,
    ClientEvent,
    FragmentAck,
    FragmentAudio,
    FragmentData,
    FragmentMetadata,
    StreamConfig,
    StreamEnd,
    StreamInit,
    StreamPause,
    StreamResume,
)
from serve_app.protocol.errors import (
    ERROR_TABLE,
    ErrorCode,
    ErrorRule,
    StageName,
    WireError,
)
from serve_app.protocol.parsing import (
    parse,
)
from serve_app.protocol.schema import (
    json_schema,
)
from serve_app.protocol.server_events import (
    SERVER_EVENTS,
    Assets,
    AudioAsset,
    Backpressure,
    Capabilities,
    DubbedAudio,
    ErrorBreakdown,
    ErrorEvent,
    FragmentError,
    FragmentMetrics,
    FragmentProcessed,
    FragmentQueued,
    ServerEvent,
    Severity,
    StageTimings,
    StreamComplete,
    StreamReady,
    StreamStatistics,
    TranscriptAsset,
    TranscriptSegment,
    TranslationAsset,
    WordTiming,
    error_event,
)
from serve_app.protocol.wire import (
    FORMATS,
    MAX_FRAGMENT_BYTES,
    MAX_MESSAGE_BYTES,
    Format,
    base_language,
)

__all__ = [
    "CLIENT_EVENTS",
    "ERROR_TABLE",
    "FORMATS",
    "MAX_FRAGMENT_BYTES",
    "MAX_MESSAGE_BYTES",
    "SERVER_EVENTS",
    "Assets",
    "AudioAsset",
    "Backpressure",
    "Capabilities",
    "ClientEvent",
    "DubbedAudio",
    "ErrorBreakdown",
    "ErrorCode",
    "ErrorEvent",
    "ErrorRule",
    "Format",
    "FragmentAck",
    "FragmentAudio",
    "FragmentData",
    "FragmentError",
    "FragmentMetadata",
    "FragmentMetrics",
    "FragmentProcessed",
    "FragmentQueued",
    "ServerEvent",
    "Severity",
    "StageName",
    "StageTimings",
    "StreamComplete",
    "StreamConfig",
    "StreamEnd",
    "StreamInit",
    "StreamPause",
    "StreamReady",
    "StreamResume",
    "StreamStatistics",
    "TranscriptAsset",
    "TranscriptSegment",
    "TranslationAsset",
    "WireError",
    "WordTiming",
    "base_language",
    "error_event",
    "json_schema",
    "parse",
]
