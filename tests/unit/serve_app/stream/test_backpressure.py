import pytest

from serve_app.stream.backpressure import InFlight
from serve_app.stream.values import StreamLimits
from tests.unit.serve_app.stream.recorder import Recorder, make_settings


def climb(max_inflight: int, critical: int = 10) -> list[tuple[int, str]]:
    """(count, level) wherever the worker is told, up to the critical limit."""
    gauge = InFlight(max_inflight, critical)
    told = []
    while not gauge.full:
        level = gauge.enter()
        if level is not None:
            told.append((gauge.count, level.value))
    return told


def descend(max_inflight: int, critical: int = 10) -> list[tuple[int, str]]:
    gauge = InFlight(max_inflight, critical)
    while not gauge.full:
        gauge.enter()
    told = []
    while gauge.count:
        level = gauge.leave()
        if level is not None:
            told.append((gauge.count, level.value))
    return told


@pytest.mark.parametrize(
    ("max_inflight", "told"),
    [
        (1, [(1, "low"), (2, "medium"), (3, "high")]),
        (3, [(1, "low"), (4, "medium"), (7, "high")]),
        (5, [(1, "low"), (6, "medium")]),
        (10, [(1, "low")]),
    ],
)
def test_going_up_takes_a_count_above_the_mark(max_inflight: int, told: list[tuple[int, str]]) -> None:
    assert climb(max_inflight) == told


@pytest.mark.parametrize(
    ("max_inflight", "told"),
    [
        (1, [(1, "medium"), (0, "low")]),
        (3, [(5, "medium"), (2, "low")]),
        (5, [(4, "low")]),
        (10, []),
    ],
)
def test_going_down_takes_a_count_below_the_mark(max_inflight: int, told: list[tuple[int, str]]) -> None:
    assert descend(max_inflight) == told


def test_the_medium_mark_ends_at_the_critical_limit() -> None:
    assert climb(3, critical=5) == [(1, "low"), (4, "medium")]
    assert climb(5, critical=4) == [(1, "low")]


def test_the_level_doesnt_flap_around_a_mark() -> None:
    gauge = InFlight(3, 10)
    for _ in range(4):
        gauge.enter()
    assert [gauge.leave(), gauge.enter(), gauge.leave(), gauge.enter()] == [None] * 4


@pytest.mark.parametrize(
    ("count", "level"), [(1, "low"), (3, "low"), (4, "medium"), (6, "medium"), (7, "high"), (10, "high")]
)
def test_the_table_of_the_protocol(count: int, level: str) -> None:
    recorder = Recorder()
    for number in range(count):
        step = recorder.send(number)
        assert step.acks
    assert step.level == level


def test_the_eleventh_is_rejected_and_the_stream_goes_on() -> None:
    recorder = Recorder()
    for number in range(10):
        recorder.send(number)
    step = recorder.send(10)
    [error] = step.errors
    assert (error.code, error.retryable, error.severity) == ("BACKPRESSURE_EXCEEDED", True, "error")
    assert (error.fragment_id, error.sequence_number) == ("f10", 10)
    assert step.in_flight == 10
    assert not step.acks
    for number in range(10):
        recorder.complete(f"f{number}")
    recorder.send(11)
    assert recorder.complete("f11").numbers == [11]


def test_events_tell_levels_actions_and_advice() -> None:
    recorder = Recorder()
    for number in range(7):
        recorder.send(number)
    for number in range(7):
        recorder.complete(f"f{number}")
    events = [event.to_wire() for step in recorder.steps for event in step.pressure]
    seen = [
        (e["severity"], e["action"], e["threshold_exceeded"], e["current_inflight"], e["recommended_delay_ms"])
        for e in events
    ]
    assert seen == [
        ("low", "none", None, 1, 0),
        ("medium", "slow_down", "medium", 4, 3000),
        ("high", "pause", "high", 7, 6000),
        ("medium", "slow_down", "medium", 5, 3000),
        ("low", "none", None, 2, 0),
    ]
    assert all(event["max_inflight"] == 3 and event["stream_id"] == "stream" for event in events)


def test_queue_depth_leaves_out_what_only_waits_for_its_turn() -> None:
    recorder = Recorder(make_settings(max_inflight=1))
    recorder.send(0)
    recorder.send(1)
    recorder.complete("f1")
    [event] = recorder.send(2).pressure
    assert (event.current_inflight, event.queue_depth) == (3, 2)


def test_a_new_critical_limit_counts_at_once() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.session.limit(StreamLimits(critical_inflight=1))
    assert recorder.send(1).codes == ["BACKPRESSURE_EXCEEDED"]
    recorder.session.limit(StreamLimits(critical_inflight=2))
    assert recorder.send(1).acks
