import random

import pytest

from deployments.contracts.values import Outcome
from deployments.errors import GpuOutOfMemory, InvalidAudio, Stage
from serve_app.stream.result_builder import present
from serve_app.stream.statistics import Percentiles, Statistics
from tests.unit.serve_app.stream.recorder import failed, make_fragment, make_outcome, make_settings


def record(statistics: Statistics, outcome: Outcome, processing_ms: int) -> None:
    statistics.record(
        present(make_settings(), make_fragment(0), outcome, ticket=1, start_ms=0, processing_ms=processing_ms)
    )


def test_percentiles_of_every_single_duration_are_right_to_two_percent() -> None:
    for value_ms in (*range(1, 2000), *range(2000, 60_000, 97)):
        percentiles = Percentiles()
        percentiles.add(value_ms)
        assert value_ms <= percentiles.at(0.95) <= 1.02 * value_ms


@pytest.mark.parametrize("seed", range(5))
def test_p95_of_many_is_right_to_two_percent(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - a test's dice, not a secret
    values = [int(dice.lognormvariate(7, 1)) + 1 for _ in range(1000)]
    percentiles = Percentiles()
    for value in values:
        percentiles.add(value)
    exact = sorted(values)[949]
    assert exact <= percentiles.at(0.95) <= 1.02 * exact


def test_no_durations_have_no_percentile() -> None:
    assert Percentiles().at(0.95) == 0


def test_durations_take_bounded_memory() -> None:
    percentiles = Percentiles()
    for value in range(60_000):
        percentiles.add(value)
    assert len(percentiles._buckets) < 600


def test_an_empty_stream_has_zeros() -> None:
    complete = Statistics().complete("stream")
    assert complete.total_fragments == complete.avg_processing_time_ms == complete.total_duration_ms == 0
    assert complete.statistics.p95_processing_time_ms == 0


def test_results_are_counted_by_status_stage_and_code() -> None:
    statistics = Statistics()
    record(statistics, make_outcome(), 100)
    record(statistics, make_outcome(partial=True, duration_ms=5000), 200)
    record(statistics, failed(InvalidAudio), 300)
    record(statistics, failed(GpuOutOfMemory, Stage.TTS), 400)
    complete = statistics.complete("stream").to_wire()
    assert (complete["success_count"], complete["partial_count"], complete["failed_count"]) == (1, 1, 2)
    assert complete["total_fragments"] == 4
    assert complete["avg_processing_time_ms"] == 250
    assert complete["total_duration_ms"] == 6000 + 5000 + 6000 + 6000
    assert complete["error_breakdown"] == {
        "by_stage": {"asr": 1, "tts": 1},
        "by_code": {"INVALID_AUDIO": 1, "GPU_OOM": 1},
    }
    inner = complete["statistics"]
    assert {name: inner[name] for name in inner if name != "p95_processing_time_ms"} == {
        name: complete[name] for name in ("success_count", "partial_count", "failed_count", "avg_processing_time_ms")
    }
    assert 400 <= inner["p95_processing_time_ms"] <= 408
