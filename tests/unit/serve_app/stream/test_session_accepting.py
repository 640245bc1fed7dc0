import pytest

from serve_app.protocol import Capabilities, ErrorCode, StreamReady
from serve_app.stream.values import Submit
from tests.unit.serve_app.stream.recorder import Recorder, make_settings


def test_an_opened_stream_is_ready_with_its_settings() -> None:
    recorder = Recorder(make_settings(max_inflight=5))
    [emitted] = recorder.session.open(Capabilities(asr_model="ears"))
    assert isinstance(emitted.event, StreamReady)
    ready = emitted.event.to_wire()
    assert (ready["stream_id"], ready["session_id"], ready["max_inflight"]) == ("stream", "session", 5)
    assert ready["capabilities"]["asr_model"] == "ears"


def test_an_accepted_fragment_is_acknowledged_before_its_work_starts() -> None:
    step = Recorder().send(0)
    assert step.acks[0].queue_position == 0
    [submit] = step.only(Submit)
    assert step.effects[-1] == submit
    assert submit.deadline == step.now + 8.0


def test_the_queue_position_counts_what_is_in_flight_before() -> None:
    recorder = Recorder()
    assert [recorder.send(number).acks[0].queue_position for number in range(3)] == [0, 1, 2]
    assert recorder.send(0).acks[0].queue_position == 2


def test_a_fragment_counts_until_its_result_is_out_and_its_wait_counts_too() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.send(1)
    assert recorder.complete("f1").in_flight == 2
    assert recorder.session.queue_depth == 1
    assert recorder.complete("f0").in_flight == 0


def test_a_number_below_the_last_one_out_is_an_invalid_sequence() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.complete("f0")
    [error] = recorder.send(0, "other").errors
    assert (error.code, error.retryable, error.fragment_id, error.sequence_number) == (
        "INVALID_SEQUENCE",
        False,
        "other",
        0,
    )


def test_a_number_below_the_streams_first_is_an_invalid_sequence() -> None:
    assert Recorder(make_settings(first_sequence_number=10)).send(9).codes == ["INVALID_SEQUENCE"]


def test_a_number_in_flight_belongs_to_one_fragment() -> None:
    recorder = Recorder()
    recorder.send(0)
    step = recorder.send(0, "other")
    assert step.codes == ["INVALID_SEQUENCE"]
    assert step.in_flight == 1
    assert recorder.complete("f0").numbers == [0]


def test_a_refusal_without_a_number_is_only_an_error() -> None:
    recorder = Recorder()
    step = recorder.refuse(ErrorCode.MALFORMED_DATA)
    assert step.codes == ["MALFORMED_DATA"]
    assert step.errors[0].stream_id == "stream"
    assert step.next_tick is None


@pytest.mark.parametrize("code", [ErrorCode.MALFORMED_DATA, ErrorCode.FRAGMENT_TOO_LARGE, ErrorCode.RATE_LIMITED])
def test_after_any_refusal_the_stream_still_works(code: ErrorCode) -> None:
    recorder = Recorder()
    recorder.refuse(code, 0, "f0")
    recorder.send(1)
    assert recorder.complete("f1").numbers == [1]
