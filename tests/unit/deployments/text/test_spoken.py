"""Numbers and the like as a language says them: the words were written by hand, beside the code's back."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.text.rules import rules_of
from deployments.text.spoken import in_words

TABLES = Path(__file__).parents[3] / "data" / "text"
FRAMES = {
    "es": ("Dijo que eran {}, nada más.", "Según ella, {}; eso fue todo."),
    "en": ("They said it was {}, no more.", "According to her, {}; that was all."),
}


def table(name: str) -> list[tuple[str, str]]:
    lines = (TABLES / name).read_text(encoding="utf-8").splitlines()
    return [(written, said) for written, said in (line.split("\t") for line in lines)]


def sentences() -> list[tuple[str, str, str]]:
    return [
        (language, frame.format(written), frame.format(said))
        for language, frames in FRAMES.items()
        for written, said in table(f"spoken_{language}.tsv")
        for frame in frames
    ]


def test_there_are_two_hundred_sentences_of_each_embedded_language() -> None:
    languages = [language for language, _, _ in sentences()]
    assert min(languages.count(language) for language in FRAMES) >= 200


@pytest.mark.parametrize(("language", "written", "said"), sentences())
def test_what_is_written_is_said_in_words(language: str, written: str, said: str) -> None:
    assert in_words(written, language) == said


@pytest.mark.parametrize(("language", "written", "said"), sentences())
def test_words_stay_as_they_are(language: str, written: str, said: str) -> None:
    assert in_words(said, language) == said


@pytest.mark.parametrize("language", ["xx", "ja", "", "../es"])
def test_a_language_without_rules_is_left_alone(language: str) -> None:
    assert in_words("1,500 $", language) == "1,500 $"


@pytest.mark.parametrize("language", sorted(FRAMES))
@given(text=st.text(st.sampled_from("0123456789.,:;/-+%$€£°'\"xKMkmhp aAbsº()@#½²\u00a0\n"), max_size=60))
def test_no_text_is_too_odd(language: str, text: str) -> None:
    in_words(text, language)


@pytest.mark.parametrize("language", sorted(FRAMES))
@given(value=st.integers(0, 10**15))
def test_every_number_is_words(language: str, value: int) -> None:
    for written in (str(value), f"{value:,}".replace(",", "." if language == "es" else ",")):
        said = in_words(f"x {written}.", language)
        assert not re.search(r"\d", said)


def test_a_text_all_in_capitals_is_no_row_of_acronyms() -> None:
    assert in_words("HOLA MR BBC", "es") == "HOLA MR BBC"
    assert in_words("la BBC dijo", "es") == "la be be ce dijo"


def test_long_digit_rows_are_said_one_by_one() -> None:
    assert in_words("1234567890123456", "en").split()[:3] == ["one", "two", "three"]


def test_rules_are_there_for_the_embedded_languages() -> None:
    for language in FRAMES:
        rules = rules_of(language)
        assert rules is not None
        assert set(rules.currencies) >= {"$", "€", "£", "¥"}
