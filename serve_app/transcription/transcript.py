"""What a session keeps of what was said, for its end. PURE."""

from collections import deque


class BoundedText:
    """Texts, one after the other. The oldest go once there are too many characters.

    Args:
        max_characters: with the spaces between.
    """

    def __init__(self, max_characters: int) -> None:
        self._max_characters = max_characters
        self._texts: deque[str] = deque()
        self._characters = 0
        self.dropped_characters = 0

    def __str__(self) -> str:
        return " ".join(self._texts)

    def add(self, text: str) -> None:
        """Another one; an empty one is none."""
        if not text:
            return
        if len(text) > self._max_characters:
            self.dropped_characters += len(text) - self._max_characters
            text = text[-self._max_characters :]
        self._characters += len(text) + bool(self._texts)
        self._texts.append(text)
        while self._characters > self._max_characters:
            size = len(self._texts.popleft()) + 1
            self._characters -= size
            self.dropped_characters += size
