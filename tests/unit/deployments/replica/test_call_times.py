"""A replica begins nothing that can't end in time, and finds out when it can again."""

from deployments.errors import QueueFull, Stage
from deployments.forecast import EXPECTED_MS, TRY_AGAIN_AFTER_S
from deployments.replica.call_times import CallTimes, too_late


def made(times: CallTimes, size: float, took_s: float, at: float) -> None:
    """A call that went well."""
    call = times.come(size, at + 1000, at)
    assert times.may_start(call, at)
    times.over(call, at + took_s, well=True)


def warm(slots: int = 1, took_s: float = 4.0) -> CallTimes:
    times = CallTimes(slots)
    made(times, 100, took_s, 0.0)
    return times


def test_before_anything_is_known_every_call_is_made() -> None:
    times = CallTimes(1)
    calls = [times.come(100, 8.0, 0.0) for _ in range(5)]
    assert not any(call.refused for call in calls)


def test_what_can_not_end_in_time_is_refused_when_it_comes() -> None:
    times = warm()
    assert not times.come(100, 14.1, 10.0).refused
    late = times.come(100, 17.9, 10.0)
    assert late.refused
    assert (late.expected_s, late.needed_s) == (4.0, 8.0)


def test_one_that_waited_too_long_is_refused_when_its_turn_comes() -> None:
    times = warm()
    first, second = times.come(100, 100.0, 10.0), times.come(100, 18.5, 10.0)
    assert times.may_start(first, 10.0)
    times.over(first, 15.0, well=True)  # it took longer than was expected
    assert not times.may_start(second, 15.0)
    assert second.refused


def test_a_refused_call_takes_nobody_s_place() -> None:
    times = warm()
    times.come(100, 12.0, 10.0)
    assert not times.come(100, 14.1, 10.0).refused


def test_one_that_was_given_up_before_it_began_takes_none_either() -> None:
    times = warm()
    running, waiting = times.come(100, 100.0, 10.0), times.come(100, 100.0, 10.0)
    assert times.may_start(running, 10.0)
    times.over(waiting, 11.0, well=False)
    assert times.come(100, 18.1, 11.0).needed_s == 3.0 + 4.0


def test_with_nothing_to_do_one_is_tried_once_in_a_while() -> None:
    times = warm(took_s=20.0)
    at = 20.0 + TRY_AGAIN_AFTER_S
    assert times.come(100, at + 7, at - 1).refused
    trial = times.come(100, at + 8, at)
    assert not trial.refused
    assert times.may_start(trial, at)
    assert times.come(100, at + 9, at + 1).refused


def test_a_failure_teaches_nothing() -> None:
    times = CallTimes(1)
    call = times.come(100, 8.0, 0.0)
    assert times.may_start(call, 0.0)
    times.over(call, 7.0, well=False)
    assert times.come(100, 8.5, 8.0).needed_s == 0.0


def test_calls_whose_length_is_not_foretold_are_all_made() -> None:
    times = warm(took_s=20.0)
    call = times.come(None, 1.0, 0.0)
    assert times.may_start(call, 0.0)
    times.over(call, 5.0, well=True)
    assert not call.refused


def test_a_refusal_says_how_long_it_would_have_taken_and_when_to_come_back() -> None:
    refusal = too_late(Stage.TTS, 4.0, 9.5, 8.0)
    assert isinstance(refusal, QueueFull)
    assert refusal.details == {EXPECTED_MS: 4000, "recommended_delay_ms": 1500}
    assert "9500 ms are needed from here and 8000 ms are left" in refusal.message
