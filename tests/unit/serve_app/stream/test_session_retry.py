import pytest

from deployments.errors import InvalidAudio, ModelFailed
from serve_app.protocol import ErrorCode
from serve_app.stream.result_cache import MAX_UNDONE
from serve_app.stream.values import StreamLimits, Submit
from tests.unit.serve_app.stream.recorder import Recorder, failed, make_outcome


def test_the_same_fragment_three_times_in_flight_is_one_slot_and_one_result() -> None:
    recorder = Recorder()
    steps = [recorder.send(0) for _ in range(3)]
    assert [len(step.acks) for step in steps] == [1, 1, 1]
    assert [len(step.only(Submit)) for step in steps] == [1, 0, 0]
    assert [step.in_flight for step in steps] == [1, 1, 1]
    assert recorder.complete("f0").in_flight == 0
    assert recorder.numbers == [0]


def test_resent_in_flight_under_a_new_number_it_keeps_its_own_and_the_new_one_is_not_awaited() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.send(1, "f0")
    recorder.send(2)
    recorder.complete("f2")
    assert recorder.complete("f0").numbers == [0, 2]


@pytest.mark.parametrize("partial", [False, True])
def test_resent_after_success_or_partial_the_kept_result_is_sent_again(partial: bool) -> None:
    recorder = Recorder()
    recorder.send(0)
    [first] = recorder.complete("f0", make_outcome(partial=partial)).results
    step = recorder.send(0)
    assert len(step.acks) == 1
    assert step.only(Submit) == []
    assert step.results == [first]
    assert step.in_flight == 0


def test_a_kept_result_takes_the_number_of_the_resend() -> None:
    recorder = Recorder()
    recorder.send(0)
    [first] = recorder.complete("f0").results
    [again] = recorder.send(1, "f0").results
    assert again == first.model_copy(update={"sequence_number": 1})
    recorder.send(2)
    assert recorder.complete("f2").numbers == [2], "the resend's number is not waited for"


def test_a_kept_result_counts_once_in_the_statistics() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.complete("f0")
    recorder.send(0)
    assert recorder.session._statistics.total == 1


def test_resent_after_failure_it_is_processed_anew_and_leaves_as_soon_as_it_is_ready() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.complete("f0", failed(ModelFailed))
    recorder.send(1)
    assert recorder.send(0).only(Submit)
    assert recorder.complete("f0").numbers == [0]
    assert recorder.complete("f1").numbers == [1]


def test_a_retry_under_a_new_number_leaves_under_that_number_and_holds_up_nothing() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.complete("f0", failed(ModelFailed))
    recorder.send(1)
    recorder.send(2, "f0")
    recorder.send(3)
    assert recorder.complete("f0").numbers == [2]
    recorder.complete("f3")
    assert recorder.complete("f1").numbers == [1, 3]


def test_a_permanent_failure_may_be_tried_again_all_the_same() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.complete("f0", failed(InvalidAudio))
    assert recorder.send(0).only(Submit)


def test_a_retry_that_fails_can_be_retried() -> None:
    recorder = Recorder()
    for _ in range(3):
        recorder.send(0)
        assert recorder.complete("f0", failed(ModelFailed)).in_flight == 0
    recorder.send(0)
    recorder.complete("f0")
    assert [result.status for result in recorder.results] == ["failed", "failed", "failed", "success"]


def test_a_late_result_of_the_first_try_is_not_taken_for_that_of_the_retry() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.wait(8)
    recorder.send(0)
    first, second = recorder.tickets["f0"]
    assert recorder.complete_ticket(first).effects == ()
    assert recorder.complete_ticket(second).results[0].transcript == f"said in {second}"


def test_a_rejected_fragment_resent_before_its_number_has_passed_takes_its_place() -> None:
    recorder = Recorder()
    recorder.refuse(ErrorCode.RATE_LIMITED, 0, "f0")
    recorder.send(1)
    recorder.send(0)
    recorder.complete("f1")
    assert recorder.complete("f0").numbers == [0, 1]


def test_a_rejected_fragment_resent_after_its_number_has_passed_is_a_retry() -> None:
    recorder = Recorder()
    recorder.refuse(ErrorCode.RATE_LIMITED, 0, "f0")
    recorder.send(1)
    recorder.complete("f1")
    recorder.send(2)
    assert recorder.send(0).only(Submit)
    assert recorder.complete("f0").numbers == [0]


def test_a_rejected_fragment_resent_under_a_new_number_comes_in_the_order_of_that() -> None:
    recorder = Recorder()
    recorder.refuse(ErrorCode.BACKPRESSURE_EXCEEDED, 0, "f0")
    recorder.send(1)
    recorder.send(2, "f0")
    recorder.complete("f0")
    assert recorder.complete("f1").numbers == [1, 2]


def test_what_was_rejected_for_good_is_no_retry() -> None:
    recorder = Recorder()
    recorder.refuse(ErrorCode.FRAGMENT_TOO_LARGE, 0, "f0")
    recorder.send(1)
    recorder.complete("f1")
    assert recorder.send(0).codes == ["INVALID_SEQUENCE"]


def test_a_rejection_doesnt_make_a_failed_fragment_forgotten() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.complete("f0", failed(ModelFailed))
    recorder.refuse(ErrorCode.RATE_LIMITED, 0, "f0")
    assert recorder.send(0, audio=b"other").codes == ["INVALID_FRAGMENT"]


@pytest.mark.parametrize("finish", ["running", "success", "failure"])
def test_an_id_reused_with_other_audio_is_an_invalid_fragment(finish: str) -> None:
    recorder = Recorder()
    recorder.send(0)
    if finish != "running":
        recorder.complete("f0", failed(ModelFailed) if finish == "failure" else None)
    step = recorder.send(1, "f0", b"other audio")
    [error] = step.errors
    assert (error.code, error.retryable, error.fragment_id, error.sequence_number) == (
        "INVALID_FRAGMENT",
        False,
        "f0",
        1,
    )
    recorder.send(2)
    recorder.complete("f2")
    if finish == "running":
        recorder.complete("f0")
    assert recorder.numbers == [0, 2]


def test_the_last_64_results_are_kept() -> None:
    recorder = Recorder()
    for number in range(65):
        recorder.send(number)
        recorder.complete(f"f{number}")
    assert recorder.send(0).codes == ["INVALID_SEQUENCE"]
    assert recorder.send(1).numbers == [1]


def test_kept_results_are_limited_by_bytes() -> None:
    recorder = Recorder(limits=StreamLimits(kept_bytes=250))
    for number in range(3):
        recorder.send(number)
        assert recorder.complete(f"f{number}", make_outcome(audio=b"x" * 100)).kept_bytes <= 250
    assert recorder.send(0).codes == ["INVALID_SEQUENCE"]
    assert recorder.send(1).numbers == [1]


def test_kept_results_make_room_for_what_is_not_read_yet() -> None:
    recorder = Recorder()
    for number in range(3):
        recorder.send(number)
        recorder.complete(f"f{number}", make_outcome(audio=b"x" * 100))
    recorder.session.make_room(250)
    assert recorder.send(0).codes == ["INVALID_SEQUENCE"]
    assert recorder.send(1).numbers == [1]


def test_hostile_ids_take_bounded_memory() -> None:
    recorder = Recorder()
    for number in range(2 * MAX_UNDONE):
        recorder.refuse(ErrorCode.RATE_LIMITED, number, f"hostile{number}")
    assert len(recorder.session._history) == MAX_UNDONE


def test_a_passed_number_under_a_new_id_is_invalid_even_while_paused() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.complete("f0")
    recorder.pause()
    assert recorder.send(0, "stranger").codes == ["INVALID_SEQUENCE"]
    recorder.resume()
    assert recorder.send(0, "stranger").codes == ["INVALID_SEQUENCE"], "a refusal for good is not undone by waiting"
