"""What is let in meets its deadline, whatever is sent; judged on a queue in virtual time."""

import heapq
import itertools
from dataclasses import dataclass, field

import pytest

from serve_app.stream.admission import FLOOR, SAMPLE, START, Admission, StreamAdmission

TIMEOUT_S = 8.0
CRITICAL = 10
LEARNING_S = 30.0
"""From the first moment of an overload until the door has learnt; what happens in it is not counted."""


@dataclass
class Open:
    """A door that lets everything in."""

    limit: float = 1e9

    def load(self, streams: int, in_flight: int) -> None: ...

    def admits(self, own: int) -> bool:
        return True

    def finished(self, accepted_at: float, deadline: float, now: float) -> None: ...


@dataclass
class Outcome:
    """By stream: fragments sent, done in time, too late, and refused."""

    sent: dict[int, int] = field(default_factory=dict)
    good: dict[int, int] = field(default_factory=dict)
    late: dict[int, int] = field(default_factory=dict)
    refused: dict[int, int] = field(default_factory=dict)

    @property
    def goodput(self) -> int:
        return sum(self.good.values())


def run(admission: Admission | Open, periods_s: list[float], *, servers: int, service_s: float, until_s: float = 300.0):
    """Streams that send every so often, whatever comes back, to servers that take the oldest first."""
    outcome, order = Outcome(), itertools.count()
    events: list[tuple[float, int, str, int, float]] = []
    for stream, period_s in enumerate(periods_s):
        heapq.heappush(events, (period_s * stream / len(periods_s), next(order), "send", stream, 0.0))
    waiting: list[tuple[int, float]] = []
    busy, own = 0, [0] * len(periods_s)

    def leave(stream: int, accepted_s: float, now_s: float, *, good: bool) -> None:
        own[stream] -= 1
        if accepted_s >= LEARNING_S:
            counted = outcome.good if good else outcome.late
            counted[stream] = counted.get(stream, 0) + 1
        admission.finished(accepted_s, accepted_s + TIMEOUT_S, now_s)
        admission.load(len(periods_s), sum(own))

    while events and events[0][0] < until_s:
        now_s, _, what, stream, accepted_s = heapq.heappop(events)
        if what == "send":
            heapq.heappush(events, (now_s + periods_s[stream], next(order), "send", stream, 0.0))
            counted_now = now_s >= LEARNING_S
            outcome.sent[stream] = outcome.sent.get(stream, 0) + counted_now
            if own[stream] >= CRITICAL or not admission.admits(own[stream]):
                outcome.refused[stream] = outcome.refused.get(stream, 0) + counted_now
                continue
            own[stream] += 1
            admission.load(len(periods_s), sum(own))
            waiting.append((stream, now_s))
        else:
            busy -= 1
            leave(stream, accepted_s, now_s, good=now_s - accepted_s <= TIMEOUT_S)
        while waiting and busy < servers:
            stream, accepted_s = waiting.pop(0)
            if now_s - accepted_s >= TIMEOUT_S:
                leave(stream, accepted_s, now_s, good=False)
                continue
            busy += 1
            heapq.heappush(events, (now_s + service_s, next(order), "done", stream, accepted_s))
    return outcome


def streams(load: float, *, capacity: float, count: int = 20) -> list[float]:
    return [count / (load * capacity)] * count


@pytest.mark.parametrize(("servers", "service_s"), [(1, 0.2), (4, 0.8), (8, 3.0)])
@pytest.mark.parametrize("load", [1.5, 3.0, 6.0])
def test_overload_leaves_goodput_near_its_peak_and_accepted_fragments_in_time(load, servers, service_s):
    capacity = servers / service_s
    peak = run(Admission(), streams(0.95, capacity=capacity), servers=servers, service_s=service_s).goodput
    shed = run(Admission(), streams(load, capacity=capacity), servers=servers, service_s=service_s)
    assert shed.goodput >= 0.9 * peak
    assert sum(shed.late.values()) <= 0.01 * shed.goodput


def test_without_the_door_the_same_load_wastes_the_models_time():
    free = run(Open(), streams(3.0, capacity=5.0), servers=4, service_s=0.8)
    assert sum(free.late.values()) > 0.3 * free.goodput


def test_below_capacity_nothing_is_refused():
    outcome = run(Admission(), streams(0.8, capacity=5.0), servers=4, service_s=0.8)
    assert not any(outcome.refused.values())
    assert not outcome.late


def test_a_hog_is_refused_before_its_neighbours():
    """Five streams at their pace, one that sends twenty times as much."""
    outcome = run(Admission(), [2.0] * 5 + [0.1], servers=4, service_s=0.8)
    neighbours = range(5)
    assert outcome.refused[5] > 0.5 * outcome.sent[5]
    assert sum(outcome.refused.get(stream, 0) for stream in neighbours) <= 0.02 * sum(
        outcome.sent[stream] for stream in neighbours
    )


def test_the_door_opens_again_when_the_load_has_gone():
    admission = Admission()
    run(admission, streams(4.0, capacity=5.0), servers=4, service_s=0.8)
    closed = admission.limit
    assert closed < START / 10
    for step in range(2_000):
        admission.load(20, int(admission.limit))
        admission.finished(300.0 + step, 308.0 + step, 300.5 + step)
    assert admission.limit > closed * 10


def test_a_few_streams_whose_fragments_hang_close_it_for_nobody():
    admission = Admission()
    for step in range(500):
        admission.load(10, 10)
        admission.finished(float(step), step + 8.0, step + (8.0 if step % 3 == 0 else 2.0))
    assert admission.limit == START


def test_at_the_limit_a_stream_below_its_share_is_let_in():
    admission = Admission()
    admission.limit = 8
    admission.load(4, 8)
    assert admission.admits(0)
    assert admission.admits(1)
    assert not admission.admits(2)


def test_it_never_closes_altogether():
    admission = Admission()
    for step in range(2_000):
        admission.load(50, 100)
        admission.finished(10.0 * step, 10.0 * step + 8, 10.0 * step + 8)
    assert admission.limit == FLOOR
    assert admission.admits(0)


def test_results_from_before_a_change_say_nothing_about_it():
    admission = Admission()
    admission.load(1, 100)
    for step in range(2 * SAMPLE):
        admission.finished(1.0, 9.0, 9.0 + step)
    first = admission.limit
    for step in range(10 * SAMPLE):
        admission.finished(8.0, 16.0, 16.0 + step)
    assert admission.limit == first < START


def test_a_stream_whose_own_results_are_late_is_refused_and_its_neighbours_are_not():
    shared = Admission()
    hog, calm = StreamAdmission(shared), StreamAdmission(shared)
    for step in range(4 * SAMPLE):
        shared.load(2, 11)
        hog.admits(10)
        hog.finished(10.0 * step, 10.0 * step + 8, 10.0 * step + 7.5)
        for part in (1, 2, 3):
            calm.finished(10.0 * step + part, 10.0 * step + part + 8, 10.0 * step + part + 1)
    assert shared.limit == START
    assert not hog.admits(10)
    assert hog.admits(0)
    assert calm.admits(10)


def test_a_stream_in_time_is_refused_at_the_door_of_all():
    shared = Admission()
    shared.limit = 8
    shared.load(4, 8)
    door = StreamAdmission(shared)
    assert door.admits(1)
    assert not door.admits(2)


def test_the_door_of_all_hears_of_every_stream():
    shared = Admission()
    shared.load(2, 100)
    doors = [StreamAdmission(shared) for _ in range(SAMPLE)]
    for second in range(2):
        for step, door in enumerate(doors):
            door.finished(0.0, 8.0, 8.0 + second + step / 100)
    assert shared.limit < START
    assert all(door.limit == START for door in doors)
