"""Patterns of names: two signs mean something, all others themselves."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.patterns import matches


@pytest.mark.parametrize(
    ("pattern", "name", "matching"),
    [
        ("cam[1]", "cam[1]", True),
        ("cam[1]", "cam1", False),
        ("cam[!1]", "cam2", False),
        ("[*]", "[x]", True),
        ("a.c", "abc", False),
        ("a\\*", "a\\b", True),
        ("a|b", "a", False),
        ("radio-*", "radio-", True),
        ("radio-*", "radio-1\n2", True),
        ("radio-?", "radio-\n", True),
        ("radio", "radio\n", False),
        ("radio*", "Radio", False),
        ("*", "", True),
        ("", "", True),
        ("", "a", False),
        ("?", "", False),
        ("a**b", "ab", True),
        ("*ab*ab", "ab", False),
        ("*ab*ab", "abab", True),
    ],
)
def test_only_star_and_question_mark_mean_more_than_themselves(pattern, name, matching):
    """All else stands for itself, lines' ends and the signs of other pattern languages too."""
    assert matches(name, pattern) is matching


@given(st.text("ab*?", max_size=8), st.text("ab\n", max_size=8))
def test_a_pattern_means_the_same_as_the_plain_expression(pattern, name):
    """What makes it quick changes nothing about what it says."""
    plain = "".join({"*": ".*", "?": "."}.get(sign, sign) for sign in pattern)
    assert matches(name, pattern) is (re.fullmatch(plain, name, re.DOTALL) is not None)


@pytest.mark.parametrize("pattern", ["*a" * 120 + "*b", "*?a" * 80 + "*b", "*" * 8000])
@pytest.mark.parametrize("ending", ["", "c"])
def test_many_stars_take_no_longer_than_the_text_is_long(pattern, ending):
    """A token's holder can't keep the event loop busy."""
    started_s = time.process_time()
    matches("a" * 256 + ending, pattern)
    assert time.process_time() - started_s < 1  # a matcher that tries all ways needs ages
