"""The events that a session sends besides results, from its state to the wire. PURE.

Protocol: `stream:ready`; `backpressure`; `stream:complete`.
"""

from typing import Literal

from serve_app.protocol import Backpressure, ErrorCode, ErrorEvent, FragmentQueued, error_event
from serve_app.stream.backpressure import ACTIONS, Level
from serve_app.stream.values import Fragment, StreamSettings

_EXCEEDED: dict[Level, Literal["medium", "high"] | None] = {
    Level.LOW: None,
    Level.MEDIUM: "medium",
    Level.HIGH: "high",
}


def queued(settings: StreamSettings, fragment: Fragment, position: int, now: float) -> FragmentQueued:
    """The fragment is accepted, `position` others are in flight before it."""
    unix_ms = round((now + settings.wall_offset_s) * 1000)
    return FragmentQueued(fragment_id=fragment.fragment_id, timestamp=unix_ms, queue_position=position)


def delay_ms(settings: StreamSettings, level: Level) -> int:
    """Advice by count: at medium half the rate, at high one fragment's time of rest."""
    chunk_ms = settings.chunk_duration_ms
    return {Level.LOW: 0, Level.MEDIUM: chunk_ms // 2, Level.HIGH: chunk_ms}[level]


def pressure(
    settings: StreamSettings, level: Level, in_flight: int, queue_depth: int, recommended_delay_ms: int
) -> Backpressure:
    """The level has changed."""
    return Backpressure(
        stream_id=settings.stream_id,
        severity=level.value,
        action=ACTIONS[level],
        current_inflight=in_flight,
        max_inflight=settings.max_inflight,
        queue_depth=queue_depth,
        threshold_exceeded=_EXCEEDED[level],
        recommended_delay_ms=recommended_delay_ms,
    )


def never_came(settings: StreamSettings, first: int, last: int) -> ErrorEvent:
    """Numbers first … last are given up."""
    missing = f"{first}" if first == last else f"{first} to {last}"
    return error_event(
        ErrorCode.INVALID_SEQUENCE,
        f"sequence_number {missing} never came; going on without",
        severity="warning",
        stream_id=settings.stream_id,
        sequence_number=first,
        details={"first_missing": first, "last_missing": last},
    )


def draining(settings: StreamSettings, message: str) -> ErrorEvent:
    """The server is going."""
    return error_event(ErrorCode.SERVER_DRAINING, message, severity="warning", stream_id=settings.stream_id)


def replaced(settings: StreamSettings) -> ErrorEvent:
    """Another connection has taken the stream over."""
    return error_event(
        ErrorCode.SESSION_REPLACED,
        f"stream {settings.stream_id!r} was opened again on another connection",
        severity="fatal",
        stream_id=settings.stream_id,
    )


def out_of_memory(settings: StreamSettings, message: str) -> ErrorEvent:
    """The device is full and the stream ends."""
    return error_event(
        ErrorCode.GPU_OOM,
        f"{message}; reconnect with a smaller max_inflight or shorter fragments",
        severity="fatal",
        stream_id=settings.stream_id,
    )
