"""The table of error codes and the exception that becomes an `error` event. PURE.

Protocol: Error codes.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal


class ErrorCode(StrEnum):
    """Every code that a client can meet, in `error` events and in failed results."""

    TIMEOUT = "TIMEOUT"
    MODEL_ERROR = "MODEL_ERROR"
    WORKER_CRASHED = "WORKER_CRASHED"
    GPU_OOM = "GPU_OOM"
    QUEUE_FULL = "QUEUE_FULL"
    TRANSLATION_API_UNAVAILABLE = "TRANSLATION_API_UNAVAILABLE"
    RATE_LIMIT_EXCEEDED = "RATE_LIMIT_EXCEEDED"
    TRANSLATION_QUOTA_EXCEEDED = "TRANSLATION_QUOTA_EXCEEDED"
    TRANSLATION_AUTH_FAILED = "TRANSLATION_AUTH_FAILED"
    INVALID_AUDIO = "INVALID_AUDIO"
    FRAGMENT_TOO_LARGE = "FRAGMENT_TOO_LARGE"
    UNSUPPORTED_LANGUAGE = "UNSUPPORTED_LANGUAGE"
    SYNTHESIS_FAILED = "SYNTHESIS_FAILED"
    DURATION_MISMATCH_EXCEEDED = "DURATION_MISMATCH_EXCEEDED"
    INVALID_TEXT = "INVALID_TEXT"
    STREAM_NOT_FOUND = "STREAM_NOT_FOUND"
    INVALID_CONFIG = "INVALID_CONFIG"
    INVALID_VOICE_PROFILE = "INVALID_VOICE_PROFILE"
    UNSUPPORTED_LANGUAGE_PAIR = "UNSUPPORTED_LANGUAGE_PAIR"
    INVALID_FRAGMENT = "INVALID_FRAGMENT"
    MALFORMED_DATA = "MALFORMED_DATA"
    INVALID_SEQUENCE = "INVALID_SEQUENCE"
    AUTH_FAILED = "AUTH_FAILED"
    SESSION_REPLACED = "SESSION_REPLACED"
    STREAM_PAUSED = "STREAM_PAUSED"
    BACKPRESSURE_EXCEEDED = "BACKPRESSURE_EXCEEDED"
    RATE_LIMITED = "RATE_LIMITED"
    SERVER_DRAINING = "SERVER_DRAINING"
    INTERNAL = "INTERNAL"


StageName = Literal["asr", "translation", "tts"]
_ANY: tuple[StageName, ...] = ("asr", "translation", "tts")


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """What a code means for the one who receives it."""

    stages: tuple[StageName, ...]
    """Stages that may raise it; empty: it is about the stream or the message."""
    retryable: bool


_C = ErrorCode
ERROR_TABLE: dict[ErrorCode, ErrorRule] = {
    _C.TIMEOUT: ErrorRule(_ANY, retryable=True),
    _C.MODEL_ERROR: ErrorRule(_ANY, retryable=True),
    _C.WORKER_CRASHED: ErrorRule(_ANY, retryable=True),
    _C.GPU_OOM: ErrorRule(("asr", "tts"), retryable=True),
    _C.QUEUE_FULL: ErrorRule(_ANY, retryable=True),
    _C.TRANSLATION_API_UNAVAILABLE: ErrorRule(("translation",), retryable=True),
    _C.RATE_LIMIT_EXCEEDED: ErrorRule(("translation",), retryable=True),
    _C.TRANSLATION_QUOTA_EXCEEDED: ErrorRule(("translation",), retryable=False),
    _C.TRANSLATION_AUTH_FAILED: ErrorRule(("translation",), retryable=False),
    _C.INVALID_AUDIO: ErrorRule(("asr",), retryable=False),
    _C.FRAGMENT_TOO_LARGE: ErrorRule(("asr",), retryable=False),
    _C.UNSUPPORTED_LANGUAGE: ErrorRule(("asr", "translation"), retryable=False),
    _C.SYNTHESIS_FAILED: ErrorRule(("tts",), retryable=False),
    _C.DURATION_MISMATCH_EXCEEDED: ErrorRule(("tts",), retryable=False),
    _C.INVALID_TEXT: ErrorRule(("translation", "tts"), retryable=False),
    _C.STREAM_NOT_FOUND: ErrorRule((), retryable=False),
    _C.INVALID_CONFIG: ErrorRule((), retryable=False),
    _C.INVALID_VOICE_PROFILE: ErrorRule((), retryable=False),
    _C.UNSUPPORTED_LANGUAGE_PAIR: ErrorRule((), retryable=False),
    _C.INVALID_FRAGMENT: ErrorRule((), retryable=False),
    _C.MALFORMED_DATA: ErrorRule((), retryable=False),
    _C.INVALID_SEQUENCE: ErrorRule((), retryable=False),
    _C.AUTH_FAILED: ErrorRule((), retryable=False),
    _C.SESSION_REPLACED: ErrorRule((), retryable=False),
    _C.STREAM_PAUSED: ErrorRule((), retryable=True),
    _C.BACKPRESSURE_EXCEEDED: ErrorRule((), retryable=True),
    _C.RATE_LIMITED: ErrorRule((), retryable=True),
    _C.SERVER_DRAINING: ErrorRule((), retryable=True),
    _C.INTERNAL: ErrorRule(_ANY, retryable=True),
}
"""The protocol's table of errors. INTERNAL carries a stage when a stage hit a bug."""


class WireError(Exception):
    """A message can't be taken: becomes an `error` event, the connection goes on.

    Args:
        code: from ERROR_TABLE.
        message: names the field, what was sent and what is allowed.
        details: the same, for programs.
    """

    def __init__(self, code: ErrorCode, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details or {}
