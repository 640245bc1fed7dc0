"""Progress on a terminal of 80 columns: where in the file, for how long, and what was said last."""

import io

import numpy as np
import pytest
from rich.console import Console

from deployments.media.reader import Piece
from livedub.display import Display, clock
from livedub.fragment import Failure, FragmentResult
from serve_app.protocol import FragmentProcessed

from .conftest import processed

DATA = {"fragment_id": "f", "stream_id": "s", "sequence_number": 0, "audio": {"format": "wav", "duration_ms": 6000}}
FAILED = FragmentResult("f", 0, "failed", None, Failure("TIMEOUT", "too late", retryable=True), 1, 1)


def result(text: str) -> FragmentResult:
    said = FragmentProcessed.model_validate(processed(DATA, translated_text=text, dubbed_audio=None), strict=False)
    return FragmentResult("f", 0, "success", said, None, 1, 1)


def shown(
    *results: FragmentResult, width: int = 80, terminal: bool = True, waits_for: str = "", **options
) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    with Display(3725.0, lambda: waits_for, quiet=False, console=console, **options) as display:
        for number, one in enumerate(results):
            display.result(one, Piece(np.zeros((1, 1), np.int16), 0, number * 6000, 6000))
            display._progress.refresh()
    return [line.rstrip() for line in console.file.getvalue().replace("\r", "\n").split("\n") if line.strip()]


def test_a_line_fits_and_says_where_what_and_how_long() -> None:
    lines = [line for line in shown(result("Buenos días a todos, " * 10)) if "0:00:06" in line]

    assert lines
    for line in lines:
        assert "0:00:06 of 1:02:05" in line
        assert "“Buenos días a todos" in line
        assert "running 0:00:0" in line
        assert len(line.replace("\x1b[2K", "").replace("\x1b[1A", "")) <= 90  # with what moves the cursor


@pytest.mark.parametrize(
    ("one", "waits_for", "says"),
    [
        (FAILED, "", "TIMEOUT: too late"),
        (result(""), "", "nobody speaks"),
        (result("Hola"), "a connection", "waits for a connection"),
        (result("Hola"), "full window", "“Hola”"),
    ],
)
def test_what_keeps_it_is_said(one: FragmentResult, waits_for: str, says: str) -> None:
    assert any(says in line for line in shown(one, waits_for=waits_for))


def test_several_languages_are_told_apart() -> None:
    assert any(line.lstrip("\x1b[2K").startswith("pt 0:00:06") for line in shown(result("Olá"), language="pt"))


def test_a_log_gets_a_line_for_each_fragment() -> None:
    first, second = shown(result("Hola"), FAILED, terminal=False)

    assert first.startswith("0:00:06 of 1:02:05  1 done  success  ASR 10 ms")
    assert second == "0:00:12 of 1:02:05  2 done  failed  TIMEOUT: too late"


def test_clocks_are_those_of_players() -> None:
    assert [clock(seconds) for seconds in (0, 59.9, 61, 3725)] == ["0:00:00", "0:00:59", "0:01:01", "1:02:05"]


@pytest.mark.parametrize("terminal", [True, False])
def test_of_what_is_heard_a_terminal_shows_all_and_a_log_what_is_final(terminal: bool) -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=terminal, color_system=None)
    with Display(60.0, lambda: "", quiet=False, console=console) as display:
        for words, final in (("good eve", False), ("Good evening.", True), ("", True)):
            display.heard(6.0, words, final=final)
            display._progress.refresh()
    shown = console.file.getvalue()
    assert "0:00:06 of 0:01:00" in shown
    assert "Good evening." in shown
    assert ("good eve" in shown, "nobody speaks" in shown) == (terminal, terminal)


def test_a_quiet_one_shows_nothing_of_what_is_heard() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    with Display(None, lambda: "", quiet=True, console=console) as display:
        display.heard(6.0, "Good evening.", final=True)
    assert console.file.getvalue() == ""
