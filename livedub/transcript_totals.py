"""One transcription whose connection was lost and came back, as one. PURE."""

from serve_app.protocol import AudioReady, TranscriptComplete, TranscriptFinal, TranscriptUpdate, WordTiming


def placed(final: TranscriptFinal, offset_ms: int) -> TranscriptFinal:
    """A final with its times counted from the start of all."""
    if not offset_ms:
        return final
    words = tuple(
        WordTiming(
            text=word.text,
            start_ms=word.start_ms + offset_ms,
            end_ms=word.end_ms + offset_ms,
            confidence=word.confidence,
        )
        for word in final.words
    )
    moved = {"start_ms": final.start_ms + offset_ms, "end_ms": final.end_ms + offset_ms, "words": words}
    return final.model_copy(update=moved)


def placed_update(update: TranscriptUpdate, offset_ms: int) -> TranscriptUpdate:
    """An update likewise."""
    moved = {"start_ms": update.start_ms + offset_ms, "end_ms": update.end_ms + offset_ms}
    return update.model_copy(update=moved)


class TranscriptTotals:
    """What all connections have brought."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        """By language; the empty one is that which is spoken."""
        self._dropped = 0
        self._finals = self._updates = self._end_ms = 0
        self._most = 0

    def opened(self, ready: AudioReady) -> None:
        """A session was opened."""
        self._most = ready.max_transcript_characters

    def update(self) -> None:
        """One has come."""
        self._updates += 1

    def final(self, final: TranscriptFinal) -> None:
        """One has come, in its place."""
        self._end_ms = final.end_ms
        self._finals += bool(final.text)
        self._dropped += self._add("", final.text)
        for language, text in (final.translations or {}).items():
            self._add(language, text)

    def _add(self, language: str, text: str) -> int:
        """How many characters had to go."""
        whole = " ".join(filter(None, (self._texts.get(language, ""), text)))
        self._texts[language] = whole[-self._most :]
        return len(whole) - len(self._texts[language])

    def complete(self, last: TranscriptComplete, reconnections: int) -> TranscriptComplete:
        """The last connection's summary with what the others have brought; chunks are counted on the last one alone."""
        if not reconnections:
            return last
        translations = {language: self._texts.get(language, "") for language in last.translations or {}}
        metrics = last.metrics.model_copy(
            update={
                "audio_ms": self._end_ms,
                "transcripts": self._finals,
                "updates": self._updates,
                "reconnections": reconnections,
            }
        )
        return last.model_copy(
            update={
                "transcript": self._texts.get("", ""),
                "dropped_characters": self._dropped,
                "translations": translations or None,
                "metrics": metrics,
            }
        )
