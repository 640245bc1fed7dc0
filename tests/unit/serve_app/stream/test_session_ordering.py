import pytest

from deployments.errors import InvalidAudio, ModelFailed, WorkerCrashed
from serve_app.protocol import ErrorCode
from serve_app.stream.values import StreamLimits
from tests.unit.serve_app.stream.recorder import Recorder, failed, make_settings


def test_arrivals_1_2_0_3_5_4_6_come_out_in_order() -> None:
    recorder = Recorder()
    for number in (1, 2, 0, 3, 5, 4, 6):
        recorder.send(number)
    for number in (1, 2, 0, 3, 5, 4, 6):
        recorder.complete(f"f{number}")
    assert recorder.numbers == [0, 1, 2, 3, 4, 5, 6]


def test_arrivals_1_2_0_3_5_4_6_come_out_in_order_even_when_each_is_done_before_the_next_arrives() -> None:
    recorder = Recorder()
    for number in (1, 2, 0, 3, 5, 4, 6):
        recorder.send(number)
        recorder.complete(f"f{number}")
    assert recorder.numbers == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("error", [ModelFailed, WorkerCrashed, InvalidAudio])
def test_failure_and_crash_fill_a_slot_like_success(error: type[ModelFailed]) -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.send(1)
    recorder.complete("f1")
    assert recorder.complete("f0", failed(error)).numbers == [0, 1]


def test_a_timeout_fills_a_slot_like_success() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.now += 1
    recorder.send(1)
    recorder.complete("f1")
    [step] = recorder.wait(7)
    assert step.numbers == [0, 1]
    assert [result.status for result in step.results] == ["failed", "success"]


def test_a_rejected_number_doesnt_stop_the_stream() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.complete("f0")
    recorder.refuse(ErrorCode.FRAGMENT_TOO_LARGE, 1, "f1")
    recorder.send(2)
    assert recorder.complete("f2").numbers == [2]


def test_a_number_rejected_after_later_ones_are_done_lets_them_go_at_once() -> None:
    recorder = Recorder()
    recorder.send(1)
    recorder.complete("f1")
    assert recorder.refuse(ErrorCode.MALFORMED_DATA, 0, "f0").numbers == [1]


def test_a_missing_number_doesnt_stop_the_stream() -> None:
    recorder = Recorder()
    for number in (0, 2):
        recorder.send(number)
        recorder.complete(f"f{number}")
    [step] = recorder.wait(8)
    assert step.numbers == [2]
    assert step.results[0].status == "success"


def test_a_missing_number_is_waited_for_until_the_deadline_is_near_and_then_reported() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.complete("f0")
    sent_at = recorder.now
    recorder.send(2)
    recorder.complete("f2")
    assert recorder.wait(7.7) == []
    [step] = recorder.wait(0.3)
    assert step.now == sent_at + 7.75
    [warning] = step.errors
    assert (warning.code, warning.severity, warning.sequence_number) == ("INVALID_SEQUENCE", "warning", 1)
    assert step.effects[0].event is warning, "told before what goes on without it"


def test_a_missing_number_that_comes_in_time_takes_its_place() -> None:
    recorder = Recorder()
    for number in (0, 2):
        recorder.send(number)
        recorder.complete(f"f{number}")
    recorder.wait(3)
    recorder.send(1)
    assert recorder.complete("f1").numbers == [1, 2]
    assert not any(step.errors for step in recorder.steps)


def test_a_number_given_up_that_comes_after_all_is_too_late() -> None:
    recorder = Recorder()
    for number in (0, 2):
        recorder.send(number)
        recorder.complete(f"f{number}")
    recorder.wait(8)
    [error] = recorder.send(1).errors
    assert (error.code, error.severity) == ("INVALID_SEQUENCE", "error")


def test_at_the_very_start_missing_numbers_are_waited_for_one_second() -> None:
    recorder = Recorder()
    recorder.send(3)
    recorder.complete("f3")
    assert recorder.wait(0.99) == []
    [step] = recorder.wait(0.01)
    assert step.numbers == [3]
    assert step.errors[0].details == {"first_missing": 0, "last_missing": 2}


def test_at_the_start_only_the_head_is_let_go_early() -> None:
    recorder = Recorder()
    for number in (1, 3):
        recorder.send(number)
        recorder.complete(f"f{number}")
    assert [step.numbers for step in recorder.wait(7.7)] == [[1]]
    assert [step.numbers for step in recorder.wait(0.3)] == [[3]]


def test_a_start_that_takes_longer_than_a_second_to_process_waits_no_further() -> None:
    recorder = Recorder()
    recorder.send(1)
    recorder.now += 2
    recorder.complete("f1")
    assert [step.numbers for step in recorder.wait(0)] == [[1]]


def test_the_start_wait_and_the_slack_are_configured() -> None:
    recorder = Recorder(limits=StreamLimits(start_wait_ms=200, release_slack_ms=1000))
    recorder.send(1)
    recorder.complete("f1")
    assert [step.numbers for step in recorder.wait(0.2)] == [[1]]
    recorder.send(3)
    recorder.complete("f3")
    assert recorder.wait(6.9) == []
    assert [step.numbers for step in recorder.wait(0.1)] == [[3]]


def test_several_holes_are_given_up_each_at_its_own_time() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.complete("f0")
    for number in (2, 4):
        recorder.send(number)
        recorder.complete(f"f{number}")
        recorder.now += 1
    steps = recorder.wait(10)
    assert [step.numbers for step in steps] == [[2], [4]]
    assert [step.errors[0].sequence_number for step in steps] == [1, 3]


def test_the_first_number_is_the_one_that_the_stream_named() -> None:
    recorder = Recorder(make_settings(first_sequence_number=100))
    recorder.send(101)
    recorder.send(100)
    recorder.complete("f101")
    assert recorder.complete("f100").numbers == [100, 101]
