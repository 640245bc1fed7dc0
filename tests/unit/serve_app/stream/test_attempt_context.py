"""What the pipeline is told about its attempt is what the session says of that attempt."""

from deployments.contracts.values import Outcome
from deployments.errors import Stage
from serve_app.stream.attempt_context import AttemptContext
from serve_app.stream.values import Submit
from tests.unit.serve_app.stream.recorder import Recorder, make_transcript
from tests.unit.serve_app.stream.test_overhang import END, leaving


def sent(recorder: Recorder, number: int) -> AttemptContext:
    [submit] = recorder.send(number).only(Submit)
    return AttemptContext(recorder.session, submit.ticket, lambda: recorder.now)


def test_a_stage_that_starts_is_what_the_context_names_and_what_the_stream_said_is_told() -> None:
    recorder = Recorder()
    first, second = sent(recorder, 0), sent(recorder, 1)
    assert first.stage is Stage.ASR
    assert not first.start(Stage.TRANSLATION, Outcome(make_transcript("first of all")))
    assert first.stage is Stage.TRANSLATION
    assert second.said_before() == "first of all"
    assert first.said_before() == ""


def test_what_one_leaves_over_opens_the_next() -> None:
    recorder, woken = Recorder(), []
    first = sent(recorder, 0)
    assert first.may_run_over()
    second = sent(recorder, 1)
    assert second.overhang_due(lambda: woken.append(1))
    recorder.complete("f0", leaving(END))
    assert woken == [1]
    assert second.overhang() is END
