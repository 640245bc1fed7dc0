"""What every translation engine does, and what the installed Apertium makes of real sentences."""

import os
import pickle
import signal
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from deployments.contracts.engines import TranslationEngine
from deployments.contracts.values import FragmentRef, TranslateRequest
from deployments.translation import modes
from deployments.translation.apertium import Apertium, ApertiumOptions
from deployments.translation.deepl import DeepLOptions
from deployments.translation.fake import FakeTranslationOptions
from tests.support.deepl_stub import deepl_stub

ENGINES = {
    "fake": FakeTranslationOptions(),
    "apertium": ApertiumOptions(engine="apertium", pairs=("en-es", "es-en")),
    "deepl": DeepLOptions(engine="deepl", api_key=SecretStr("of-nobody")),
}
SPECIAL = "^$[]{}<>/@\\"


def apertium_is_missing() -> str:
    """Why the real engine can't run here; empty where it can."""
    try:
        found = modes.installed(modes.default_directory())
    except FileNotFoundError as error:
        return str(error)
    return "" if {("en", "es"), ("es", "en")} <= found.keys() else "apt-get install apertium-eng-spa"


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[TranslationEngine]:
    if request.param == "apertium" and (missing := apertium_is_missing()):
        pytest.skip(missing)
    with deepl_stub() as stub:
        options = ENGINES[request.param]
        if isinstance(options, DeepLOptions):
            options = options.model_copy(update={"server_url": stub.url})
        built = options.build()
        built.load()
        yield built
        built.close()


@pytest.fixture(scope="module")
def apertium() -> Iterator[Apertium]:
    if missing := apertium_is_missing():
        pytest.skip(missing)
    built = Apertium(ApertiumOptions(engine="apertium"))
    built.load()
    yield built
    built.close()


def asked(text: str, source: str = "en", target: str = "es") -> TranslateRequest:
    return TranslateRequest(FragmentRef("radio", "f", 1), text, source, target, ("jargon",), "Before that.", 30_000)


def translated(engine: TranslationEngine, text: str, source: str = "en", target: str = "es") -> str:
    [answer] = engine.translate([asked(text, source, target)])
    assert isinstance(answer, str)
    return answer


def test_it_crosses_processes_before_it_is_loaded() -> None:
    for options in ENGINES.values():
        assert pickle.loads(pickle.dumps(options.build())).model  # noqa: S301


def test_it_tells_its_model_and_both_directions(engine: TranslationEngine) -> None:
    assert engine.model
    assert engine.pairs is None or {("en", "es"), ("es", "en")} <= engine.pairs


@pytest.mark.parametrize(
    "text",
    [
        "The dog eats the bread.",
        f"Here {SPECIAL} we are.",
        SPECIAL,
        "Ünïcode, 日本, Ελλάδα and 🎉 too.",
        "One line.\nAnother line.\r\n\tA third.",
        "*stars* #hashes +plus ~tildes& 100% \"quoted\" 'n' so on",
        "The dog eats the bread. " * 210,
        "...",
        "42",
    ],
)
def test_any_text_is_translated_into_some_text(engine: TranslationEngine, text: str) -> None:
    assert translated(engine, text).strip()


def test_several_texts_at_once_are_translated_as_one_by_one(engine: TranslationEngine) -> None:
    texts = ["The house is red.", "The cat sleeps.", f"{SPECIAL} end", "Good morning."]

    together = engine.translate([asked(text) for text in texts])

    assert together == [translated(engine, text) for text in texts]


def test_no_texts_are_no_answers(engine: TranslationEngine) -> None:
    assert engine.translate([]) == []


@pytest.mark.parametrize(
    ("text", "source", "target", "expected"),
    [
        ("The house is red.", "en", "es", "La casa es roja."),
        ("The dog eats the bread.", "en", "es", "El perro come el pan."),
        ("La casa es roja.", "es", "en", "The house is red."),
        ("El perro come el pan.", "es", "en", "The dog eats the bread."),
        ("Foobarqux is red.", "en", "es", "Foobarqux Es rojo."),
    ],
)
def test_apertium_translates_both_ways(apertium: Apertium, text: str, source: str, target: str, expected: str) -> None:
    assert translated(apertium, text, source, target) == expected


@pytest.mark.parametrize("special", SPECIAL)
def test_apertium_hands_special_characters_through(apertium: Apertium, special: str) -> None:
    assert translated(apertium, f"The cat {special} sleeps.").count(special) == 1


def test_apertium_does_not_mark_unknown_words(apertium: Apertium) -> None:
    assert "*" not in translated(apertium, "The foobarqux is red.")


def test_apertium_translates_a_long_text_whole(apertium: Apertium) -> None:
    assert translated(apertium, "The dog eats the bread. " * 210).count("El perro come el pan.") == 210


def test_apertium_answers_in_one_line(apertium: Apertium) -> None:
    assert (
        translated(apertium, "The house is red.\nThe dog eats the bread.") == "La casa es roja. El perro come el pan."
    )


@pytest.mark.parametrize("which", range(11))
def test_apertium_goes_on_after_any_of_its_processes_was_killed(apertium: Apertium, which: int) -> None:
    translated(apertium, "The house is red.")
    pids = apertium.pids()
    os.kill(pids[which % len(pids)], signal.SIGKILL)

    assert translated(apertium, "The house is red.") == "La casa es roja."
