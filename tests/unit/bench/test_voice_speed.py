"""What is made of the figures of the voice's speed; nothing is spoken here."""

import pytest

from bench.voice_speed import Loaded, Measured, Spell, Way, judged


def measured(*cpu_s):
    return Measured(Loaded(1.0, 500), [Spell(speech_s=2.0, cpu_s=one, wall_s=1.0) for one in cpu_s], 400)


@pytest.mark.parametrize(("shipped_s", "met"), [(1.2, True), (1.4, False)])
def test_the_speed_up_is_that_of_the_medians_on_one_thread(shipped_s, met):
    ways = {
        Way(False, 1): measured(1.9, 2.0, 9.0),
        Way(False, 2): measured(100.0),
        Way(True, 1): measured(shipped_s),
        Way(True, 2): measured(0.1),
    }
    (target,) = judged(ways, {})
    assert target.found == pytest.approx(2.0 / shipped_s, abs=0.01)
    assert target.met is met


@pytest.mark.parametrize(("rewritten", "met"), [(5.0, True), (3.0, True), (6.5, False)])
def test_more_misheard_words_than_before_miss_the_target(rewritten, met):
    ways = {Way(False, 1): measured(2.0), Way(True, 1): measured(1.0)}
    _, words = judged(ways, {"packaged": 4.0, "rewritten": rewritten})
    assert words.met is met


def test_figures_are_for_a_second_of_speech():
    figures = measured(2.0, 3.0, 4.0).figures()
    assert figures["cpu_s_a_second"]["median"] == 1.5
    assert figures["real_time_factor"]["median"] == 0.5
    assert figures["memory_mib"] == 400
