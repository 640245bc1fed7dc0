"""Progress and the final table on the terminal: a bar where there is a person, plain lines where there is a log."""

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from client.fragment import FragmentResult
from client.media import Piece
from client.report import Summary

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
    """

    def __init__(self, total_s: float | None, waits_for: Callable[[], str], *, quiet: bool) -> None:
        self._console = Console(stderr=True)
        self._waits_for = waits_for
        self._quiet = quiet
        self._plain = not self._console.is_terminal
        self._n_done = 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=self._console,
            disable=quiet or self._plain,
            transient=True,
        )
        self._warnings = _Warnings(self._console)
        self._task = self._progress.add_task("first fragment", total=total_s)

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
        line = f"{self._n_done} done  {result.status}{_details(result)}"
        if self._quiet:
            return
        if self._plain:
            self._console.print(f"{piece.start_ms / 1000:8.1f} s  {line}", highlight=False, soft_wrap=True)
            return
        waits_for = self._waits_for()
        waiting = f"  (waits for {waits_for})" if waits_for not in {"", "full window"} else ""
        self._progress.update(self._task, advance=piece.duration_ms / 1000, description=line + waiting)


def show_summary(summary: Summary) -> None:
    """The table at the end, on stdout."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in summary.rows():
        table.add_row(label, value)
    Console().print(table, highlight=False)


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
