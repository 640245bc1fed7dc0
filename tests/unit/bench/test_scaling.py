"""What was wanted of the figures of scaling."""

import math

import pytest

from bench.scaling import FAST_STREAMS, NEURAL_STREAMS, judged


def figures(fast_p95_ms=1500.0, neural_p95_ms=7000.0, efficiency=0.97, failed=0, late=0):
    saturated = {"efficiency": efficiency}
    fast = {str(FAST_STREAMS): {"p95_ms": fast_p95_ms}}
    neural = {str(NEURAL_STREAMS): {"p95_ms": neural_p95_ms, "failed": failed, "late": late}}
    return {
        "fast": {"streams": fast, "saturated": saturated},
        "neural": {"streams": neural, "saturated": saturated},
    }


def test_all_is_met_where_all_is_good_enough():
    assert all(target.met for target in judged(figures()))


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({"fast_p95_ms": 2000.1}, 1),
        ({"neural_p95_ms": 8000.1}, 1),
        ({"neural_p95_ms": math.nan}, 1),
        ({"failed": 1}, 1),
        ({"late": 1}, 1),
        ({"efficiency": 0.94}, 2),
    ],
)
def test_what_is_not_good_enough_is_missed_and_says_why(change, missed):
    found = [target for target in judged(figures(**change)) if not target.met]
    assert len(found) == missed
    assert all(target.because for target in found)
