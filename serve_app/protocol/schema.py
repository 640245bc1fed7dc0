"""All events, and the contract as JSON Schema. PURE."""

from typing import Any

from serve_app.protocol.client_events import (
    ClientEvent,
    FragmentAck,
    FragmentData,
    StreamEnd,
    StreamInit,
    StreamPause,
    StreamResume,
)
from serve_app.protocol.errors import ERROR_TABLE
from serve_app.protocol.server_events import (
    Backpressure,
    ErrorEvent,
    FragmentProcessed,
    FragmentQueued,
    ServerEvent,
    StreamComplete,
    StreamReady,
)
from serve_app.protocol.transcription import (
    AudioAck,
    AudioChunk,
    AudioEcho,
    AudioEnd,
    AudioKeepAlive,
    AudioPause,
    AudioReady,
    AudioResume,
    AudioStart,
    TranscriptComplete,
    TranscriptFinal,
    TranscriptUpdate,
)

CLIENT_EVENTS: tuple[type[ClientEvent], ...] = (
    StreamInit,
    FragmentData,
    FragmentAck,
    StreamPause,
    StreamResume,
    StreamEnd,
    AudioStart,
    AudioChunk,
    AudioPause,
    AudioResume,
    AudioKeepAlive,
    AudioEnd,
)
SERVER_EVENTS: tuple[type[ServerEvent], ...] = (
    StreamReady,
    FragmentQueued,
    FragmentProcessed,
    StreamComplete,
    Backpressure,
    AudioReady,
    AudioAck,
    AudioEcho,
    TranscriptUpdate,
    TranscriptFinal,
    TranscriptComplete,
    ErrorEvent,
)


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of all events: `client` and `server` by event name, and the table of error codes."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "livedub wire protocol",
        "client": {event.EVENT: event.model_json_schema() for event in CLIENT_EVENTS},
        "server": {event.EVENT: event.model_json_schema(mode="serialization") for event in SERVER_EVENTS},
        "errors": {
            code.value: {"stages": list(rule.stages), "retryable": rule.retryable} for code, rule in ERROR_TABLE.items()
        },
    }
