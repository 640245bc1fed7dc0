"""What can go wrong in a stage, as one tree of exceptions.

    StageError
    ├── TransientError            the same fragment may succeed when it is sent again
    │   ├── DeadlineExceeded          TIMEOUT
    │   ├── ModelFailed               MODEL_ERROR
    │   ├── WorkerCrashed             WORKER_CRASHED
    │   ├── GpuOutOfMemory            GPU_OOM
    │   ├── QueueFull                 QUEUE_FULL
    │   ├── TranslationUnavailable    TRANSLATION_API_UNAVAILABLE
    │   ├── RateLimitExceeded         RATE_LIMIT_EXCEEDED
    │   └── InternalFault             INTERNAL
    └── PermanentError            sending the same fragment again fails again
        ├── TranslationQuotaExceeded  TRANSLATION_QUOTA_EXCEEDED
        ├── TranslationAuthFailed     TRANSLATION_AUTH_FAILED
        ├── InvalidAudio              INVALID_AUDIO
        ├── FragmentTooLarge          FRAGMENT_TOO_LARGE
        ├── UnsupportedLanguage       UNSUPPORTED_LANGUAGE
        ├── SynthesisFailed           SYNTHESIS_FAILED
        ├── DurationMismatch          DURATION_MISMATCH_EXCEEDED
        └── InvalidText               INVALID_TEXT

Each carries the stage it belongs to, its wire code and whether a retry can help, and survives pickling, because it
crosses process borders. `serve_app.protocol` holds the table that these codes are part of; a test keeps both equal.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar, Self


class Stage(StrEnum):
    """The three steps that a fragment goes through, named as on the wire."""

    ASR = "asr"
    TRANSLATION = "translation"
    TTS = "tts"


class StageError(Exception):
    """A stage could not do its work on one fragment.

    Args:
        stage: where it happened.
        message: one sentence for the worker's log: what was found and what was expected. No transcript, no secret.
        details: bounded facts that belong into the result, such as durations in ms.
    """

    code: ClassVar[str] = "MODEL_ERROR"
    retryable: ClassVar[bool] = True

    def __init__(self, stage: Stage, message: str, details: Mapping[str, float | int | str] | None = None) -> None:
        super().__init__(message)
        self.stage = stage
        self.message = message
        self.details: Mapping[str, float | int | str] = MappingProxyType(dict(details or {}))

    def __reduce__(self) -> tuple[type[Self], tuple[Stage, str, dict[str, float | int | str]]]:
        return type(self), (self.stage, self.message, dict(self.details))

    def __str__(self) -> str:
        return f"{self.stage}: {self.code}: {self.message}"


class TransientError(StageError):
    """The same fragment may succeed when it is sent again."""


class DeadlineExceeded(TransientError):
    """The fragment's time ran out before the stage was done."""

    code = "TIMEOUT"


class ModelFailed(TransientError):
    """The model raised something that says nothing about the input."""

    code = "MODEL_ERROR"


class WorkerCrashed(TransientError):
    """The replica that held the fragment died."""

    code = "WORKER_CRASHED"


class GpuOutOfMemory(TransientError):
    """The device had no memory left for the fragment."""

    code = "GPU_OOM"


class QueueFull(TransientError):
    """The stage's queue is full; nothing was started."""

    code = "QUEUE_FULL"


class TranslationUnavailable(TransientError):
    """The translation service can't be reached or answers with its own failure."""

    code = "TRANSLATION_API_UNAVAILABLE"


class RateLimitExceeded(TransientError):
    """The translation service asks to come back later."""

    code = "RATE_LIMIT_EXCEEDED"


class InternalFault(TransientError):
    """A bug of ours: the log has the traceback, the worker an honest code."""

    code = "INTERNAL"


class PermanentError(StageError):
    """Sending the same fragment again fails again."""

    retryable = False


class TranslationQuotaExceeded(PermanentError):
    """The account's characters are used up."""

    code = "TRANSLATION_QUOTA_EXCEEDED"


class TranslationAuthFailed(PermanentError):
    """The translation service refuses the key."""

    code = "TRANSLATION_AUTH_FAILED"


class InvalidAudio(PermanentError):
    """The bytes are not audio that the decoder knows, or hold none."""

    code = "INVALID_AUDIO"


class FragmentTooLarge(PermanentError):
    """The fragment decodes to more audio than a fragment may hold."""

    code = "FRAGMENT_TOO_LARGE"


class UnsupportedLanguage(PermanentError):
    """The engine has no model for the language or the pair."""

    code = "UNSUPPORTED_LANGUAGE"


class SynthesisFailed(PermanentError):
    """The voice made no usable speech of the text."""

    code = "SYNTHESIS_FAILED"


class DurationMismatch(PermanentError):
    """The dub can't be brought near enough to the original's duration.

    `details` holds original_duration_ms, dubbed_duration_ms, actual_variance_percent and speed_ratio.
    """

    code = "DURATION_MISMATCH_EXCEEDED"


class InvalidText(PermanentError):
    """The text can't be spoken."""

    code = "INVALID_TEXT"
