"""When the words of an utterance are looked for while it is being said, and which of them stay. PURE."""

from dataclasses import dataclass

from serve_app.transcription.agreement import Agreement

FIRST_INTERIM_MS = 500
"""Of an utterance, with what is kept before its voice: less than that says no word."""
MAX_STEP_MS = 8000
STRETCH = 4.0
"""Interims of a session take at most one part in so many of the time."""
BACK_OFF = 2.0
"""How many times as far apart interims are after one that nobody had time for; an utterance later as much less."""


@dataclass(frozen=True, slots=True)
class InterimCall:
    """One that is under way."""

    ticket: int
    end_ms: int
    """Of what is being heard."""
    began: float


class Interims:
    """The interims of one session, one at a time; of one utterance after the other."""

    def __init__(self) -> None:
        self.call: InterimCall | None = None
        self.agreement = Agreement()
        self.shown = False
        """Whether words of this utterance have been."""
        self._heard_ms: int | None = None
        """Up to here; None: none of this utterance yet."""
        self._start_ms = 0
        self._step_ms = 0.0

    def begin(self, start_ms: int, least_step_ms: float) -> None:
        """A new utterance is being said."""
        self.agreement = Agreement()
        self.shown = False
        self._start_ms, self._heard_ms = start_ms, None
        self._step_ms = max(least_step_ms, self._step_ms / BACK_OFF)

    def due(self, received_ms: int) -> bool:
        """Whether the next one is to be asked for."""
        if self.call is not None:
            return False
        if self._heard_ms is None:
            return received_ms - self._start_ms >= FIRST_INTERIM_MS
        return received_ms - self._heard_ms >= self._step_ms

    def asked(self, ticket: int, end_ms: int, now: float) -> None:
        """One is under way."""
        self.call = InterimCall(ticket, end_ms, now)

    def answered(self, call: InterimCall, text: str, now: float, least_step_ms: float) -> int:
        """What it heard. Returns how many words that were shown have changed."""
        self._over(call)
        self._step_ms = min(MAX_STEP_MS, max(least_step_ms, STRETCH * (now - call.began) * 1000))
        return self.agreement.take(text)

    def dropped(self, call: InterimCall, now: float) -> None:
        """Nobody had time for it."""
        self._over(call)
        self._step_ms = min(MAX_STEP_MS, BACK_OFF * max(self._step_ms, (now - call.began) * 1000))

    def _over(self, call: InterimCall) -> None:
        self.call, self._heard_ms = None, call.end_ms
