"""When a run of the autoscaling counts as passed."""

import pytest

from bench.autoscaling import MODELS, Sample, missed, phases

SECONDS = 100.0


def figures(**result: object) -> dict:
    """A run in which replicas followed the load."""
    samples = [
        Sample(float(at_s), 8 if 25 <= at_s < 65 else 1, 2, dict.fromkeys(MODELS, 4 if 30 <= at_s < 90 else 1))
        for at_s in range(100)
    ]
    counts = {"sent": 90, "good": 90, "lost": 0, "duplicated": 0, "reordered": 0, "broken": []}
    latencies = [(float(at_s), 1500.0) for at_s in range(100)]
    return {"result": counts | result, "phases": phases(samples, latencies, SECONDS)}


def test_replicas_that_follow_and_fragments_that_all_arrive_miss_nothing():
    assert missed(figures(), []) == []


def test_each_phase_tells_the_most_that_was_there():
    told = figures()["phases"]

    assert [told[name]["replicas"]["Tts"] for name in ("calm", "height", "end")] == [1, 4, 1]
    assert told["height"] == {
        "streams": 8,
        "replicas": dict.fromkeys(MODELS, 4),
        "in_flight": 2,
        "p50_ms": 1500,
        "p95_ms": 1500,
    }


@pytest.mark.parametrize("loss", [{"lost": 1}, {"duplicated": 1}, {"reordered": 1}, {"good": 89}, {"broken": ["s: x"]}])
def test_one_fragment_that_went_wrong_is_a_miss(loss):
    assert missed(figures(**loss), [])


def test_a_broken_promise_is_a_miss():
    assert missed(figures(), ["order: 3 after 4"]) == ["1 violations: order: 3 after 4"]


@pytest.mark.parametrize(
    ("phase", "change"),
    [
        ("height", {"p95_ms": 60_000}),
        ("height", {"replicas": {"Asr": 1, "Translation": 1, "Tts": 1}}),
        ("end", {"replicas": {"Asr": 1, "Translation": 1, "Tts": 4}}),
    ],
)
def test_replicas_that_do_not_come_do_not_help_or_do_not_leave_are_a_miss(phase, change):
    found = figures()
    found["phases"][phase] |= change

    assert missed(found, [])
