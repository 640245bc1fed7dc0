"""Apertium's options are checked, and its processes are looked after whatever they do. `cat` stands in for them."""

import os
import pickle
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from deployments.contracts.values import FragmentRef, TranslateRequest
from deployments.errors import DeadlineExceeded, ModelFailed, UnsupportedLanguage
from deployments.translation import TranslationOptions
from deployments.translation.apertium import Apertium, ApertiumOptions


def program(directory: Path, name: str, body: str) -> Path:
    """An executable that ignores its arguments, as a stage of a mode."""
    path = directory / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def engines(tmp_path: Path) -> Iterator["Engines"]:
    engines = Engines(tmp_path)
    yield engines
    for engine in engines.made:
        engine.close()


class Engines:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.made: list[Apertium] = []

    def running(self, *bodies: str) -> Apertium:
        """Apertium whose only mode, eng-spa, runs these shell scripts one behind the other."""
        stages = [program(self.directory, f"stage{index}", body) for index, body in enumerate(bodies)]
        (self.directory / "eng-spa.mode").write_text(" | ".join(f"'{stage}'" for stage in stages))
        engine = Apertium(ApertiumOptions(engine="apertium", modes_dir=self.directory))
        engine.load()
        self.made.append(engine)
        return engine


def request(text: str = "good morning", target: str = "es", budget_ms: int = 20_000) -> TranslateRequest:
    return TranslateRequest(FragmentRef("radio", "f", 1), text, "en", target, (), "", budget_ms)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_processes_start_with_the_first_text_and_stay(engines: Engines) -> None:
    engine = engines.running("exec cat", "exec cat")
    assert engine.pids() == ()

    assert engine.translate([request("one"), request("two")]) == ["one", "two"]
    first = engine.pids()
    assert engine.translate([request("three")]) == ["three"]
    assert engine.pids() == first
    assert len(first) == 2


def test_closing_leaves_no_process_and_no_zombie(engines: Engines) -> None:
    engine = engines.running("exec cat", "exec cat")
    engine.translate([request()])
    pids = engine.pids()
    engine.close()

    assert [pid for pid in pids if alive(pid)] == []
    engine.close()


def test_a_dead_process_is_replaced_and_nobody_notices(engines: Engines) -> None:
    engine = engines.running("exec cat", "exec cat", "exec cat")
    engine.translate([request()])
    before = engine.pids()
    os.kill(before[1], signal.SIGKILL)

    assert engine.translate([request("good evening")]) == ["good evening"]
    assert set(engine.pids()).isdisjoint(before)
    assert [pid for pid in before if alive(pid)] == []


def test_a_process_that_dies_of_every_text_is_a_model_failure(engines: Engines) -> None:
    [error] = engines.running("exec cat", "head -c 3 >/dev/null").translate([request()])

    assert isinstance(error, ModelFailed)


def test_a_program_that_is_not_there_is_a_model_failure_that_names_it(engines: Engines) -> None:
    engine = engines.running("exec cat", "exec cat")
    (engines.directory / "stage1").unlink()
    [error] = engine.translate([request()])

    assert isinstance(error, ModelFailed)
    assert "stage1" in error.message


def test_an_answer_that_breaks_off_is_no_answer(engines: Engines) -> None:
    """A process behind one that died flushes what it has, NUL byte included."""
    [error] = engines.running(r"read -r line; printf 'Hola\0'").translate([request("a\\\n")])

    assert isinstance(error, ModelFailed)


def test_a_hung_process_ends_with_the_texts_time_and_is_killed(engines: Engines) -> None:
    engine = engines.running("exec cat", "exec tail -f /dev/null")
    [error] = engine.translate([request(budget_ms=50)])

    assert isinstance(error, DeadlineExceeded)
    assert engine.pids() == ()


def test_long_texts_do_not_clog_the_pipes(engines: Engines) -> None:
    text = " ".join(["word"] * 40_000)

    assert engines.running("exec cat", "exec cat").translate([request(text)]) == [text]


def test_special_characters_reach_apertium_escaped_and_come_back_as_they_were(engines: Engines) -> None:
    text = r"^a$ [b] {c} <d> e/f @g \h"

    assert engines.running("exec cat").translate([request(text)]) == [text]


def test_text_is_one_line_and_control_characters_do_not_break_the_protocol(engines: Engines) -> None:
    assert engines.running("exec cat").translate([request(" one\n\ttwo\x00three\x07 ")]) == ["one two three"]


def test_a_capital_at_the_beginning_is_kept(engines: Engines) -> None:
    engine = engines.running("exec stdbuf -o0 tr GE ge")

    assert engine.translate([request("Good Evening"), request("évening")]) == ["Good evening", "évening"]


def test_a_pair_that_is_not_installed_is_an_answer_for_that_text_only(engines: Engines) -> None:
    answers = engines.running("exec cat").translate([request(target="fr"), request("one")])

    assert isinstance(answers[0], UnsupportedLanguage)
    assert answers[1] == "one"


def test_it_is_shipped_unloaded_and_knows_its_pairs_once_loaded(engines: Engines) -> None:
    engines.running("exec cat")
    engine = pickle.loads(pickle.dumps(ApertiumOptions(engine="apertium", modes_dir=engines.directory).build()))  # noqa: S301
    engine.load()

    assert engine.pairs == {("en", "es")}


def test_only_the_pairs_asked_for_are_offered(tmp_path: Path) -> None:
    for name in ("eng-spa", "spa-eng"):
        (tmp_path / f"{name}.mode").write_text("cat")
    engine = ApertiumOptions(engine="apertium", pairs=("es-en",), modes_dir=tmp_path).build()
    engine.load()

    assert engine.pairs == {("es", "en")}


@pytest.mark.parametrize(("pairs", "told"), [(("en-fr",), "no en-fr"), (None, "no language pair")])
def test_a_pair_that_is_missing_stops_the_start(tmp_path: Path, pairs: tuple[str, ...] | None, told: str) -> None:
    with pytest.raises(FileNotFoundError, match=told):
        ApertiumOptions(engine="apertium", pairs=pairs, modes_dir=tmp_path).build().load()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"engine": "apertium", "pairs": ["english"]}, "pairs"),
        ({"engine": "apertium", "delay_ms": 1}, "delay_ms"),
        ({"engine": "fake", "script": [{"crush": True}]}, "crush"),
        ({"engine": "babelfish"}, "babelfish"),
    ],
)
def test_wrong_options_are_refused_naming_the_field(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        TypeAdapter(TranslationOptions).validate_python(wrong)
