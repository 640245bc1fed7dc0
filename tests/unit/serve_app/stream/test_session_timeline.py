"""Segment times are absolute on the stream's timeline."""

from deployments.contracts.values import Outcome
from deployments.errors import InvalidAudio, ModelFailed
from serve_app.protocol import ErrorCode, FragmentProcessed
from tests.unit.serve_app.stream.recorder import Recorder, failed, make_outcome, make_transcript


def starts(results: list[FragmentProcessed]) -> dict[str, int]:
    """Where each fragment lies; the only segment of a test transcript starts 100 ms in."""
    return {
        result.fragment_id: result.assets.transcript.segments[0].start_ms - 100
        for result in results
        if result.assets.transcript
    }


def test_without_pts_a_fragment_starts_after_the_decoded_durations_before_it() -> None:
    recorder = Recorder()
    for number, duration_ms in enumerate((6000, 5000, 6000)):
        recorder.send(number)
        recorder.complete(f"f{number}", make_outcome(duration_ms=duration_ms))
    assert starts(recorder.results) == {"f0": 0, "f1": 6000, "f2": 11_000}


def test_the_order_of_completion_doesnt_move_anything() -> None:
    recorder = Recorder()
    for number in range(3):
        recorder.send(number)
    for number in (2, 1, 0):
        recorder.complete(f"f{number}", make_outcome(duration_ms=5000))
    assert starts(recorder.results) == {"f0": 0, "f1": 5000, "f2": 10_000}


def test_pts_decides_where_it_is_given() -> None:
    recorder = Recorder()
    recorder.send(0, pts_ms=90_000)
    recorder.send(1)
    recorder.complete("f0")
    recorder.complete("f1")
    assert starts(recorder.results) == {"f0": 90_000, "f1": 96_000}


def test_missing_and_rejected_numbers_take_a_chunk_each() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.complete("f0")
    recorder.refuse(ErrorCode.MALFORMED_DATA, 1, "f1")
    recorder.send(3)
    recorder.complete("f3")
    recorder.wait(8)
    assert starts(recorder.results) == {"f0": 0, "f3": 18_000}


def test_a_failure_takes_the_time_that_was_declared() -> None:
    recorder = Recorder()
    recorder.send(0, declared_duration_ms=4000)
    recorder.send(1)
    recorder.complete("f0", failed(InvalidAudio))
    recorder.complete("f1")
    assert starts(recorder.results) == {"f1": 4000}


def test_a_retry_lies_where_its_first_try_lay() -> None:
    recorder = Recorder()
    for number in range(3):
        recorder.send(number)
        recorder.complete(f"f{number}", failed(ModelFailed) if number == 1 else None)
    recorder.send(1)
    assert starts(recorder.complete("f1").results) == {"f1": 6000}


def test_a_retry_of_a_rejected_fragment_lies_in_the_hole_it_left() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.complete("f0")
    for number in (1, 2):
        recorder.refuse(ErrorCode.RATE_LIMITED, number, f"f{number}")
    recorder.send(3)
    recorder.complete("f3")
    recorder.send(2)
    recorder.send(1)
    recorder.complete("f2")
    recorder.complete("f1")
    assert starts(recorder.results) == {"f0": 0, "f3": 18_000, "f2": 12_000, "f1": 6000}


def test_a_retry_of_what_was_rejected_at_the_very_start_lies_where_the_stream_stands() -> None:
    recorder = Recorder()
    recorder.refuse(ErrorCode.RATE_LIMITED, 0, "f0")
    recorder.send(1)
    recorder.complete("f1")
    recorder.send(0)
    assert starts(recorder.complete("f0").results) == {"f0": 6000}


def test_a_retry_with_pts_lies_there() -> None:
    recorder = Recorder()
    recorder.send(0, pts_ms=70_000)
    recorder.complete("f0", Outcome(make_transcript(), failure=failed(ModelFailed).failure))
    recorder.send(0, pts_ms=70_000)
    assert starts(recorder.complete("f0").results) == {"f0": 70_000}
