"""What the shell of a session has to do, in this order. PURE."""

from dataclasses import dataclass
from typing import TypeAlias

from serve_app.transcription.events import Event


@dataclass(frozen=True, slots=True)
class Listen:
    """Find out where a voice is."""

    ticket: int
    start_ms: int
    end_ms: int
    context_ms: int
    """How much before `start_ms` is to be heard too."""
    budget_ms: int


@dataclass(frozen=True, slots=True)
class Recognise:
    """Find out what is said."""

    ticket: int
    start_ms: int
    end_ms: int
    interim: bool
    budget_ms: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """The answer to a call is not wanted any more."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the client."""

    event: Event


Effect: TypeAlias = Listen | Recognise | Cancel | Tell
