"""Where long texts are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.tts.sentences import halves, pieces

TEXT = "Gol del equipo. ¡Qué partido! Sale el portero, para el balón: aplausos."


@pytest.mark.parametrize(
    ("max_chars", "expected"),
    [
        (200, [TEXT]),
        (45, ["Gol del equipo. ¡Qué partido!", "Sale el portero, para el balón: aplausos."]),
        (
            17,
            ["Gol del equipo.", "¡Qué partido!", "Sale el portero,", "para el balón:", "aplausos."],
        ),
        (12, ["Gol del", "equipo.", "¡Qué", "partido!", "Sale el", "portero,", "para el", "balón:", "aplausos."]),
    ],
)
def test_cuts_are_made_where_a_speaker_would_pause(max_chars, expected):
    assert pieces(TEXT, max_chars) == expected


def test_numbers_are_not_cut_at_their_points():
    assert pieces("Son 1.234,5 euros", 12) == ["Son 1.234,5", "euros"]


def test_texts_without_spaces_are_cut_between_sentences_too():
    assert pieces("今日は。明日は！", 4) == ["今日は。", "明日は！"]


@given(st.text(), st.integers(1, 50))
def test_nothing_is_lost_and_nothing_is_too_long(text, max_chars):
    cut = pieces(text, max_chars)
    assert all(0 < len(piece) <= max_chars for piece in cut)
    assert "".join("".join(cut).split()) == "".join(text.split())


@given(st.text(alphabet="ab ,.", min_size=2).filter(lambda text: len(text.strip()) > 1))
def test_halves_are_shorter(text):
    assert all(len(half) < len(text.strip()) for half in halves(text.strip()))


def test_there_must_be_room():
    with pytest.raises(ValueError, match="max_chars"):
        pieces(TEXT, 0)
