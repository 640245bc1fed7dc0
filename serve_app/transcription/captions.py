"""One session in the words of our own protocol, and what is kept of it for its end. PURE.

Protocol: Live transcription.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from deployments.errors import StageError
from serve_app.protocol import (
    AudioStart,
    FragmentError,
    TranscriptComplete,
    TranscriptFinal,
    TranscriptionStatistics,
    TranscriptUpdate,
    WordTiming,
)
from serve_app.transcription.events import Final, Interim, Statistics
from serve_app.transcription.transcript import BoundedText

Reason = Literal["ended", "idle", "lasted", "draining", "audio_failed", "failed"]
"""Why a session has ended."""


@dataclass(frozen=True, slots=True)
class Translated:
    """A final in other languages, by how these were named."""

    texts: dict[str, str] = field(default_factory=dict)
    failures: dict[str, StageError] = field(default_factory=dict)


class Captions:
    """What one client is told.

    Args:
        stream_id: the session's name.
        start: what it was asked for.
        max_characters: of the transcript, and of each translation of it.
    """

    def __init__(self, stream_id: str, start: AudioStart, max_characters: int) -> None:
        self.chunks_received = self.chunks_forwarded = self.bytes_received = 0
        self.refusals = 0
        self._stream_id = stream_id
        self._language = start.config.source_language
        self._reconnections = start.reconnections
        self._transcript = BoundedText(max_characters)
        self._translations = {language: BoundedText(max_characters) for language in start.config.translate_to}
        self._updates = self._translated = self._untranslated = 0

    def update(self, event: Interim) -> TranscriptUpdate:
        """Words that are being said."""
        self._updates += 1
        return TranscriptUpdate(
            stream_id=self._stream_id,
            start_ms=event.start_ms,
            end_ms=event.end_ms,
            committed=event.committed,
            tentative=event.tentative,
        )

    def final(self, event: Final, translated: Translated | None) -> TranscriptFinal:
        """Words that were said, and what they mean."""
        self._transcript.add(event.text)
        texts, failures = (None, {}) if translated is None else (translated.texts, translated.failures)
        for language, text in (texts or {}).items():
            self._translations[language].add(text)
        self._translated += len(texts or {})
        self._untranslated += len(failures)
        words = tuple(
            WordTiming(text=one.text, start_ms=one.start_ms, end_ms=one.end_ms, confidence=round(one.confidence, 4))
            for one in event.words
        )
        return TranscriptFinal(
            stream_id=self._stream_id,
            start_ms=event.start_ms,
            end_ms=event.end_ms,
            text=event.text,
            words=words,
            confidence=round(event.confidence, 4),
            language=self._language,
            utterance_over=event.utterance_over,
            translations=texts,
            translation_errors=_told_of(failures) or None,
            error=None if event.failure is None else _told(event.failure),
            model=event.model or None,
        )

    def complete(self, session_id: str, reason: Reason, counts: Statistics, duration_ms: int) -> TranscriptComplete:
        """All of it."""
        metrics = TranscriptionStatistics(
            chunks_received=self.chunks_received,
            chunks_forwarded=self.chunks_forwarded,
            bytes_received=self.bytes_received,
            audio_ms=counts.audio_ms,
            duration_ms=duration_ms,
            transcripts=counts.finals,
            updates=self._updates,
            updates_dropped=max(0, counts.interims - self._updates) + counts.interims_dropped,
            revised_words=counts.revised_words,
            translations=self._translated,
            errors=self.refusals + counts.errors + self._untranslated,
            reconnections=self._reconnections,
        )
        return TranscriptComplete(
            stream_id=self._stream_id,
            session_id=session_id,
            reason=reason,
            transcript=str(self._transcript),
            dropped_characters=self._transcript.dropped_characters,
            translations={language: str(text) for language, text in self._translations.items()} or None,
            metrics=metrics,
        )


def _told(failure: StageError) -> FragmentError:
    return FragmentError(
        stage=failure.stage.value, code=failure.code, message=failure.message, retryable=failure.retryable
    )


def _told_of(failures: Mapping[str, StageError]) -> dict[str, FragmentError]:
    return {language: _told(failure) for language, failure in failures.items()}
