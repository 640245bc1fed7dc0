"""Installed Apertium modes are found by the wire's language codes and split into commands without a shell."""

from pathlib import Path

import pytest

from deployments.translation import modes


def test_modes_that_translate_are_found_by_base_language(tmp_path: Path) -> None:
    for name in ("eng-spa", "spa-eng", "spa-eng_US", "eng-spa-tagger", "en-gl", "xyz-eng", "README"):
        (tmp_path / f"{name}.mode").touch()

    assert modes.installed(tmp_path) == {
        ("en", "es"): tmp_path / "eng-spa.mode",
        ("es", "en"): tmp_path / "spa-eng.mode",
        ("en", "gl"): tmp_path / "en-gl.mode",
    }


def test_a_mode_becomes_commands_that_flush_and_hide_unknown_words() -> None:
    mode = "lt-proc '/data/a b.bin' | apertium-tagger -g $2 '/data/x|y.prob'|lt-proc $1 /data/gen.bin\n"

    assert modes.commands(mode) == [
        ["lt-proc", "-z", "/data/a b.bin"],
        ["apertium-tagger", "-z", "-g", "/data/x|y.prob"],
        ["lt-proc", "-z", "-n", "/data/gen.bin"],
    ]


def test_a_switch_that_is_there_already_is_not_given_twice() -> None:
    assert modes.commands("cg-proc -z -w x.bin") == [["cg-proc", "-z", "-w", "x.bin"]]


def test_modes_lie_beside_the_installed_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modes.shutil, "which", lambda program: f"/opt/apertium/bin/{program}")

    assert modes.default_directory() == Path("/opt/apertium/share/apertium/modes")


def test_an_apertium_that_is_not_installed_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modes.shutil, "which", lambda program: None)

    with pytest.raises(FileNotFoundError, match="apt-get install apertium"):
        modes.default_directory()
