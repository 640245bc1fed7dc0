"""Whatever a worker and the pipeline do, the session keeps the promises that the checker knows."""

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from deployments.errors import GpuOutOfMemory, InvalidAudio, ModelFailed
from serve_app.protocol import ErrorCode
from serve_app.stream.values import StreamLimits
from tests.unit.serve_app.stream.checker import Checker
from tests.unit.serve_app.stream.recorder import Recorder, failed, make_outcome, make_settings

DOOR = [ErrorCode.RATE_LIMITED, ErrorCode.FRAGMENT_TOO_LARGE, ErrorCode.MALFORMED_DATA, ErrorCode.STREAM_PAUSED]
FAILURES = {"model": failed(ModelFailed), "audio": failed(InvalidAudio)}


class SessionMachine(RuleBasedStateMachine):
    """One stream from `stream:init` to its end; the checker judges every step."""

    @initialize(
        max_inflight=st.sampled_from([1, 2, 3, 5]),
        critical=st.sampled_from([2, 4, 10]),
        first=st.sampled_from([0, 7]),
        kept=st.sampled_from([2, 64]),
        slack_ms=st.sampled_from([0, 250, 900]),
    )
    def open(self, max_inflight: int, critical: int, first: int, kept: int, slack_ms: int) -> None:
        stream = make_settings(max_inflight=max_inflight, first_sequence_number=first, timeout_ms=2000)
        limits = StreamLimits(critical_inflight=critical, kept_results=kept, kept_bytes=100, release_slack_ms=slack_ms)
        self.checker = Checker(stream, limits)
        self.recorder = Recorder(stream, limits, observe=self.checker)
        self.ahead = first
        self.names = 0
        self.sent: list[str] = []

    def fresh(self) -> str:
        self.names += 1
        self.sent.append(f"id{self.names}")
        return self.sent[-1]

    @property
    def tickets(self) -> list[int]:
        return [ticket for tickets in self.recorder.tickets.values() for ticket in tickets]

    @rule()
    def send_next(self) -> None:
        self.recorder.send(self.ahead, self.fresh())
        self.ahead += 1

    @rule(distance=st.integers(1, 4))
    def leave_numbers_out(self, distance: int) -> None:
        self.ahead += distance

    @rule(back=st.integers(-3, 6))
    def send_out_of_order(self, back: int) -> None:
        self.recorder.send(max(0, self.ahead - back), self.fresh())

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), back=st.integers(-2, 5))
    def resend(self, data: st.DataObject, back: int) -> None:
        """In flight, finished, failed, rejected or forgotten; under any number."""
        self.recorder.send(max(0, self.ahead - back), data.draw(st.sampled_from(self.sent)))

    @precondition(lambda self: self.recorder.steps)
    @rule(data=st.data())
    def resend_as_it_was(self, data: st.DataObject) -> None:
        sent = [step.given for step in self.recorder.steps if step.call == "accept"]
        if sent:
            again = data.draw(st.sampled_from(sent))
            self.recorder.send(again.sequence_number, again.fragment_id)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def reuse_an_id(self, data: st.DataObject) -> None:
        self.recorder.send(self.ahead, data.draw(st.sampled_from(self.sent)), b"something else")

    @rule(code=st.sampled_from(DOOR), back=st.integers(-1, 3), numbered=st.booleans(), named=st.booleans())
    def refuse_at_the_door(self, code: ErrorCode, back: int, numbered: bool, named: bool) -> None:
        number = max(0, self.ahead - back) if numbered else None
        self.recorder.refuse(code, number, self.fresh() if named else None)

    @precondition(lambda self: self.tickets)
    @rule(data=st.data(), kind=st.sampled_from(["success", "success", "partial", "model", "audio"]))
    def complete(self, data: st.DataObject, kind: str) -> None:
        """Any attempt ever made: those that have their result already must not get another."""
        ticket = data.draw(st.sampled_from(self.tickets))
        outcome = FAILURES.get(kind) or make_outcome(
            f"said in {ticket}", partial=kind == "partial", audio=b"x" * (ticket % 60)
        )
        self.recorder.complete_ticket(ticket, outcome)

    @precondition(lambda self: self.checker.flights)
    @rule(data=st.data())
    def complete_one_in_flight(self, data: st.DataObject) -> None:
        self.recorder.complete_ticket(data.draw(st.sampled_from(sorted(self.checker.flights))))

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.3, 0.999, 1.0, 1.5, 2.0]))
    def wait(self, seconds: float) -> None:
        self.recorder.wait(seconds)

    @rule(seconds=st.sampled_from([0.01, 0.5, 3.0]))
    def tick_late(self, seconds: float) -> None:
        self.recorder.tick(self.recorder.now + seconds)

    @rule()
    def pause(self) -> None:
        self.recorder.pause()

    @rule()
    def resume(self) -> None:
        self.recorder.resume()

    @precondition(lambda self: self.rarely())
    @rule(how=st.sampled_from(["end", "drain", "disconnect", "replace"]))
    def stop(self, how: str) -> None:
        getattr(self.recorder, how)()

    @precondition(lambda self: self.rarely() and self.tickets)
    @rule(data=st.data())
    def run_out_of_memory(self, data: st.DataObject) -> None:
        self.recorder.complete_ticket(data.draw(st.sampled_from(self.tickets)), failed(GpuOutOfMemory))

    def rarely(self) -> bool:
        return len(self.recorder.steps) % 10 == 9

    def teardown(self) -> None:
        if hasattr(self, "recorder"):
            self.recorder.settle()
            self.checker.finish()


SessionMachine.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestSession = pytest.mark.timeout(120)(SessionMachine.TestCase)


def checked(**changes: Any) -> Recorder:
    stream = make_settings(**changes)
    return Recorder(stream, observe=Checker(stream, StreamLimits()))


@pytest.mark.parametrize("arrival", list(itertools.permutations(range(5))))
def test_five_numbers_leave_in_order_however_they_arrive_and_finish(arrival: tuple[int, ...]) -> None:
    """All 120 arrivals, each with its completions in arrival order, reversed, and rotated."""
    for finishing in (arrival, arrival[::-1], arrival[2:] + arrival[:2]):
        recorder = checked()
        for number in arrival:
            recorder.send(number)
        for number in finishing:
            recorder.complete(f"f{number}")
        assert recorder.numbers == [0, 1, 2, 3, 4]
        assert recorder.session.next_tick() is None


@pytest.mark.parametrize("missing", range(4))
def test_one_missing_number_costs_no_other_its_result(missing: int) -> None:
    for arrival in itertools.permutations([number for number in range(4) if number != missing]):
        recorder = checked()
        for number in arrival:
            recorder.send(number)
            recorder.now += 0.1
        for number in arrival:
            recorder.complete(f"f{number}")
        recorder.settle()
        assert recorder.numbers == sorted(arrival)
        assert all(result.status == "success" for result in recorder.results)
