"""What is made of the figures of the voice's speed; nothing is spoken here."""

import pytest

from bench.speakers import Loaded, Spell, Way
from bench.voice_speed import Measured, flags, judged


def measured(*cpu_s):
    return Measured(Loaded(1.0, 500), [Spell(speech_s=2.0, cpu_s=one, wall_s=1.0) for one in cpu_s], 400)


@pytest.mark.parametrize(("shipped_s", "met"), [(1.2, True), (1.4, False)])
def test_the_speed_up_is_that_of_the_medians_on_one_thread(shipped_s, met):
    ways = {
        Way("packaged", 1): measured(1.9, 2.0, 9.0),
        Way("packaged", 2): measured(100.0),
        Way("rewritten", 1): measured(shipped_s),
        Way("rewritten", 2): measured(0.1),
    }
    (target,) = judged(ways, {})
    assert target.found == pytest.approx(2.0 / shipped_s, abs=0.01)
    assert target.met is met


@pytest.mark.parametrize(("rewritten", "met"), [(5.0, True), (3.0, True), (6.5, False)])
def test_more_misheard_words_than_before_miss_the_target(rewritten, met):
    ways = {Way("packaged", 1): measured(2.0), Way("rewritten", 1): measured(1.0)}
    _, words = judged(ways, {"packaged": 4.0, "rewritten": rewritten})
    assert words.met is met


def test_figures_are_for_a_second_of_speech():
    figures = measured(2.0, 3.0, 4.0).figures()
    assert figures["cpu_s_a_second"]["median"] == 1.5
    assert figures["real_time_factor"]["median"] == 0.5
    assert figures["memory_mib"] == 400


@pytest.mark.parametrize(("float_s", "found"), [(1.2, 1.2), (0.9, 0.9)])
def test_without_vnni_what_ships_has_to_be_the_fastest_of_all_forms(float_s, found):
    ways = {
        Way("packaged", 1): measured(2.6),
        Way("rewritten", 1): measured(2.0),
        Way("rewritten", 1, at_once=2): measured(0.1),
        Way("float32", 1): measured(2.0 * float_s),
    }
    (target,) = judged(ways, {}, exact=False)
    assert target.found == pytest.approx(found)
    assert target.met is (float_s >= 1)


def test_the_flags_of_a_cpu_are_told_as_far_as_they_matter(tmp_path):
    (tmp_path / "cpuinfo").write_text("flags : fpu avx2 avx512f sse4_2\n")
    assert flags(tmp_path / "cpuinfo") == "avx2, avx512f"
    assert flags(tmp_path / "none") == "not known"
