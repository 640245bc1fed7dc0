"""From a message to a model, or to an error that says what is wrong with it. PURE."""

from typing import TypeVar

from pydantic import ValidationError

from serve_app.protocol.client_events import ClientEvent, StreamInit
from serve_app.protocol.errors import ErrorCode, WireError
from serve_app.protocol.transcription import AudioStart

_MALFORMED_TYPES = ("missing", "_type", "_parsing", "value_error", "extra_forbidden")
_VALUE_CHARACTERS = 80
_SHOWN_BITS = 256
E = TypeVar("E", bound=ClientEvent)


def parse(event: type[E], data: object) -> E:
    """Read what a client sent.

    Raises:
        WireError: naming the first field that is wrong, what was sent and what is allowed. INVALID_CONFIG for
            `stream:init` and `audio:start`; else MALFORMED_DATA for missing fields and wrong types, INVALID_SEQUENCE
            for a sequence number out of bounds and INVALID_FRAGMENT for other values out of bounds.
    """
    if not isinstance(data, dict):
        sent = type(data).__name__ if data is not None else "nothing"
        raise WireError(ErrorCode.MALFORMED_DATA, f"{event.EVENT} needs an object, got {sent}", {"sent": sent})
    try:
        return event.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "payload"
        kind = first["type"]
        sent = "nothing" if kind == "missing" else _shown(first["input"])
        code = _code_of(event, field, kind)
        allowed = first["msg"]
        raise WireError(
            code,
            f"{event.EVENT}: {field}: {allowed}; got {sent}",
            {"field": field, "sent": sent, "allowed": allowed},
        ) from None


def _code_of(event: type[ClientEvent], field: str, kind: str) -> ErrorCode:
    if event in (StreamInit, AudioStart):
        return ErrorCode.INVALID_CONFIG
    if any(kind == suffix or kind.endswith(suffix) for suffix in _MALFORMED_TYPES):
        return ErrorCode.MALFORMED_DATA
    return ErrorCode.INVALID_SEQUENCE if field == "sequence_number" else ErrorCode.INVALID_FRAGMENT


def _shown(value: object) -> str:
    """The value as a person would recognise it, never longer than a line and never a payload."""
    if isinstance(value, bytes | dict | list):
        return f"{type(value).__name__} of {len(value)}"
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS:
        return f"an integer of {value.bit_length()} bits"
    shown = repr(value[: _VALUE_CHARACTERS + 1] if isinstance(value, str) else value)
    return shown if len(shown) <= _VALUE_CHARACTERS else f"{shown[:_VALUE_CHARACTERS]}…"
