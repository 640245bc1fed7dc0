"""Subtitles of both languages: cues from results, and the files' texts. PURE."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import srt

from client.fragment import FragmentResult
from serve_app.protocol import TranscriptSegment

_LINE_CHARACTERS = 42
_LINES = 2
_MIN_CUE_MS = 1


@dataclass(frozen=True, slots=True)
class Cue:
    """A text and when it is shown, in ms on the file's timeline."""

    start_ms: int
    end_ms: int
    text: str
    """At most two lines of 42 characters."""


def source_cues(result: FragmentResult, start_ms: int, duration_ms: int) -> list[Cue]:
    """What was said: a cue or more for each segment; `start_ms` and `duration_ms` are the fragment's place."""
    if result.processed is None:
        return []
    segments = _segments(result)
    if segments:
        return [cue for s in segments for cue in spread(s.text, s.start_ms, s.end_ms)]
    return spread(result.processed.transcript or "", start_ms, start_ms + duration_ms)


def target_cues(result: FragmentResult, start_ms: int, duration_ms: int) -> list[Cue]:
    """What it means: the translation over the time in which the fragment was spoken."""
    if result.processed is None:
        return []
    segments = _segments(result)
    start = segments[0].start_ms if segments else start_ms
    end = segments[-1].end_ms if segments else start_ms + duration_ms
    return spread(result.processed.translated_text or "", start, end)


def spread(text: str, start_ms: int, end_ms: int) -> list[Cue]:
    """A text as cues of two lines at most, each shown in proportion to its length."""
    lines = textwrap.wrap(" ".join(text.split()), _LINE_CHARACTERS)
    texts = ["\n".join(lines[n : n + _LINES]) for n in range(0, len(lines), _LINES)]
    total = sum(map(len, texts))
    cues: list[Cue] = []
    shown = 0
    for piece in texts:
        start = start_ms + (end_ms - start_ms) * shown // total
        shown += len(piece)
        cues.append(Cue(start, start_ms + (end_ms - start_ms) * shown // total, piece))
    return cues


def in_order(cues: Iterable[Cue]) -> list[Cue]:
    """The cues by time, none overlapping the one before, none without a duration."""
    ordered: list[Cue] = []
    end_ms = 0
    for cue in sorted(cues, key=lambda cue: cue.start_ms):
        start_ms = max(cue.start_ms, end_ms)
        end_ms = max(cue.end_ms, start_ms + _MIN_CUE_MS)
        ordered.append(Cue(start_ms, end_ms, cue.text))
    return ordered


def to_srt(cues: Sequence[Cue]) -> str:
    """The text of a SubRip file."""
    text: str = srt.compose(
        srt.Subtitle(n, timedelta(milliseconds=cue.start_ms), timedelta(milliseconds=cue.end_ms), cue.text)
        for n, cue in enumerate(in_order(cues), 1)
    )
    return text


def to_vtt(cues: Sequence[Cue]) -> str:
    """The text of a WebVTT file."""
    blocks = [
        f"{_vtt_time(cue.start_ms)} --> {_vtt_time(cue.end_ms)}\n{_vtt_text(cue.text)}\n" for cue in in_order(cues)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def _segments(result: FragmentResult) -> Sequence[TranscriptSegment]:
    transcript = result.processed.assets.transcript if result.processed is not None else None
    return transcript.segments if transcript is not None else ()


def _vtt_time(ms: int) -> str:
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"


def _vtt_text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
