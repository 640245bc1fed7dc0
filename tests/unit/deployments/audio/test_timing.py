import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.audio.timing import Fit, FitLimits, judge, plan_fit, variance_percent
from deployments.errors import DurationMismatch, Stage

LIMITS = FitLimits()
durations_ms = st.integers(1, 60_000)


@pytest.mark.parametrize(
    ("spoken_ms", "target_ms", "fit"),
    [
        (6_000, 6_000, Fit(1.0, 6_000, 0)),
        (7_500, 6_000, Fit(1.25, 6_000, 0)),
        (12_000, 6_000, Fit(2.0, 6_000, 0)),
        (15_000, 6_000, Fit(2.0, 7_500, 0)),
        (4_800, 6_000, Fit(0.8, 6_000, 0)),
        (2_000, 6_000, Fit(0.8, 2_500, 3_500)),
        (1, 60_000, Fit(0.8, 1, 59_999)),
    ],
)
def test_a_dub_is_stretched_within_limits_and_padded_below_them(spoken_ms: int, target_ms: int, fit: Fit) -> None:
    assert plan_fit(spoken_ms, target_ms, LIMITS) == fit


def test_the_slowest_stretch_binds_where_natural_speed_is_below_it() -> None:
    limits = FitLimits(min_speed=0.5, natural_speed=0.2)
    assert plan_fit(1_000, 6_000, limits) == Fit(0.5, 2_000, 4_000)


@given(durations_ms, durations_ms)
def test_a_fit_is_never_short_and_long_only_at_the_highest_speed(spoken_ms: int, target_ms: int) -> None:
    fit = plan_fit(spoken_ms, target_ms, LIMITS)
    assert LIMITS.slowest_speed <= fit.speed_ratio <= LIMITS.max_speed
    assert fit.stretched_ms >= 1
    assert fit.padding_ms >= 0
    assert abs(fit.stretched_ms - spoken_ms / fit.speed_ratio) <= 1
    assert fit.fitted_ms >= target_ms
    if fit.fitted_ms > target_ms:
        assert fit.padding_ms == 0
        assert fit.speed_ratio in {LIMITS.max_speed, LIMITS.slowest_speed}


@given(durations_ms, durations_ms)
def test_padding_comes_only_at_the_natural_limit(spoken_ms: int, target_ms: int) -> None:
    fit = plan_fit(spoken_ms, target_ms, LIMITS)
    if fit.padding_ms:
        assert fit.speed_ratio in {LIMITS.slowest_speed, LIMITS.max_speed}
        assert spoken_ms < target_ms * LIMITS.slowest_speed or fit.padding_ms <= 1


@pytest.mark.parametrize(("spoken_ms", "target_ms"), [(0, 1), (1, 0), (-1, 5)])
def test_no_fit_without_durations(spoken_ms: int, target_ms: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        plan_fit(spoken_ms, target_ms, LIMITS)


@pytest.mark.parametrize(
    ("original_ms", "dubbed_ms", "verdict"),
    [
        (6_000, 6_000, "success"),
        (6_000, 6_600, "success"),
        (6_000, 5_400, "success"),
        (6_000, 6_601, "partial"),
        (6_000, 5_399, "partial"),
        (6_000, 7_200, "partial"),
        (6_000, 4_800, "partial"),
    ],
)
def test_ten_percent_is_success_and_twenty_partial(original_ms: int, dubbed_ms: int, verdict: str) -> None:
    assert judge(original_ms, dubbed_ms, LIMITS) == verdict


@pytest.mark.parametrize("dubbed_ms", [7_201, 4_799, 0])
def test_beyond_twenty_percent_is_a_mismatch_that_tells_the_figures(dubbed_ms: int) -> None:
    with pytest.raises(DurationMismatch) as caught:
        judge(6_000, dubbed_ms, LIMITS, speed_ratio=2.0)
    error = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes
    assert error.stage is Stage.TTS
    assert not error.retryable
    assert error.details == {
        "original_duration_ms": 6_000,
        "dubbed_duration_ms": dubbed_ms,
        "actual_variance_percent": round(abs(dubbed_ms - 6_000) / 60, 2),
        "speed_ratio": 2.0,
    }


@given(st.integers(1, 6_000))
def test_both_limits_are_exact_for_every_duration(tens_of_ms: int) -> None:
    original_ms = tens_of_ms * 10
    assert judge(original_ms, original_ms * 11 // 10, LIMITS) == "success"
    assert judge(original_ms, original_ms * 12 // 10, LIMITS) == "partial"
    assert judge(original_ms, original_ms * 11 // 10 + 1, LIMITS, speed_ratio=1) == "partial" or original_ms < 20
    with pytest.raises(DurationMismatch):
        judge(original_ms, original_ms * 12 // 10 + 1, LIMITS)


@given(durations_ms, st.integers(0, 60_000))
def test_variance_is_symmetric_around_the_original(original_ms: int, off_ms: int) -> None:
    longer = variance_percent(original_ms, original_ms + off_ms)
    assert longer >= 0
    assert (longer == 0) == (off_ms == 0)
    if off_ms <= original_ms:
        assert variance_percent(original_ms, original_ms - off_ms) == longer


@pytest.mark.parametrize(("original_ms", "dubbed_ms"), [(0, 5), (-1, 5), (5, -1)])
def test_no_variance_from_nothing(original_ms: int, dubbed_ms: int) -> None:
    with pytest.raises(ValueError, match="variance"):
        variance_percent(original_ms, dubbed_ms)


@pytest.mark.parametrize(
    ("limits", "names"),
    [
        ({"min_speed": 0}, "min_speed"),
        ({"min_speed": 1.1}, "min_speed"),
        ({"max_speed": 0.9}, "max_speed"),
        ({"max_speed": float("inf")}, "max_speed"),
        ({"natural_speed": 0}, "natural_speed"),
        ({"natural_speed": 1.5}, "natural_speed"),
        ({"success_percent": 30}, "success_percent"),
        ({"success_percent": -1}, "success_percent"),
    ],
)
def test_limits_that_make_no_sense_are_refused_by_name(limits: dict[str, float], names: str) -> None:
    with pytest.raises(ValueError, match=names):
        FitLimits(**limits)
