from deployments.errors import GpuOutOfMemory, ModelFailed, Stage
from serve_app.protocol import ERROR_TABLE, ErrorCode, StreamComplete
from serve_app.stream.values import Cancel, Close, Emit
from tests.unit.serve_app.stream.recorder import Recorder, Step, failed

OOM = failed(GpuOutOfMemory, Stage.TTS, "no room for 512 MiB")


def test_a_stream_taken_over_is_told_and_closed_and_its_work_is_cancelled() -> None:
    recorder = Recorder()
    recorder.send(0)
    step = recorder.replace()
    cancel, told, close = step.effects
    assert cancel == Cancel(recorder.tickets["f0"][0])
    assert (told.event.code, told.event.severity) == ("SESSION_REPLACED", "fatal")
    assert close == Close(0, 1000, "session replaced")
    assert (step.in_flight, step.state) == (0, "closed")


def test_a_draining_stream_is_told_finishes_and_sends_the_worker_elsewhere() -> None:
    recorder = Recorder()
    recorder.send(0)
    [told] = recorder.drain().errors
    assert (told.code, told.severity, told.retryable) == ("SERVER_DRAINING", "warning", True)
    [error] = recorder.send(1).errors
    assert (error.code, error.severity, error.retryable) == ("SERVER_DRAINING", "error", True)
    step = recorder.complete("f0")
    assert step.numbers == [0]
    assert step.effects[-1] == Close(0, 1012, "server draining")
    assert not step.events(StreamComplete)


def test_draining_an_idle_stream_closes_it_at_once() -> None:
    told, close = Recorder().drain().effects
    assert told.event.code == "SERVER_DRAINING"
    assert close == Close(0, 1012, "server draining")


def test_draining_gives_up_gaps_and_happens_once() -> None:
    recorder = Recorder()
    recorder.send(1)
    recorder.send(3)
    recorder.complete("f1")
    assert recorder.drain().numbers == [1]
    assert recorder.drain().effects == ()
    assert recorder.pause().codes == ["SERVER_DRAINING"]


def test_a_stream_that_ends_while_draining_gets_its_summary() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.drain()
    recorder.end()
    assert recorder.complete("f0").events(StreamComplete)


def test_draining_a_stream_that_ends_changes_nothing() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.end()
    assert recorder.drain().effects == ()
    assert recorder.complete("f0").events(StreamComplete)


def assert_fatal(step: Step) -> None:
    fatal, close = step.effects[-2:]
    assert isinstance(fatal, Emit)
    assert (fatal.event.code, fatal.event.severity, fatal.event.retryable) == ("GPU_OOM", "fatal", True)
    assert close == Close(0, 1000, "out of GPU memory")
    assert step.only(Close) == [close], "closed once, after everything is said"
    assert (step.in_flight, step.state, step.next_tick) == (0, "closed", None)


def test_out_of_memory_every_fragment_gets_its_result_in_order_then_the_stream_ends() -> None:
    recorder = Recorder()
    for number in (0, 1, 2, 4):
        recorder.send(number)
    recorder.complete("f2")
    step = recorder.complete("f1", OOM)
    assert step.numbers == [0, 1, 2, 4]
    assert [result.status for result in step.results] == ["failed", "failed", "success", "failed"]
    assert step.only(Cancel) == [Cancel(recorder.tickets["f0"][0]), Cancel(recorder.tickets["f4"][0])]
    assert step.errors[0].code == "INVALID_SEQUENCE"
    assert "no room for 512 MiB" in step.errors[-1].message
    assert_fatal(step)


def test_out_of_memory_is_told_with_a_stage_that_can_run_out_of_it() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.send(1)
    recorder.running("f1", Stage.TRANSLATION)
    stages = [result.error.stage for result in recorder.complete("f0", OOM).results if result.error]
    assert stages == ["tts", "tts"]
    assert set(stages) <= set(ERROR_TABLE[ErrorCode.GPU_OOM].stages)


def test_out_of_memory_in_a_retry_ends_the_stream_too() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.complete("f0", failed(ModelFailed))
    recorder.send(1)
    recorder.send(0)
    step = recorder.complete("f0", OOM)
    assert step.numbers == [0, 1]
    assert_fatal(step)


def test_out_of_memory_while_ending_still_gives_the_summary_and_closes_once() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.send(1)
    recorder.end()
    step = recorder.complete("f0", OOM)
    [complete] = step.events(StreamComplete)
    assert complete.failed_count == 2
    assert_fatal(step)


def test_out_of_memory_while_draining_is_told_before_the_connection_closes() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.drain()
    assert_fatal(recorder.complete("f0", OOM))


def test_out_of_memory_of_a_fragment_that_has_its_result_changes_nothing() -> None:
    recorder = Recorder()
    recorder.send(0)
    recorder.wait(8)
    assert recorder.complete("f0", OOM).effects == ()
    assert recorder.send(1).acks
