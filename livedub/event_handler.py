"""What a server event means to the stream: it changes the Flow, and may ask something of the shell. PURE."""

import logging
from dataclasses import dataclass

from pydantic import ValidationError

from livedub.errors import StreamFailed
from livedub.flow import Flow
from livedub.fragment import Failure
from serve_app.protocol import (
    Backpressure,
    ErrorCode,
    ErrorEvent,
    FragmentProcessed,
    StreamComplete,
)

_log = logging.getLogger("livedub.client")


@dataclass(frozen=True, slots=True)
class Received:
    """A result arrived: acknowledge it."""

    processed: FragmentProcessed


@dataclass(frozen=True, slots=True)
class Completed:
    """The stream is over as it should be."""

    summary: StreamComplete


@dataclass(frozen=True, slots=True)
class Reopen:
    """This connection's stream is dead, a new one may live."""

    reason: str
    with_less: bool
    """Whether the new one should have a smaller window."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The stream can't go on."""

    failure: StreamFailed


Demand = Received | Completed | Reopen | Broken | None


def hear(flow: Flow, name: str, payload: object, now_s: float) -> Demand:
    """Tell the flow what an event says; returns what the shell must do. Events it doesn't know are ignored."""
    try:
        match name:
            case FragmentProcessed.EVENT:
                processed = FragmentProcessed.model_validate(payload, strict=False)
                flow.result(processed, now_s)
                return Received(processed)
            case Backpressure.EVENT:
                wish = Backpressure.model_validate(payload, strict=False)
                flow.backpressure(wish.action, wish.recommended_delay_ms, now_s)
            case StreamComplete.EVENT:
                return Completed(StreamComplete.model_validate(payload, strict=False))
            case ErrorEvent.EVENT:
                return _hear_error(flow, ErrorEvent.model_validate(payload, strict=False), now_s)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "payload"
        return Broken(StreamFailed(f"The server's {name} doesn't follow the protocol: {field}: {first['msg']}"))
    return None


def _hear_error(flow: Flow, error: ErrorEvent, now_s: float) -> Demand:
    said = f"{error.code}: {error.message}"
    if error.code == ErrorCode.STREAM_NOT_FOUND or (error.severity == "fatal" and error.retryable):
        return Reopen(said, with_less=error.code == ErrorCode.GPU_OOM)
    if error.severity == "fatal" or error.code in {ErrorCode.SESSION_REPLACED, ErrorCode.AUTH_FAILED}:
        return Broken(StreamFailed(f"The server ended the stream: {said}", error.code))
    if error.code == ErrorCode.SERVER_DRAINING:
        flow.leaving(now_s)
        if error.fragment_id is not None:
            flow.returned(error.fragment_id, now_s)
    elif error.fragment_id is not None:
        failure = Failure(error.code, error.message, error.retryable, retry_after_ms=_retry_after_ms(error))
        flow.refused(error.fragment_id, failure, now_s)
    else:
        _log.warning("the server warns: %s", said)
    return None


def _retry_after_ms(error: ErrorEvent) -> int | None:
    delay_ms = (error.details or {}).get("recommended_delay_ms")
    return delay_ms if type(delay_ms) is int and delay_ms >= 0 else None
