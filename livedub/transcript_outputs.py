"""What `livedub transcribe` leaves: words as they come, or subtitles once all are there."""

import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from deployments.media.captions import TimedWord, in_order, layout
from deployments.media.subtitles import CAPTION_FORMATS
from deployments.media.targets import OutputRefused
from livedub.cues import heard_words, translated_words
from serve_app.protocol import TranscriptComplete, TranscriptFinal


class TranscriptFormat(StrEnum):
    """How a transcript is written."""

    text = "text"
    """A line an utterance; translations below it, each behind its language in brackets."""
    json = "json"
    """A line a final, as the protocol has it, and a last one that is the summary."""
    srt = "srt"
    vtt = "vtt"


def format_of(asked: TranscriptFormat | None, out: Path | None) -> TranscriptFormat:
    """The format that was asked for, or that a file's name tells, or text."""
    named = out.suffix.removeprefix(".").lower() if out is not None else ""
    return asked or (TranscriptFormat(named) if named in TranscriptFormat.__members__ else TranscriptFormat.text)


class TranscriptOutput:
    """One transcript on its way out. Subtitles are written at the end, whatever ends it once something was heard.

    Args:
        kind: how it is written.
        out: where; None: standard output.
        source_language: that is spoken.
        languages: it is translated into; subtitles of each go into a file of its own, with the language in its name.
        force: whether what exists may be overwritten.

    Raises:
        OutputRefused: a file exists, or there would be several without a name.
    """

    def __init__(
        self, kind: TranscriptFormat, out: Path | None, source_language: str, languages: Sequence[str], *, force: bool
    ) -> None:
        self._kind = kind
        self._words: dict[str, list[TimedWord]] = {}
        self._stream: TextIO | None = None
        """Of words as they come."""
        self._heard = False
        subtitles = kind in CAPTION_FORMATS
        if subtitles and languages and out is None:
            raise OutputRefused("subtitles of several languages are several files: name one with -o, as -o talk.srt")
        if subtitles and languages and out is not None:
            names = dict.fromkeys([source_language, *languages])
            self._paths = {name: out.with_name(f"{out.stem}.{name}{out.suffix or f'.{kind}'}") for name in names}
        else:
            self._paths = {} if out is None else {source_language: out}
        if subtitles:
            self._words = {name: [] for name in self._paths or [source_language]}
        self._source = source_language
        for path in self._paths.values():
            if path.exists() and not force:
                raise OutputRefused(f"{path} exists: give another name, or --force to overwrite it")
            if not path.parent.is_dir():
                raise OutputRefused(f"{path.parent} is no folder")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not self._heard:
            return
        if not self._words:
            self._opened()
        if self._stream is not None and self._stream is not sys.stdout:
            self._stream.close()
        for language, words in self._words.items():
            text = CAPTION_FORMATS[self._kind](layout(in_order(words)), language)
            path = self._paths.get(language)
            if path is None:
                sys.stdout.write(text)
            else:
                path.write_text(text, encoding="utf-8")

    @property
    def paths(self) -> list[Path]:
        """The files that are written."""
        return list(self._paths.values())

    def final(self, final: TranscriptFinal) -> None:
        """More was said."""
        self._heard = True
        if self._kind is TranscriptFormat.json:
            self._line(json.dumps(final.to_wire(), ensure_ascii=False))
        elif self._kind is TranscriptFormat.text and final.text:
            self._line(final.text)
            for language, text in (final.translations or {}).items():
                self._line(f"[{language}] {text}")
        for language, words in self._words.items():
            words.extend(heard_words(final) if language == self._source else translated_words(final, language))

    def complete(self, summary: TranscriptComplete) -> None:
        """All was said."""
        if self._kind is TranscriptFormat.json:
            self._line(json.dumps(summary.to_wire(), ensure_ascii=False))

    def _line(self, text: str) -> None:
        print(text, file=self._opened(), flush=True)

    def _opened(self) -> TextIO:
        """Where words go, which is touched by what is heard and not before."""
        if self._stream is None:
            path = self._paths.get(self._source)
            self._stream = sys.stdout if path is None else path.open("w", encoding="utf-8")
        return self._stream
