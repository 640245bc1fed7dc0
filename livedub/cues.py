"""When words of both languages are said, by what results say. PURE."""

from collections.abc import Sequence

from deployments.media.captions import TimedWord, timed
from livedub.fragment import FragmentResult
from serve_app.protocol import TranscriptFinal, TranscriptSegment


def source_words(result: FragmentResult, start_ms: int, duration_ms: int) -> list[TimedWord]:
    """What was said; `start_ms` and `duration_ms` are the fragment's place."""
    if result.processed is None:
        return []
    segments = _segments(result)
    if not segments:
        return timed(result.processed.transcript or "", [(start_ms, start_ms + duration_ms)])
    words: list[TimedWord] = []
    for segment in segments:
        told = segment.words or ()
        if told and " ".join(word.text for word in told).split() == segment.text.split():
            words += [TimedWord(word.text, word.start_ms, word.end_ms, word is told[-1]) for word in told]
        else:
            words += timed(segment.text, [(segment.start_ms, segment.end_ms)])
    return words


def target_words(result: FragmentResult, start_ms: int, duration_ms: int) -> list[TimedWord]:
    """What it means, over the times at which the original speaks, where the dub speaks, too."""
    if result.processed is None:
        return []
    spans = [
        (part.start_ms, part.end_ms)
        for segment in _segments(result)
        for part in (segment.words or (segment,))
        if part.end_ms > part.start_ms
    ]
    return timed(result.processed.translated_text or "", spans or [(start_ms, start_ms + duration_ms)])


def heard_words(final: TranscriptFinal) -> list[TimedWord]:
    """What was said, of a live transcription."""
    told = final.words
    if told and " ".join(word.text for word in told).split() == final.text.split():
        return [
            TimedWord(word.text, word.start_ms, word.end_ms, final.utterance_over and word is told[-1]) for word in told
        ]
    return timed(final.text, [(final.start_ms, final.end_ms)])


def translated_words(final: TranscriptFinal, language: str) -> list[TimedWord]:
    """What it means, over the times at which it is said."""
    spans = [(word.start_ms, word.end_ms) for word in final.words if word.end_ms > word.start_ms]
    return timed((final.translations or {}).get(language, ""), spans or [(final.start_ms, final.end_ms)])


def _segments(result: FragmentResult) -> Sequence[TranscriptSegment]:
    transcript = result.processed.assets.transcript if result.processed is not None else None
    return transcript.segments if transcript is not None else ()
