"""One question to the models, asked again where it fails. PURE."""

from dataclasses import dataclass

RETRY_S, MAX_RETRY_S = 0.2, 2.0
"""Between two tries; doubled each time."""


@dataclass(slots=True)
class Tries:
    """How far a question has come."""

    due_at: float | None
    """When it is to be asked; None: it was, or needn't be."""
    ticket: int | None = None
    """Of the try that is under way."""
    count: int = 0

    def due(self, now: float) -> bool:
        """Whether it is to be asked."""
        return self.due_at is not None and now >= self.due_at

    def asked(self, ticket: int) -> None:
        """A try is under way."""
        self.ticket, self.due_at, self.count = ticket, None, self.count + 1

    def next_at(self, now: float) -> float:
        """When to ask again after a try that has failed now."""
        return now + min(MAX_RETRY_S, RETRY_S * 2.0 ** (self.count - 1))

    def again_at(self, when: float | None) -> None:
        """No try is under way; the next one is due then, or none is needed."""
        self.ticket, self.due_at = None, when
