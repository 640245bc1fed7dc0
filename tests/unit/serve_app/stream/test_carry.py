"""Who may leave the end of its dub over, and who opens with it."""

from dataclasses import replace

import pytest

from deployments.contracts import Carried
from deployments.errors import ModelFailed
from serve_app.stream.carry import MAX_KEPT, Carry
from serve_app.stream.values import Outcome, Submit
from tests.unit.serve_app.stream.recorder import Recorder, failed, make_outcome

END = Carried(b"\0" * 480, 24_000)
OTHER = Carried(b"\1" * 480, 24_000)


def spoken(carry: Carry, number: int, carried: Carried | None = END, *, heard: bool = True) -> None:
    carry.accept(number)
    carry.begin(number)
    carry.settle(number, carried, heard=heard)


def test_what_is_left_over_goes_to_the_next_number_and_to_no_other() -> None:
    carry = Carry()
    spoken(carry, 4)
    assert carry.before(5) is END
    assert [carry.before(number) for number in (3, 4, 6)] == [None, None, None]


def test_once_the_next_is_heard_it_is_gone() -> None:
    carry = Carry()
    spoken(carry, 4)
    spoken(carry, 5, None)
    assert carry.before(5) is None


def test_a_retry_gets_it_again() -> None:
    carry = Carry()
    spoken(carry, 4)
    spoken(carry, 5, OTHER, heard=False)
    assert carry.before(5) is END
    assert carry.before(6) is None, "what was never heard leaves nothing over"


def test_with_its_successor_accepted_a_dub_keeps_to_its_own_time() -> None:
    carry = Carry()
    carry.accept(4)
    carry.accept(5)
    assert not carry.begin(4)
    assert carry.begin(5)


def test_when_no_number_comes_any_more_a_dub_keeps_to_its_own_time() -> None:
    carry = Carry()
    carry.accept(4)
    carry.end()
    assert not carry.begin(4)


def test_the_next_waits_until_the_one_that_may_leave_something_over_has_its_outcome() -> None:
    carry, woken = Carry(), []
    carry.accept(4)
    carry.begin(4)
    carry.accept(5)
    assert carry.due(5, lambda: woken.append(5))
    assert not carry.due(6, lambda: woken.append(6))
    carry.settle(3, None, heard=True)
    assert woken == []
    carry.settle(4, None, heard=False)
    carry.settle(4, None, heard=False)
    assert woken == [5]
    assert not carry.due(5, lambda: woken.append(5))


def test_nobody_waits_for_one_that_may_leave_nothing_over() -> None:
    carry = Carry()
    carry.accept(4)
    carry.accept(5)
    carry.begin(4)
    assert not carry.due(5, pytest.fail)


def test_a_later_number_that_is_first_takes_nothing_from_an_earlier_one() -> None:
    carry = Carry()
    spoken(carry, 4)
    spoken(carry, 6, OTHER)
    assert (carry.before(5), carry.before(7)) == (END, OTHER)


def test_no_more_than_two_are_kept() -> None:
    carry = Carry()
    for number in range(0, 20, 2):
        spoken(carry, number)
    assert [number for number in range(21) if carry.before(number)] == [17, 19][-MAX_KEPT:]


def leaving(carried: Carried) -> Outcome:
    made = make_outcome()
    assert made.speech is not None
    return replace(made, speech=replace(made.speech, carried=carried))


def carry_of(recorder: Recorder, number: int) -> Carry:
    [submit] = recorder.send(number).only(Submit)
    carry: Carry = submit.carry
    return carry


def test_the_session_hands_on_what_a_success_left_over() -> None:
    recorder = Recorder()
    carry = carry_of(recorder, 0)
    assert carry.begin(0)
    recorder.complete("f0", leaving(END))
    assert carry_of(recorder, 1).before(1) is END


def test_a_result_that_came_too_late_leaves_nothing_over_and_nobody_waiting() -> None:
    recorder, woken = Recorder(), []
    carry = carry_of(recorder, 0)
    carry.begin(0)
    recorder.send(1)
    carry.due(1, lambda: woken.append(1))
    recorder.wait(8)
    recorder.complete("f0", leaving(END))
    assert carry.before(1) is None
    assert woken == [1]


def test_a_failure_leaves_nothing_over() -> None:
    recorder = Recorder()
    carry = carry_of(recorder, 0)
    recorder.complete("f0", failed(ModelFailed))
    assert carry.before(1) is None


def test_after_the_end_of_the_stream_nothing_is_left_over() -> None:
    recorder = Recorder()
    carry = carry_of(recorder, 0)
    recorder.end()
    assert not carry.begin(0)


def test_a_fragment_that_is_sent_again_is_not_spoken_again() -> None:
    recorder = Recorder()
    carry = carry_of(recorder, 0)
    carry.begin(0)
    [first] = recorder.complete("f0", leaving(END)).results
    step = recorder.send(0)
    assert (step.only(Submit), step.results) == ([], [first])
    assert carry.before(1) is END
