"""The numbers that a dub is judged by."""

import numpy as np
import pytest

from bench.scores import (
    Dubbed,
    border_step,
    error_rate,
    error_rate_difference,
    isochrony,
    plain,
    translation,
    wer,
    word_errors,
)
from deployments.contracts.values import Span


def dubbed(original, dub, speed=1.0, dub_ms=6000):
    return Dubbed(tuple(Span(*pair) for pair in original), tuple(Span(*pair) for pair in dub), 6000, dub_ms, speed)


def test_writing_makes_no_word_error():
    assert plain("  Mr. Dashwood, said: «No» — ill-disposed! ") == "mister dashwood said no ill disposed"
    assert wer(["Mister Dashwood said no."], ["mr. dashwood said — No"]) == 0


def test_a_word_error_counts_over_all_clips_together():
    assert wer(["a b c", "d"], ["a b x", "d"]) == pytest.approx(25)


def test_a_perfect_translation_scores_full_marks_and_another_less():
    text = "era el mejor de los tiempos"
    assert translation([text], [text])["chrf"] == 100
    assert translation([text], ["era el peor de los tiempos"])["chrf"] < 100


def test_overlap_is_what_both_say_over_what_either_says():
    found = isochrony([dubbed([(0, 1000), (2000, 3000)], [(500, 1500), (2000, 3000)])])
    assert found["overlap_percent"] == 60
    assert (found["covered_percent"], found["inside_percent"]) == (75, 75)


def test_fragments_weigh_by_their_speech():
    found = isochrony([dubbed([(0, 3000)], [(0, 3000)]), dubbed([(0, 1000)], [(1000, 2000)])])
    assert found["overlap_percent"] == 60


@pytest.mark.parametrize(("speed", "share"), [(0.79, 100), (0.8, 0), (1.25, 0), (1.254, 0), (1.26, 100)])
def test_rates_outside_the_natural_range_are_counted(speed, share):
    assert isochrony([dubbed([(0, 1)], [(0, 1)], speed)])["unnatural_percent"] == share


def test_variance_is_of_the_whole_length():
    assert isochrony([dubbed([(0, 1)], [(0, 1)], dub_ms=6300)])["variance_p95_percent"] == 5


def test_silence_on_both_sides_overlaps_nothing():
    assert isochrony([dubbed([], [])])["overlap_percent"] == 0


def test_a_click_between_pieces_stands_out_from_the_steps_inside_them():
    wave = (0.1 * np.sin(np.arange(1600) * 0.05)).astype(np.float32)
    assert border_step([wave - wave[0], (wave + 0.5).astype(np.float32)], 16_000) > 10
    faded = wave * np.hanning(1600).astype(np.float32)
    assert border_step([faded, faded], 16_000) < 1


def test_one_piece_has_no_border():
    assert border_step([np.ones(100, dtype=np.float32)], 16_000) == 0


def test_mistakes_are_counted_by_fragment():
    assert word_errors("Uno, dos tres.", "uno dos tres") == (0, 3)
    assert word_errors("uno dos tres", "uno tres cuatro") == (2, 3)
    assert word_errors("uno dos", "") == (2, 2)
    assert word_errors("…", "uno") == (1, 0)


def test_an_error_rate_comes_with_what_chance_makes_of_it():
    even = error_rate([(1, 10)] * 20)
    assert (even["n"], even["median"], even["low"], even["high"]) == (200, 10, 10, 10)
    uneven = error_rate([(0, 10)] * 19 + [(10, 10)])
    assert uneven["low"] == 0 < uneven["median"] < uneven["high"]


def test_differences_are_drawn_in_pairs():
    one, other = [(3, 10), (1, 10), (0, 10)] * 10, [(2, 10), (0, 10), (0, 10)] * 10
    found = error_rate_difference(one, one)
    assert (found["median"], found["low"], found["high"]) == (0, 0, 0)
    more = error_rate_difference(one, other)
    assert 0 < more["low"] <= more["median"] <= more["high"] <= 10
