"""A slope that noise, outliers and steps don't pull."""

import numpy as np
import pytest

from bench.slope import slope

TIMES_S = [10.0 * number for number in range(60)]
NOISE = np.random.default_rng(3).normal(0, 1, len(TIMES_S))


def test_a_straight_line_has_its_slope_and_nothing_beside_it():
    found = slope(TIMES_S, [100 + time_s / 3600 * 36 for time_s in TIMES_S])
    assert (found.per_hour, found.low, found.high) == pytest.approx((36, 36, 36))


@pytest.mark.parametrize("per_hour", [0, 120, -120])
def test_the_interval_holds_the_slope_that_noise_hides(per_hour):
    found = slope(TIMES_S, [time_s / 3600 * per_hour + noise for time_s, noise in zip(TIMES_S, NOISE, strict=True)])
    assert found.low < per_hour < found.high
    assert found.low < found.per_hour < found.high


def test_a_slope_above_the_noise_is_told_from_none():
    found = slope(TIMES_S, [time_s / 3600 * 120 + noise for time_s, noise in zip(TIMES_S, NOISE, strict=True)])
    assert found.low > 0


def test_peaks_do_not_pull_it():
    values = [0.0] * len(TIMES_S)
    values[30] = values[-1] = 1e6
    assert slope(TIMES_S, values).per_hour == 0


def test_a_wider_confidence_gives_a_wider_interval():
    narrow, wide = (slope(TIMES_S, NOISE, confidence) for confidence in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_three_points_are_no_trend():
    assert slope([0, 1, 2], [0, 1, 2]) is None
