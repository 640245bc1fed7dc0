"""What can't be done in time is refused, shed or spoken by another voice, and the worker is told to hold back."""

import dataclasses
from typing import Any

import pytest

from deployments.errors import QueueFull, Stage
from serve_app.scheduling.admission import Admission
from serve_app.stream.session import Session
from serve_app.stream.values import FASTER_VOICE, StreamLimits
from serve_app.stream.voice_tier import HOLD_S
from tests.unit.serve_app.stream.recorder import Recorder, heard, make_settings, timed_outcome


def slow(voice_s: float = 4.3, limits: StreamLimits | None = None, **settings: Any) -> Recorder:
    """A stream whose voice, one at a time, is known to take so long."""
    admission = Admission()
    admission.serves(Stage.TTS, 1)
    recorder = Recorder(
        make_settings(**settings), limits, build=lambda agreed, given: Session(agreed, given, admission)
    )
    spoken(recorder, 0, voice_s)
    return recorder


def spoken(recorder: Recorder, number: int, voice_s: float) -> Any:
    """A fragment that is sent and comes back."""
    recorder.send(number)
    done = timed_outcome(tts_s=voice_s)
    recorder.running(f"f{number}", Stage.TTS, heard(done))
    recorder.wait(voice_s)
    return recorder.complete(f"f{number}", done)


def hastens(recorder: Recorder, fragment_id: str) -> bool:
    return recorder.session.running(recorder.tickets[fragment_id][-1], Stage.TTS, heard(timed_outcome()), recorder.now)


def test_a_fragment_that_would_be_late_is_refused_and_told_when_it_would_not_be() -> None:
    recorder = slow()
    recorder.send(1)
    recorder.running("f1", Stage.TTS, heard(timed_outcome()))
    step = recorder.send(2)
    [error] = step.errors
    assert (error.code, error.retryable, error.fragment_id) == ("QUEUE_FULL", True, "f2")
    assert error.details is not None
    delay_ms = error.details["recommended_delay_ms"]
    assert isinstance(delay_ms, int)
    assert 0 < delay_ms < 2000
    recorder.wait(delay_ms / 1000)
    assert recorder.send(2).acks


def test_a_fragment_of_no_declared_length_counts_as_a_usual_one() -> None:
    recorder = slow()
    recorder.send(1, declared_duration_ms=0)
    assert recorder.send(2, declared_duration_ms=0).codes == ["QUEUE_FULL"]


def test_one_that_is_late_on_its_way_is_not_begun_by_the_next_stage() -> None:
    recorder = slow()
    recorder.send(1)
    recorder.wait(4.0)
    with pytest.raises(QueueFull, match="about 4300 ms are needed from here and 4000 ms are left"):
        recorder.running("f1", Stage.TTS, heard(timed_outcome()))


def test_the_worker_is_asked_to_pause_while_one_more_would_be_late_and_to_go_on_after_it() -> None:
    recorder = slow()
    [told] = recorder.send(1).pressure
    assert (told.severity, told.action, told.current_inflight) == ("high", "pause", 1)
    assert told.recommended_delay_ms > 0
    recorder.running("f1", Stage.TTS, heard(timed_outcome()))
    recorder.wait(4.3)
    [told] = recorder.complete("f1", timed_outcome(tts_s=4.3)).pressure
    assert (told.severity, told.action, told.recommended_delay_ms) == ("low", "none", 0)


def test_it_is_asked_to_slow_down_before_that() -> None:
    recorder = slow(voice_s=1.2)
    for number in range(1, 6):
        recorder.send(number)
    assert recorder.levels[-1] == "medium"


def test_where_a_faster_voice_can_speak_nothing_is_refused_for_the_first_one() -> None:
    recorder = slow(voice_s=4.3, faster_voice="fast", max_inflight=10)
    for number in range(1, 6):
        assert recorder.send(number).acks
    assert not hastens(recorder, "f1")
    assert hastens(recorder, "f2")


def test_a_stream_that_may_not_degrade_is_refused() -> None:
    recorder = slow(faster_voice="fast", limits=StreamLimits(degrade=()))
    recorder.send(1)
    assert recorder.send(2).codes == ["QUEUE_FULL"]


def test_a_dub_that_the_faster_voice_had_to_rescue_keeps_it_for_the_next_ones() -> None:
    recorder = slow(voice_s=1.0, faster_voice="fast")
    recorder.send(1)
    assert not hastens(recorder, "f1")
    done = timed_outcome(tts_s=0.1)
    assert done.speech is not None
    rescued = dataclasses.replace(done, speech=dataclasses.replace(done.speech, warnings=(FASTER_VOICE,)))
    [result] = recorder.complete("f1", rescued).results
    assert result.warnings == (FASTER_VOICE,)
    recorder.send(2)
    assert hastens(recorder, "f2")
    recorder.complete("f2", rescued)
    recorder.now += HOLD_S
    recorder.send(3)
    assert not hastens(recorder, "f3")


def test_nobody_speaks_where_nothing_was_said() -> None:
    recorder = slow(voice_s=20.0, faster_voice="fast")
    recorder.send(1)
    silent = dataclasses.replace(timed_outcome(), translation=None, speech=None)
    ticket = recorder.tickets["f1"][-1]
    assert not recorder.session.running(ticket, Stage.TTS, silent, recorder.now)


def test_a_fragment_that_has_left_goes_no_further() -> None:
    recorder = slow()
    assert not hastens(recorder, "f0")


def test_a_worker_that_leaves_frees_the_models_as_far_as_they_can_be() -> None:
    admission = Admission()
    admission.serves(Stage.TTS, 1)
    first = Recorder(build=lambda agreed, given: Session(agreed, given, admission))
    spoken(first, 0, 4.3)
    first.send(1)
    first.send(2)
    first.disconnect()
    other = Recorder(build=lambda agreed, given: Session(agreed, given, admission))
    other.now = first.now
    assert other.send(0).acks


def test_a_voice_that_was_too_slow_is_tried_again_once_in_a_while() -> None:
    """By one fragment at a time; the machine may have more to give by now."""
    recorder = slow(voice_s=20.0, faster_voice="fast", timeout_ms=30_000)
    recorder.send(1)
    done = timed_outcome(tts_s=0.1)
    assert done.speech is not None
    quick = dataclasses.replace(done, speech=dataclasses.replace(done.speech, warnings=(FASTER_VOICE,)))
    recorder.wait(12.0)
    assert hastens(recorder, "f1")
    recorder.complete("f1", quick)
    recorder.now += HOLD_S
    recorder.send(2)
    recorder.send(3)
    assert not hastens(recorder, "f2")
    assert hastens(recorder, "f3")


def test_an_older_dub_by_the_faster_voice_does_not_undo_the_first_ones_return() -> None:
    recorder = slow(voice_s=1.0, faster_voice="fast")
    recorder.session._foresight._tier.fall(recorder.now)
    recorder.now += HOLD_S - 0.1
    recorder.send(1)
    assert hastens(recorder, "f1")
    recorder.now += 0.2
    recorder.send(2)
    assert not hastens(recorder, "f2")
    done = timed_outcome(tts_s=0.1)
    assert done.speech is not None
    recorder.complete(
        "f1", dataclasses.replace(done, speech=dataclasses.replace(done.speech, warnings=(FASTER_VOICE,)))
    )
    recorder.send(3)
    assert not hastens(recorder, "f3")


@pytest.mark.parametrize("text", [None, " "])
def test_silence_waits_for_no_voice_and_teaches_nothing_of_it(text: str | None) -> None:
    recorder = slow(voice_s=7.0)
    recorder.send(1)
    recorder.wait(4.0)
    said = timed_outcome(tts_s=0.002)
    assert said.translation is not None
    translation = None if text is None else dataclasses.replace(said.translation, text=text)
    silent = dataclasses.replace(said, translation=translation)
    recorder.running("f1", Stage.TTS, heard(silent))
    assert recorder.complete("f1", silent).results
    recorder.send(2)
    assert recorder.send(3).codes == ["QUEUE_FULL"]


def test_time_is_kept_for_the_last_resort() -> None:
    recorder = slow(voice_s=7.4)
    assert recorder.send(1).acks
    recorder = slow(voice_s=7.4, limits=StreamLimits(degrade=("original",)))
    assert recorder.send(1).codes == ["QUEUE_FULL"]
