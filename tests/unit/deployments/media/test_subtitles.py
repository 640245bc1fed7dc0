"""Subtitles: cues as people who make them do it, and valid files, whatever is said."""

import re
import xml.etree.ElementTree as ET
from datetime import timedelta
from itertools import pairwise

import pytest
import srt
from hypothesis import given
from hypothesis import strategies as st

from deployments.media.captions import (
    FASTEST_READING_SPEED,
    GAP_MS,
    LEAST_MS,
    LINE_WIDTH,
    Cue,
    TimedWord,
    in_order,
    layout,
    reading_speed,
    timed,
    width,
)
from deployments.media.subtitles import to_srt, to_ttml, to_vtt

LONG = "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, "


def cues_of(text: str, start_ms: int = 0, end_ms: int = 10_000) -> list[Cue]:
    return layout(timed(text, [(start_ms, end_ms)]))


def all_words(cues: list[Cue]) -> list[str]:
    return " ".join(cue.text for cue in cues).split()


words = st.lists(
    st.builds(
        lambda text, pause_ms, length_ms: (text, pause_ms, length_ms),
        st.sampled_from(
            ["no", "the", "and", "time,", "over.", "a", "wisdom", "incomprehensibilities", "de", "«yes!»", "日本"]
        ),
        st.sampled_from([0, 0, 0, 40, 300, 900, 5000]),
        st.integers(0, 900),
    ),
    max_size=60,
)


def spoken(parts: list[tuple[str, int, int]]) -> list[TimedWord]:
    said, at = [], 0
    for text, pause_ms, length_ms in parts:
        said.append(TimedWord(text, at + pause_ms, at + pause_ms + length_ms))
        at += pause_ms + length_ms
    return said


@given(words)
def test_every_word_is_shown_once_in_order_in_two_lines_and_none_overlaps(parts) -> None:
    cues = layout(spoken(parts))

    assert "".join(all_words(cues)) == "".join(text for text, _, _ in parts)
    assert all(cue.start_ms < cue.end_ms for cue in cues)
    assert all(first.end_ms <= second.start_ms for first, second in pairwise(cues))
    for cue in cues:
        lines = cue.text.split("\n")
        assert len(lines) <= 2
        assert all(width(line) <= LINE_WIDTH for line in lines)


@given(words)
def test_a_cue_is_short_or_fast_only_where_the_next_one_follows(parts) -> None:
    cues = layout(spoken(parts))

    for number, cue in enumerate(cues):
        if number + 1 == len(cues) or cues[number + 1].start_ms - cue.end_ms > GAP_MS:
            assert cue.end_ms - cue.start_ms >= LEAST_MS
            assert reading_speed(cue) <= FASTEST_READING_SPEED


def test_speech_at_an_ordinary_rate_can_be_read() -> None:
    cues = cues_of(LONG * 3, 0, len(LONG) * 3 * 1000 // 15)

    assert all(reading_speed(cue) <= FASTEST_READING_SPEED for cue in cues)
    assert all(LEAST_MS <= cue.end_ms - cue.start_ms <= 7000 for cue in cues)


def test_cues_end_with_clauses() -> None:
    cues = cues_of(LONG * 2, 0, 16_000)

    assert all(cue.text.endswith(",") for cue in cues)


def test_a_line_does_not_end_with_a_word_that_leans_on_the_next() -> None:
    [cue] = cues_of("She had been looking at the old house on the other side of the river", 0, 5000)

    first, _ = cue.text.split("\n")
    assert first.split()[-1] not in {"the", "at", "on", "of"}


def test_a_single_word_does_not_flash() -> None:
    said = [
        *timed("Nobody had expected it", [(0, 1500)]),
        TimedWord("so.", 1500, 1630),
        *timed("Then they left.", [(1650, 3000)]),
    ]

    for cue in layout(said):
        assert len(cue.text.split()) > 1
        assert cue.end_ms - cue.start_ms >= LEAST_MS


def test_a_long_pause_parts_cues() -> None:
    said = [*timed("Wait for", [(0, 1000)]), *timed("it to come", [(4000, 5000)])]

    assert [cue.text for cue in layout(said)] == ["Wait for", "it to come"]
    assert layout(said)[1].start_ms == 4000


def test_times_are_those_of_the_words() -> None:
    said = timed("One two three four", [(1000, 2000), (3000, 4000)])

    assert [word.start_ms for word in said] == sorted(word.start_ms for word in said)
    assert said[0].start_ms == 1000
    assert said[-1].end_ms == 4000
    assert not any(2000 < word.start_ms < 3000 for word in said)


def test_wide_characters_take_two_places_and_need_no_spaces() -> None:
    cues = cues_of(
        "それは最良の時代であり、最悪の時代でもあった。知恵の時代であり、愚かさの時代でもあった。" * 2, 0, 20_000
    )

    for cue in cues:
        assert all(width(line) <= LINE_WIDTH and len(line) <= 21 for line in cue.text.split("\n"))
        assert not any(line.startswith(("、", "。")) for line in cue.text.split("\n"))
        assert " " not in cue.text


def test_a_word_longer_than_a_line_is_cut() -> None:
    cues = cues_of("x" * 100)

    assert "".join(all_words(cues)) == "x" * 100


def test_nothing_said_gives_no_cues() -> None:
    assert timed("  ", [(0, 1000)]) == timed("a", []) == layout([]) == []


def test_words_out_of_order_are_ordered() -> None:
    late, early = TimedWord("b", 900, 800), TimedWord("a", 100, 200)

    assert in_order([late, early]) == [early, TimedWord("b", 900, 900)]


# --- files ---------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=200).filter(str.strip)


@given(texts, st.integers(0, 10**7), st.integers(100, 10**5))
def test_srt_can_be_read_back(text: str, start_ms: int, duration_ms: int) -> None:
    cues = cues_of(text, start_ms, start_ms + duration_ms)

    back = list(srt.parse(to_srt(cues, "es")))

    assert [entry.content for entry in back] == [cue.text for cue in cues]
    assert [entry.start for entry in back] == [timedelta(milliseconds=cue.start_ms) for cue in cues]


@given(texts)
def test_vtt_is_well_formed(text: str) -> None:
    blocks = to_vtt(cues_of(text), "es").split("\n\n")

    assert blocks[0] == "WEBVTT\nLanguage: es"
    for block in blocks[1:]:
        times, *lines = block.strip().split("\n")
        assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} --> \d\d:\d\d:\d\d\.\d{3}", times)
        assert lines
        assert not any("<" in line or "-->" in line for line in lines)


@given(st.text(max_size=100))
def test_ttml_can_be_read_back(text: str) -> None:
    cues = [Cue(61_001, 62_500, text.replace("\n", " ")), Cue(63_000, 64_000, "<b> & dos\nlíneas")]

    document = ET.fromstring(to_ttml(cues, "es-MX"))  # noqa: S314 - our own

    assert document.get("{http://www.w3.org/XML/1998/namespace}lang") == "es-MX"
    first, second = document.iter("{http://www.w3.org/ns/ttml}p")
    assert (first.get("begin"), first.get("end")) == ("00:01:01.001", "00:01:02.500")
    [line] = second
    assert (second.text, line.tail) == ("<b> & dos", "líneas")


@pytest.mark.parametrize("write", [to_srt, to_vtt, to_ttml])
def test_a_file_without_cues_is_a_file(write) -> None:
    assert write([], "es") is not None
