"""Numbers and the like in the target language's own form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.text.written import localised

from .test_spoken import table


@pytest.mark.parametrize(("source", "target"), table("written_en_es.tsv"))
@pytest.mark.parametrize("frame", ["{}", "Dijo {} ayer.", "({})"])
def test_a_translation_gets_the_target_s_form(frame: str, source: str, target: str) -> None:
    assert localised(frame.format(source), "en", "es") == frame.format(target)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("1.500 $", "$1,500"),
        ("1.234,56 €", "€1,234.56"),
        ("12,5 %", "12.5%"),
        ("2.000.000", "2,000,000"),
        ("15:30", "3:30 p.m."),
        ("8:15", "8:15"),
        ("3/5/2024", "5/3/2024"),
        ("3,5 millones $", "$3.5 millones"),
    ],
)
def test_the_other_way_round(source: str, target: str) -> None:
    assert localised(source, "es", "en") == target


@pytest.mark.parametrize("pair", [("en", "en"), ("en", "xx"), ("xx", "es")])
def test_without_rules_for_both_nothing_changes(pair: tuple[str, str]) -> None:
    assert localised("$1,500", *pair) == "$1,500"


@given(text=st.text(st.sampled_from("0123456789.,:/-+%$€°xKMmhp amb\u00a0"), max_size=60))
def test_no_text_is_too_odd(text: str) -> None:
    localised(text, "en", "es")
    localised(text, "es", "en")
