import pytest

from deployments.errors import ModelFailed
from serve_app.protocol import StreamComplete
from serve_app.stream.values import Cancel, Close, Submit
from tests.unit.serve_app.stream.recorder import Recorder, failed, make_outcome


def test_a_paused_stream_finishes_what_is_in_flight_and_refuses_what_is_new() -> None:
    recorder = Recorder()
    recorder.send(0)
    assert recorder.pause().effects == ()
    [error] = recorder.send(1).errors
    assert (error.code, error.retryable, error.fragment_id, error.sequence_number) == ("STREAM_PAUSED", True, "f1", 1)
    assert recorder.complete("f0").numbers == [0]


def test_a_resumed_stream_takes_what_it_refused_in_its_place() -> None:
    recorder = Recorder()
    recorder.pause()
    recorder.send(0)
    assert recorder.resume().effects == ()
    recorder.send(1)
    recorder.send(0)
    recorder.complete("f1")
    assert recorder.complete("f0").numbers == [0, 1]


def test_while_paused_resends_of_known_fragments_are_answered() -> None:
    recorder = Recorder()
    for number in range(3):
        recorder.send(number)
    recorder.complete("f0")
    recorder.complete("f1", failed(ModelFailed))
    recorder.pause()
    assert recorder.send(0).numbers == [0]
    assert recorder.send(2).acks
    assert recorder.send(1).codes == ["STREAM_PAUSED"]
    recorder.resume()
    assert recorder.send(1).only(Submit)


def test_pausing_and_resuming_twice_is_harmless() -> None:
    recorder = Recorder()
    for step in (recorder.resume(), recorder.pause(), recorder.pause(), recorder.resume()):
        assert step.effects == ()
    assert recorder.send(0).acks


def test_an_empty_stream_completes_at_once_and_closes_five_seconds_later() -> None:
    [complete, close] = Recorder().end().effects
    assert isinstance(complete.event, StreamComplete)
    assert complete.event.total_fragments == 0
    assert close == Close(5000, 1000, "stream complete")


def test_a_stream_that_ends_in_flight_completes_after_the_last_result() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.send(1)
    assert recorder.end().effects == ()
    recorder.complete("f1")
    step = recorder.complete("f0", failed(ModelFailed))
    assert step.numbers == [0, 1]
    [complete] = step.events(StreamComplete)
    assert (complete.total_fragments, complete.success_count, complete.failed_count) == (2, 1, 1)
    assert complete.error_breakdown.by_code == {"MODEL_ERROR": 1}
    assert isinstance(step.effects[-1], Close)
    assert step.state == "closed"


def test_a_stream_that_ends_with_gaps_waits_for_none_of_them() -> None:
    recorder = Recorder()
    for number in (2, 5):
        recorder.send(number)
    recorder.complete("f2")
    step = recorder.end()
    assert step.numbers == [2]
    assert [error.details for error in step.errors] == [
        {"first_missing": 0, "last_missing": 1},
        {"first_missing": 3, "last_missing": 4},
    ]
    assert recorder.complete("f5").events(StreamComplete)


def test_a_stream_that_ends_still_times_out() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.end()
    [step] = recorder.wait(8)
    assert step.events(StreamComplete)[0].failed_count == 1


def test_a_stream_that_ends_takes_nothing_new_and_answers_what_it_knows() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.complete("f0")
    recorder.send(1)
    recorder.end()
    assert recorder.send(2).codes == ["STREAM_NOT_FOUND"]
    assert recorder.send(0).numbers == [0]
    assert recorder.send(1).acks
    assert recorder.pause().codes == ["STREAM_NOT_FOUND"]
    assert recorder.end().effects == ()


def test_a_retry_in_flight_keeps_the_stream_open_until_it_is_done() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.complete("f0", failed(ModelFailed))
    recorder.send(0)
    recorder.end()
    step = recorder.complete("f0")
    assert step.numbers == [0]
    assert step.events(StreamComplete)[0].total_fragments == 2


def test_a_closed_stream_is_gone_for_everything() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.complete("f0")
    recorder.end()
    for step in (recorder.send(0), recorder.send(1), recorder.pause(), recorder.resume(), recorder.end()):
        assert step.codes == ["STREAM_NOT_FOUND"]
        assert not step.results
    assert recorder.drain().effects == ()
    assert recorder.tick(recorder.now + 100).effects == ()


def test_a_disconnect_cancels_what_runs_and_nothing_is_in_flight_any_more() -> None:
    recorder = Recorder()
    for number in range(3):
        recorder.send(number)
    recorder.complete("f1")
    step = recorder.disconnect()
    assert step.effects == (Cancel(recorder.tickets["f0"][0]), Cancel(recorder.tickets["f2"][0]))
    assert (step.in_flight, step.next_tick, step.state) == (0, None, "closed")
    assert recorder.complete("f0").effects == ()
    assert recorder.disconnect().effects == ()


def test_the_statistics_of_a_stream_are_those_of_its_results() -> None:
    recorder = Recorder()
    for number in range(3):
        recorder.send(number)
    recorder.now += 0.3
    recorder.complete("f0", make_outcome(duration_ms=5000))
    recorder.complete("f1", make_outcome(partial=True))
    recorder.now += 0.3
    recorder.complete("f2", failed(ModelFailed))
    [complete] = recorder.end().events(StreamComplete)
    assert (complete.success_count, complete.partial_count, complete.failed_count) == (1, 1, 1)
    assert complete.avg_processing_time_ms == 400
    assert complete.statistics.p95_processing_time_ms == pytest.approx(600, rel=0.02)
    assert complete.total_duration_ms == 5000 + 6000 + 6000
