"""Subtitles: valid files, whatever the results look like."""

import re
from datetime import timedelta
from itertools import pairwise

import srt
from hypothesis import given
from hypothesis import strategies as st

from client.fragment import Failure, FragmentResult
from client.subtitles import Cue, in_order, source_cues, spread, target_cues, to_srt, to_vtt
from serve_app.protocol import FragmentProcessed

LONG = "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, "


def result(transcript: str | None, translation: str | None, segments: list[tuple[int, int, str]] | None = None):
    entries = [{"start_ms": a, "end_ms": b, "text": text, "confidence": 0.9} for a, b, text in segments or []]
    asset = {"asset_id": "t", "parent_asset_ids": [], "language": "en", "segments": entries}
    processed = FragmentProcessed.model_validate(
        {
            "fragment_id": "f",
            "stream_id": "s",
            "sequence_number": 0,
            "status": "success",
            "transcript": transcript,
            "translated_text": translation,
            "processing_time_ms": 1,
            "stage_timings": {},
            "metadata": {"original_duration_ms": 1},
            "assets": {"transcript": asset} if segments is not None else {},
        },
        strict=False,
    )
    return FragmentResult("f", 0, "success", processed, None, 1, 1)


def test_the_source_has_a_cue_for_each_segment() -> None:
    spoken = result("a b", "x y", [(6100, 7000, " Good day. "), (7500, 9000, "How are you?")])

    assert source_cues(spoken, 6000, 6000) == [Cue(6100, 7000, "Good day."), Cue(7500, 9000, "How are you?")]


def test_the_target_runs_over_the_time_of_speech() -> None:
    spoken = result("a b", "Buenos días.", [(6100, 7000, "a"), (7500, 9000, "b")])

    assert target_cues(spoken, 6000, 6000) == [Cue(6100, 9000, "Buenos días.")]


def test_without_segments_the_fragment_is_the_span() -> None:
    assert source_cues(result("a", "b"), 6000, 5000) == [Cue(6000, 11_000, "a")]
    assert target_cues(result("a", "b", []), 6000, 5000) == [Cue(6000, 11_000, "b")]


def test_nothing_said_and_nothing_processed_give_no_cues() -> None:
    refused = FragmentResult("f", 0, "failed", None, Failure("TIMEOUT", "late", retryable=True), 6, 1)
    for silent in (result("", ""), result(None, None), refused):
        assert source_cues(silent, 0, 1000) == []
        assert target_cues(silent, 0, 1000) == []


def test_long_texts_become_cues_of_two_lines_in_proportion() -> None:
    cues = spread(LONG * 2, 0, 10_000)

    assert len(cues) > 2
    assert all(len(line) <= 42 for cue in cues for line in cue.text.split("\n"))
    assert all(cue.text.count("\n") <= 1 for cue in cues)
    assert " ".join(cue.text.replace("\n", " ") for cue in cues) == (LONG * 2).strip()
    assert (cues[0].start_ms, cues[-1].end_ms) == (0, 10_000)
    assert [a.end_ms for a in cues[:-1]] == [b.start_ms for b in cues[1:]]


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=200).filter(str.strip)
cues = st.lists(st.builds(Cue, st.integers(0, 10**7), st.integers(0, 10**7), texts), max_size=8)


@given(cues)
def test_cues_never_overlap_and_always_last(cues: list[Cue]) -> None:
    ordered = in_order(cues)

    assert all(cue.start_ms < cue.end_ms for cue in ordered)
    assert all(a.end_ms <= b.start_ms for a, b in pairwise(ordered))


@given(texts, st.integers(0, 10**7), st.integers(0, 10**5))
def test_srt_can_be_read_back(text: str, start_ms: int, duration_ms: int) -> None:
    made = in_order(spread(text, start_ms, start_ms + duration_ms))

    back = list(srt.parse(to_srt(made)))

    assert [(c.start, c.end) for c in back] == [
        (timedelta(milliseconds=c.start_ms), timedelta(milliseconds=c.end_ms)) for c in made
    ]
    assert [c.content for c in back] == [c.text for c in made]


def test_vtt_is_as_the_format_wants_it() -> None:
    assert to_vtt([Cue(3_723_004, 3_725_000, "a <b> & c\nd --> e")]) == (
        "WEBVTT\n\n01:02:03.004 --> 01:02:05.000\na &lt;b&gt; &amp; c\nd --&gt; e\n"
    )
    assert to_vtt([]).startswith("WEBVTT\n")
    time = r"\d\d:\d\d:\d\d\.\d{3}"
    blocks = to_vtt(spread(LONG, 0, 9000)).split("\n\n")[1:]
    assert all(re.match(rf"{time} --> {time}\n[^\n]+(\n[^\n]+)?\n?$", block) for block in blocks)
