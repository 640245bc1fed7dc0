"""The estimate of a text's duration, and how a voice corrects it."""

import pytest

from deployments.contracts.engines import Line
from deployments.contracts.values import FragmentRef, Voice
from deployments.tts.speech_rate import SpeechRate, estimate_s, wanted_rate

SENTENCE = "el βalˈon ʎˈeɣa al ˈaɾea, i el poɾtˈeɾo lo ðetjˈene sin pɾoβlˈemas."


def test_a_sentence_is_estimated_near_what_was_measured():
    assert estimate_s(SENTENCE) == pytest.approx(4.29, rel=0.2)


def test_more_sounds_and_pauses_take_longer():
    assert estimate_s("ola ola") > estimate_s("ola")
    assert estimate_s("ola, ola") > estimate_s("ola ola")
    assert estimate_s("ˈola ˈola") == estimate_s("ola ola")


def test_no_sounds_take_more_than_no_time():
    assert estimate_s("") > 0


def test_a_voice_is_taken_as_average_until_it_was_heard():
    assert SpeechRate().natural_s(SENTENCE) == estimate_s(SENTENCE)


@pytest.mark.parametrize("rate", [0.8, 1.0, 1.4])
def test_a_slow_voice_is_learned_whatever_rate_it_was_asked_for(rate):
    pace = SpeechRate()
    truth_s = 1.3 * estimate_s(SENTENCE)
    for _ in range(10):
        pace.learn(SENTENCE, truth_s / rate, rate)
    assert pace.natural_s(SENTENCE) == pytest.approx(truth_s, rel=0.02)


def test_one_outlier_moves_the_pace_a_little():
    pace = SpeechRate()
    pace.learn(SENTENCE, 100 * estimate_s(SENTENCE), 1.0)
    assert pace.natural_s(SENTENCE) < 1.5 * estimate_s(SENTENCE)


@pytest.mark.parametrize(
    ("natural_ms", "speech_ms", "rate"),
    [
        (2000, 4000, 0.44),
        (4000, 4000, 0.88),
        (5000, 4000, 1.1),
        (5700, 4000, 1.25),
        (7500, 4000, 1.25),
        (9000, 4000, 1.5),
        (9000, None, 1.5),
        (3000, None, 0.5),
    ],
)
def test_a_text_fills_the_speech_then_the_pauses_and_only_then_hurries(natural_ms, speech_ms, rate):
    line = Line(FragmentRef("s", "f", 0), "", Voice("v", "m", "es"), 6000, speech_ms=speech_ms)
    assert wanted_rate(natural_ms, line) == pytest.approx(rate, abs=0.005)


@pytest.mark.parametrize(("room_ms", "rate"), [(None, 1.5), (7200, 1.25), (6400, 9000 / 6400), (5000, 1.8)])
def test_time_beyond_the_original_is_taken_before_it_hurries(room_ms, rate):
    line = Line(FragmentRef("s", "f", 0), "", Voice("v", "m", "es"), 6000, speech_ms=4000, room_ms=room_ms)
    assert wanted_rate(9000, line) == rate
