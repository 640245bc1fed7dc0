import pytest

from deployments.contracts.values import Outcome
from deployments.errors import ModelFailed, Stage
from serve_app.stream.values import Cancel
from tests.unit.serve_app.stream.recorder import Recorder, failed, make_outcome, make_settings


@pytest.mark.parametrize("stage", Stage)
def test_a_fragment_out_of_time_fails_in_the_stage_that_was_running_and_its_work_is_cancelled(stage: Stage) -> None:
    recorder = Recorder(make_settings(timeout_ms=3000))
    recorder.send(0)
    recorder.running("f0", stage)
    assert recorder.wait(2.999) == []
    [step] = recorder.wait(0.001)
    [result] = step.results
    assert result.status == "failed"
    assert result.error is not None
    assert (result.error.code, result.error.stage, result.error.retryable) == ("TIMEOUT", stage, True)
    assert "3000 ms" in result.error.message
    assert step.effects[0] == Cancel(recorder.tickets["f0"][0])
    assert step.in_flight == 0


def test_the_timeout_counts_from_acceptance_and_the_wait_for_its_turn_is_in_it() -> None:
    recorder = Recorder(make_settings(timeout_ms=3000))
    recorder.send(1)
    recorder.wait(2.9)
    [step] = recorder.wait(0.1)
    assert step.numbers == [1]
    assert step.results[0].processing_time_ms == 3000


def test_a_resend_in_flight_doesnt_lengthen_the_time() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.wait(7)
    recorder.send(0)
    [step] = recorder.wait(1)
    assert step.results[0].status == "failed"


def test_a_completion_after_the_timeout_is_ignored() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.wait(8)
    assert recorder.complete("f0").effects == ()
    recorder.running("f0", Stage.TTS)
    assert len(recorder.results) == 1


def test_a_second_completion_is_ignored_also_while_the_first_waits_for_its_turn() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.send(1)
    recorder.complete("f1")
    assert recorder.complete("f1", failed(ModelFailed)).effects == ()
    assert [result.status for result in recorder.complete("f0").results] == ["success", "success"]


def test_an_earlier_number_accepted_later_expires_when_a_later_one_cant_wait() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.complete("f0")
    recorder.send(2)
    recorder.complete("f2")
    recorder.wait(5)
    recorder.send(1)
    [step] = recorder.wait(2.75)
    assert step.numbers == [1, 2]
    timeout, success = step.results
    assert timeout.error is not None
    assert (timeout.error.code, timeout.processing_time_ms) == ("TIMEOUT", 2750)
    assert "before a later fragment had to leave" in timeout.error.message, "it never had its 8000 ms"
    assert success.status == "success"


def test_no_result_comes_after_its_deadline_when_all_stages_hang() -> None:
    recorder = Recorder()
    for number in (3, 1, 0, 2):
        recorder.send(number)
        recorder.now += 1.5
    deadlines = {3: 108.0, 1: 109.5, 0: 111.0, 2: 112.5}
    for step in recorder.wait(20):
        for number in step.numbers:
            assert step.now <= deadlines.pop(number)
    assert deadlines == {}


def test_a_late_tick_catches_up_with_everything_at_once() -> None:
    recorder = Recorder()
    for number in (0, 1, 5):
        recorder.send(number)
    step = recorder.tick(recorder.now + 60)
    assert step.numbers == [0, 1, 5]
    assert step.next_tick is None


def test_a_tick_before_its_time_does_nothing() -> None:
    recorder = Recorder()
    recorder.send(0)
    assert recorder.tick(recorder.now + 1).effects == ()


def test_processing_time_goes_from_acceptance_to_leaving() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.send(1)
    recorder.complete("f1")
    recorder.now += 1.5
    assert [result.processing_time_ms for result in recorder.complete("f0").results] == [1500, 1500]


def test_a_retry_out_of_time_fails_by_itself() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.complete("f0", failed(ModelFailed))
    recorder.send(0)
    [step] = recorder.wait(8)
    assert step.numbers == [0]
    assert step.effects[0] == Cancel(recorder.tickets["f0"][1])


def test_a_timeout_keeps_what_earlier_stages_have_done() -> None:
    recorder = Recorder()
    recorder.send(0)
    done = make_outcome()
    recorder.running("f0", Stage.TTS, Outcome(done.transcript, done.translation))
    recorder.wait(recorder.session.settings.timeout_ms / 1000)
    [result] = recorder.results
    assert result.error is not None
    assert (result.error.code, result.error.stage) == ("TIMEOUT", "tts")
    assert result.transcript == done.transcript.recognition.text
    assert result.stage_timings.asr_ms == done.transcript.elapsed_ms
    assert result.metadata.original_duration_ms == done.transcript.duration_ms
    assert result.dubbed_audio is None
