"""Progress and the final table on the terminal: a bar where there is a person, plain lines where there is a log."""

import logging
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from deployments.media.reader import Piece
from livedub.fragment import FragmentResult
from livedub.report import Summary

LOGGER = "livedub.client"


class _Warnings(logging.Handler):
    """Says on a console what the client warns of, and errors of what it is made of."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """One line, above a bar that is shown."""
        if record.name == LOGGER or record.levelno >= logging.ERROR:
            line = f"livedub: {self.format(record)}"
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)


class Display:
    """Shows how far a run is, and what the client warns of, on stderr.

    Args:
        total_s: audio to come, if known.
        waits_for: what the stream waits for just now; empty: nothing.
        quiet: show warnings alone.
        language: that it is dubbed into, where there are several.
        console: where; stderr by default.
    """

    def __init__(
        self,
        total_s: float | None,
        waits_for: Callable[[], str],
        *,
        quiet: bool,
        language: str = "",
        console: Console | None = None,
    ) -> None:
        self._console = console or Console(stderr=True)
        self._waits_for = waits_for
        self._quiet = quiet
        self._plain = not self._console.is_terminal
        self._total = clock(total_s) if total_s is not None else "?"
        self._n_done = 0
        self._progress = Progress(
            TextColumn("{task.fields[position]}"),
            BarColumn(8),
            TextColumn("{task.fields[words]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            TextColumn("running"),
            TimeElapsedColumn(),
            console=self._console,
            disable=quiet or self._plain,
            expand=True,
            transient=True,
        )
        self._warnings = _Warnings(self._console)
        self._name = f"{language} " if language else ""
        self._task = self._progress.add_task("", total=total_s, position=self._at(0.0), words="waits for the first")

    def _at(self, seconds: float) -> str:
        """How far it is in the file."""
        return f"{self._name}{clock(seconds)} of {self._total}"

    def __enter__(self) -> Self:
        logging.getLogger(LOGGER).addHandler(self._warnings)
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        logging.getLogger(LOGGER).removeHandler(self._warnings)

    def result(self, result: FragmentResult, piece: Piece) -> None:
        """Another fragment is done."""
        self._n_done += 1
        if self._quiet:
            return
        end_s = (piece.start_ms + piece.duration_ms) / 1000
        if self._plain:
            line = f"{self._at(end_s)}  {self._n_done} done  {result.status}{_details(result)}"
            self._console.print(line, highlight=False, soft_wrap=True)
            return
        waits_for = self._waits_for()
        words = f"waits for {waits_for}" if waits_for not in {"", "full window"} else _words(result)
        self._progress.update(self._task, completed=end_s, position=self._at(end_s), words=words)

    def heard(self, end_s: float, words: str, *, final: bool) -> None:
        """So much has been heard, and these are the words of it that came last."""
        if self._quiet:
            return
        if not self._plain:
            self._progress.update(self._task, completed=end_s, position=self._at(end_s), words=words or "nobody speaks")
        elif final and words:
            self._console.print(f"{self._at(end_s)}  {words}", highlight=False, markup=False, soft_wrap=True)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, as players show them."""
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02}:{int(seconds) % 60:02}"


def say(message: str) -> None:
    """A line on stderr, whatever characters are in it."""
    stream = sys.stderr
    encoding = stream.encoding or "utf-8"
    print(f"livedub: {message}".encode(encoding, "backslashreplace").decode(encoding), file=stream)


def show_summary(summary: Summary) -> None:
    """The table at the end, on stdout."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in summary.rows():
        table.add_row(label, value)
    Console().print(table, highlight=False)


def _words(result: FragmentResult) -> str:
    """What was said last, in the other language, or why it was not."""
    if result.failure is not None:
        return f"{result.failure.code}: {result.failure.message}"
    said = result.processed.translated_text if result.processed is not None else ""
    return f"“{said}”" if said else "nobody speaks"


def _details(result: FragmentResult) -> str:
    if result.failure is not None:
        return f"  {result.failure.code}: {result.failure.message}"
    if result.processed is None:
        return ""
    stages = result.processed.stage_timings
    return (
        f"  ASR {stages.asr_ms} ms, translation {stages.translation_ms} ms, TTS {stages.tts_ms} ms,"
        f" latency {result.latency_ms} ms"
    )
