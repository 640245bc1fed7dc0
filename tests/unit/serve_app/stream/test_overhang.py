"""Who may leave the end of its dub over, and who opens with it."""

from dataclasses import replace

import pytest

from deployments.contracts.values import Outcome, Overhang
from deployments.errors import ModelFailed, Stage
from serve_app.stream.overhang import MAX_KEPT, Overhangs
from serve_app.stream.values import Submit
from tests.unit.serve_app.stream.recorder import Recorder, failed, make_outcome, make_transcript

END = Overhang(b"\0" * 480, 24_000)
OTHER = Overhang(b"\1" * 480, 24_000)


def spoken(overhangs: Overhangs, number: int, overhang: Overhang | None = END, *, heard: bool = True) -> None:
    overhangs.accept(number)
    overhangs.begin(number)
    overhangs.settle(number, overhang, heard=heard)


def test_what_is_left_over_goes_to_the_next_number_and_to_no_other() -> None:
    overhangs = Overhangs()
    spoken(overhangs, 4)
    assert overhangs.before(5) is END
    assert [overhangs.before(number) for number in (3, 4, 6)] == [None, None, None]


def test_once_the_next_is_heard_it_is_gone() -> None:
    overhangs = Overhangs()
    spoken(overhangs, 4)
    spoken(overhangs, 5, None)
    assert overhangs.before(5) is None


def test_a_retry_gets_it_again() -> None:
    overhangs = Overhangs()
    spoken(overhangs, 4)
    spoken(overhangs, 5, OTHER, heard=False)
    assert overhangs.before(5) is END
    assert overhangs.before(6) is None, "what was never heard leaves nothing over"


def test_with_its_successor_accepted_a_dub_keeps_to_its_own_time() -> None:
    overhangs = Overhangs()
    overhangs.accept(4)
    overhangs.accept(5)
    assert not overhangs.begin(4)
    assert overhangs.begin(5)


def test_when_no_number_comes_any_more_a_dub_keeps_to_its_own_time() -> None:
    overhangs = Overhangs()
    overhangs.accept(4)
    overhangs.end()
    assert not overhangs.begin(4)


def test_the_next_waits_until_the_one_that_may_leave_something_over_has_its_outcome() -> None:
    overhangs, woken = Overhangs(), []
    overhangs.accept(4)
    overhangs.begin(4)
    overhangs.accept(5)
    assert overhangs.due(5, lambda: woken.append(5))
    assert not overhangs.due(6, lambda: woken.append(6))
    overhangs.settle(3, None, heard=True)
    assert woken == []
    overhangs.settle(4, None, heard=False)
    overhangs.settle(4, None, heard=False)
    assert woken == [5]
    assert not overhangs.due(5, lambda: woken.append(5))


def test_nobody_waits_for_one_that_may_leave_nothing_over() -> None:
    overhangs = Overhangs()
    overhangs.accept(4)
    overhangs.accept(5)
    overhangs.begin(4)
    assert not overhangs.due(5, pytest.fail)


def test_a_later_number_that_is_first_takes_nothing_from_an_earlier_one() -> None:
    overhangs = Overhangs()
    spoken(overhangs, 4)
    spoken(overhangs, 6, OTHER)
    assert (overhangs.before(5), overhangs.before(7)) == (END, OTHER)


def test_no_more_than_two_are_kept() -> None:
    overhangs = Overhangs()
    for number in range(0, 20, 2):
        spoken(overhangs, number)
    assert [number for number in range(21) if overhangs.before(number)] == [17, 19][-MAX_KEPT:]


def leaving(overhang: Overhang) -> Outcome:
    made = make_outcome()
    assert made.speech is not None
    return replace(made, speech=replace(made.speech, overhang=overhang))


def ticket(recorder: Recorder, number: int) -> int:
    """Of a fragment that is sent now."""
    [submit] = recorder.send(number).only(Submit)
    return submit.ticket


def test_the_session_hands_on_what_a_success_left_over() -> None:
    recorder = Recorder()
    assert recorder.session.may_run_over(ticket(recorder, 0))
    recorder.complete("f0", leaving(END))
    assert recorder.session.overhang(ticket(recorder, 1)) is END


def test_each_waits_for_its_own_predecessor_whatever_starts_meanwhile() -> None:
    recorder, woken = Recorder(), []
    assert recorder.session.may_run_over(ticket(recorder, 0))
    second = ticket(recorder, 1)
    assert recorder.session.overhang_due(second, lambda: woken.append(1))
    third = ticket(recorder, 2)
    assert not recorder.session.overhang_due(third, lambda: woken.append(2))
    assert recorder.session.may_run_over(third)
    recorder.complete("f0", leaving(END))
    assert woken == [1]
    assert recorder.session.overhang(second) is END


def test_a_result_that_came_too_late_leaves_nothing_over_and_nobody_waiting() -> None:
    recorder, woken = Recorder(), []
    recorder.session.may_run_over(ticket(recorder, 0))
    recorder.now += 1
    second = ticket(recorder, 1)
    recorder.session.overhang_due(second, lambda: woken.append(1))
    recorder.wait(7)
    recorder.complete("f0", leaving(END))
    assert recorder.session.overhang(second) is None
    assert woken == [1]


def test_a_failure_leaves_nothing_over() -> None:
    recorder = Recorder()
    recorder.session.may_run_over(ticket(recorder, 0))
    recorder.complete("f0", failed(ModelFailed))
    assert recorder.session.overhang(ticket(recorder, 1)) is None


def test_after_the_end_of_the_stream_nothing_is_left_over() -> None:
    recorder = Recorder()
    first = ticket(recorder, 0)
    recorder.end()
    assert not recorder.session.may_run_over(first)


def test_a_fragment_that_is_sent_again_is_not_spoken_again() -> None:
    recorder = Recorder()
    recorder.session.may_run_over(ticket(recorder, 0))
    [first] = recorder.complete("f0", leaving(END)).results
    step = recorder.send(0)
    assert (step.only(Submit), step.results) == ([], [first])
    assert recorder.session.overhang(ticket(recorder, 1)) is END


def test_what_was_heard_is_the_context_of_what_comes_after_it() -> None:
    recorder = Recorder()
    first, second = ticket(recorder, 0), ticket(recorder, 1)
    recorder.running("f0", Stage.TRANSLATION, Outcome(make_transcript("first of all")))
    assert recorder.session.said_before(second) == "first of all"
    assert recorder.session.said_before(first) == ""


def test_an_attempt_that_is_over_is_told_nothing() -> None:
    recorder = Recorder()
    over = ticket(recorder, 0)
    recorder.complete("f0", leaving(END))
    session = recorder.session
    assert (session.said_before(over), session.overhang(over), session.may_run_over(over)) == ("", None, False)
    assert not session.overhang_due(over, pytest.fail)
