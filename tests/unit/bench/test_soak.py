"""What a soak's watch makes of what it saw, and which series it takes for a client's."""

import pytest

from bench.soak import EVERYTHING, MIB, Watch
from tests.support.series import series, strangers

SCRAPE = """# TYPE sts_fragment_errors_total counter
sts_fragment_errors_total{stage="asr",error_code="TIMEOUT"} 2.0
# TYPE sts_asr_duration_seconds histogram
sts_asr_duration_seconds_bucket{le="0.5"} 1.0
sts_asr_duration_seconds_bucket{le="+Inf"} 1.0
"""


def test_labels_from_closed_sets_are_no_strangers():
    found = series(SCRAPE)
    assert len(found) == 3
    assert strangers(found) == []


@pytest.mark.parametrize("label", ['stream="radio"', 'error_code="radio"', 'stage=""'])
def test_a_label_that_a_client_could_choose_is_a_stranger(label):
    found = series(f"{SCRAPE}# TYPE sts_x gauge\nsts_x{{{label}}} 1.0\n")
    assert [name for name, _ in strangers(found)] == ["sts_x"]


def test_what_grows_is_told_with_its_slope_and_what_came_before_it_was_warm_is_left_out():
    watch = Watch(server=None)
    for number in range(100):
        ingress = 10_000 if number < 10 else 100 + number
        watch.memory.append((36.0 * number, {"Ingress": ingress * MIB, EVERYTHING: ingress * MIB}))
    row = watch.rows(warm_s=360.0)["Ingress"]
    assert row == {"start": 112.5, "end": 196.5, "peak": 199.0, "per_hour": 100.0, "low": 100.0, "high": 100.0}


def test_a_process_that_came_once_has_no_slope():
    watch = Watch(server=None, memory=[(1.0, {"Asr": MIB})])
    assert watch.rows(warm_s=0.0)["Asr"]["per_hour"] is None
