"""What a stream said last, as context for translating what it says next. PURE."""

MAX_FRAGMENTS = 8


class TranslationContext:
    """Transcripts of the last fragments by sequence number."""

    def __init__(self) -> None:
        self._texts: dict[int, str] = {}

    def note(self, number: int, text: str) -> None:
        """Remember a fragment's transcript; the lowest numbers are forgotten first."""
        self._texts[number] = text
        while len(self._texts) > MAX_FRAGMENTS:
            del self._texts[min(self._texts)]

    def before(self, number: int) -> str:
        """What was said in lower numbers, as far as it is known, in order."""
        return " ".join(self._texts[n] for n in sorted(self._texts) if n < number and self._texts[n])
