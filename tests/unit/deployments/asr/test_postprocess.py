"""What Whisper says it heard is checked, bounded and told in our terms."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from deployments.asr.postprocess import is_doubtful, is_no_speech, repeats_itself, to_segments
from deployments.contracts.values import Segment


def heard(text: str = " Hello there.", start: float = 0.1, end: float = 0.9, **fields: Any) -> SimpleNamespace:
    values = {"avg_logprob": -0.1, "compression_ratio": 1.0, "no_speech_prob": 0.1, "words": None} | fields
    return SimpleNamespace(text=text, start=start, end=end, **values)


def told(*segments: SimpleNamespace) -> list[Segment]:
    return list(to_segments(segments, duration_ms=1000))


def test_segments_are_told_in_milliseconds_with_a_probability() -> None:
    [segment] = told(heard())

    assert (segment.text, segment.start_ms, segment.end_ms) == ("Hello there.", 100, 900)
    assert segment.confidence == pytest.approx(np.exp(-0.1))


def test_times_outside_the_fragment_are_moved_into_it() -> None:
    [first, second] = told(heard(start=-0.2, end=0.6), heard(start=0.5, end=29.98))

    assert (first.start_ms, first.end_ms, second.start_ms, second.end_ms) == (0, 600, 600, 1000)


def test_words_stay_within_their_segment_in_order() -> None:
    words = [
        SimpleNamespace(word=" Hello", start=0.0, end=0.5, probability=np.float64(1.2)),
        SimpleNamespace(word=" there.", start=0.4, end=1.5, probability=0.5),
    ]
    [segment] = told(heard(start=0.1, end=0.9, words=words))

    assert [(word.text, word.start_ms, word.end_ms, word.confidence) for word in segment.words] == [
        ("Hello", 100, 500, 1.0),
        ("there.", 500, 900, 0.5),
    ]


def test_a_speaker_who_repeats_himself_is_heard() -> None:
    assert [segment.text for segment in told(heard(compression_ratio=2.5))] == ["Hello there."]


@pytest.mark.parametrize(
    "hallucination",
    [
        heard(compression_ratio=4.1),
        heard(compression_ratio=2.5, no_speech_prob=0.7),
        heard(text=" . . ."),
        heard(text=" ♪♪"),
    ],
)
def test_hallucinations_are_left_out(hallucination: SimpleNamespace) -> None:
    assert [segment.text for segment in told(heard(), hallucination)] == ["Hello there."]


@pytest.mark.parametrize(
    ("no_speech_probability", "log_probability", "silent"),
    [(0.7, -0.6, True), (0.7, -0.4, False), (0.5, -0.9, False)],
)
def test_words_that_are_sure_count_in_what_seems_no_speech(
    no_speech_probability: float, log_probability: float, silent: bool
) -> None:
    assert is_no_speech(no_speech_probability, log_probability) is silent


@pytest.mark.parametrize(
    ("log_probability", "compression_ratio", "doubtful"), [(-0.9, 2.3, False), (-1.1, 1.0, True), (-0.1, 2.5, True)]
)
def test_guesses_and_loops_are_doubtful(log_probability: float, compression_ratio: float, doubtful: bool) -> None:
    assert is_doubtful(log_probability, compression_ratio) is doubtful


@pytest.mark.parametrize(
    ("segment", "told"),
    [
        (heard(compression_ratio=8.0), True),
        (heard(compression_ratio=2.0), False),
        (heard(compression_ratio=8.0, no_speech_prob=0.9), False),
    ],
)
def test_what_is_left_out_for_its_repetitions_is_told_unless_nobody_spoke(segment: SimpleNamespace, told: bool) -> None:
    assert repeats_itself(segment) is told
