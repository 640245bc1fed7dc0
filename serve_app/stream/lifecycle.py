"""A stream's states and every way between them. PURE.

Protocol: A stream's life.
"""

from enum import StrEnum

from serve_app.protocol import ErrorCode


class State(StrEnum):
    """Where a stream stands."""

    ACTIVE = "active"
    PAUSED = "paused"
    ENDING = "ending"
    """The worker sends no more; what is in flight finishes, then `stream:complete`."""
    DRAINING = "draining"
    """The server takes no more; what is in flight finishes, then the worker is sent elsewhere."""
    CLOSED = "closed"


class Signal(StrEnum):
    """What moves a stream."""

    PAUSE = "pause"
    RESUME = "resume"
    END = "end"
    DRAIN = "drain"
    EMPTY = "empty"
    """Nothing is in flight any more."""
    CLOSE = "close"
    """Disconnect, takeover or a fatal error."""


TRANSITIONS: dict[tuple[State, Signal], State] = {
    (State.ACTIVE, Signal.PAUSE): State.PAUSED,
    (State.PAUSED, Signal.PAUSE): State.PAUSED,
    (State.ACTIVE, Signal.RESUME): State.ACTIVE,
    (State.PAUSED, Signal.RESUME): State.ACTIVE,
    (State.ACTIVE, Signal.END): State.ENDING,
    (State.PAUSED, Signal.END): State.ENDING,
    (State.ENDING, Signal.END): State.ENDING,
    (State.DRAINING, Signal.END): State.ENDING,
    (State.ACTIVE, Signal.DRAIN): State.DRAINING,
    (State.PAUSED, Signal.DRAIN): State.DRAINING,
    (State.DRAINING, Signal.DRAIN): State.DRAINING,
    (State.ENDING, Signal.DRAIN): State.ENDING,
    (State.ENDING, Signal.EMPTY): State.CLOSED,
    (State.DRAINING, Signal.EMPTY): State.CLOSED,
    **{(state, Signal.CLOSE): State.CLOSED for state in State},
}
"""What is not listed is not possible: the signal is refused and the state stays."""

REFUSALS: dict[State, tuple[ErrorCode, str]] = {
    State.PAUSED: (ErrorCode.STREAM_PAUSED, "the stream is paused; send stream:resume first"),
    State.ENDING: (ErrorCode.STREAM_NOT_FOUND, "the stream is ending; open a new one with stream:init"),
    State.DRAINING: (ErrorCode.SERVER_DRAINING, "this server is shutting down; reconnect and send it again"),
    State.CLOSED: (ErrorCode.STREAM_NOT_FOUND, "the stream has ended; open a new one with stream:init"),
}
"""What a new fragment is told in a state that takes none."""


def advance(state: State, signal: Signal) -> State | None:
    """The state that follows; None when the signal means nothing here."""
    return TRANSITIONS.get((state, signal))
