"""Bounds on time follow the machine's speed, in one direction."""

import pytest

from tests.support import speed


@pytest.fixture
def taking(monkeypatch):
    def rounds(*taken_s):
        left = list(taken_s)
        monkeypatch.setattr(speed, "_round_s", lambda: left.pop(0))
        speed.slowness.cache_clear()

    yield rounds
    speed.slowness.cache_clear()


def test_a_machine_of_half_the_speed_has_twice_the_time(taking):
    taking(2 * speed.REFERENCE_S, 9.0, 1.9 * speed.REFERENCE_S)
    assert speed.slowness() == pytest.approx(2.0)
    assert speed.seconds(30) == pytest.approx(60.0)


def test_a_faster_machine_has_no_less_strict_bounds_and_no_stricter_ones(taking):
    taking(*[0.1 * speed.REFERENCE_S] * 3)
    assert speed.seconds(30) == 30.0


def test_work_is_timed_as_it_is():
    assert speed._round_s() > 0
