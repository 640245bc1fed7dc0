"""How long a call will take and when it can start, by the calls before it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.forecast import TRY_AGAIN_AFTER_S, Expectation, Lane


def learnt(*calls: tuple[float, float], every_s: float = 1.0) -> Expectation:
    """From calls of (size, seconds), one after the other."""
    expectation = Expectation()
    for step, (size, took_s) in enumerate(calls):
        expectation.learn(size, took_s, step * every_s)
    return expectation


def test_nothing_is_expected_before_a_call_was_seen() -> None:
    assert not Expectation().known
    assert Expectation().of(100) == 0


def test_the_first_call_is_what_is_expected() -> None:
    assert learnt((100, 2.0)).of(100) == 2.0
    assert learnt((100, 2.0)).of(300) == 2.0


def test_longer_texts_take_longer_by_what_was_seen() -> None:
    expectation = learnt(*[(size, 0.5 + size / 50) for size in (20, 60, 100, 140, 40, 120)] * 3)
    assert expectation.of(50) == pytest.approx(1.5, abs=0.05)
    assert expectation.of(200) == pytest.approx(4.5, abs=0.1)
    assert expectation.at_worst(50) == pytest.approx(expectation.of(50), rel=0.1)


def test_where_no_call_takes_less_than_nothing_time_is_proportional() -> None:
    expectation = learnt(*[(size, (size / 100) ** 2) for size in (100, 200, 300, 400)] * 2)
    assert expectation.of(0) == 0
    assert expectation.of(100) > 0


def test_sizes_that_tell_nothing_are_left_out() -> None:
    assert learnt(*[(100, 1.0), (101, 3.0)] * 8).of(10_000) == pytest.approx(2.2, abs=0.3)
    assert learnt(*[(50, 3.0), (200, 2.0)] * 8).of(10_000) == pytest.approx(2.5, abs=0.3)


def test_a_machine_that_slows_down_is_noticed_within_a_few_calls() -> None:
    assert learnt(*[(1, 1.0)] * 20, *[(1, 2.0)] * 6).of(1) > 1.8


def test_how_much_calls_vary_is_known() -> None:
    steady, varied = learnt(*[(1, 2.0)] * 20), learnt(*[(1, 1.0), (1, 3.0)] * 20)
    assert steady.at_worst(1) == steady.at_best(1) == 2.0
    assert varied.at_best(1) < 1.0
    assert varied.at_worst(1) > 2.8


def test_a_call_that_was_given_up_took_at_least_so_long() -> None:
    expectation = learnt(*[(1, 2.0)] * 5)
    expectation.learn_at_least(1, 1.0, 5.0)
    assert expectation.of(1) == 2.0
    expectation.learn_at_least(1, 8.0, 5.0)
    assert expectation.of(1) == 2.5


def test_the_first_call_of_all_says_nothing_when_it_was_given_up() -> None:
    expectation = Expectation()
    expectation.learn_at_least(1, 8.0, 0.0)
    assert not expectation.known


def test_what_was_learnt_long_ago_counts_no_more() -> None:
    expectation = learnt(*[(1, 20.0)] * 10)
    assert expectation.worth_a_try_in_s(10.0) == TRY_AGAIN_AFTER_S - 1.0
    expectation.learn(1, 2.0, 9.0 + TRY_AGAIN_AFTER_S)
    assert expectation.of(1) == expectation.mean_s == 2.0


def test_calls_run_side_by_side_and_then_wait() -> None:
    lane = Lane(2)
    for name in ("a", "b", "c"):
        assert lane.starts_in_s(0.0) == (0.0 if name != "c" else 4.0)
        lane.come(name, 4.0, 0.0)
    assert lane.starts_in_s(1.0) == 3.0
    assert lane.starts_in_s(1.0, waiting_before=0) == 3.0
    lane.leave("a", 2.0)
    assert lane.starts_in_s(2.0) == 2.0
    assert len(lane) == 2


def test_what_is_still_to_come_goes_first_too() -> None:
    lane = Lane(1)
    lane.come("a", 4.0, 0.0)
    assert lane.starts_in_s(1.0, to_come=2, each_s=4.0) == 3.0 + 8.0
    assert lane.starts_in_s(1.0, waiting_before=1, to_come=2, each_s=4.0) == 3.0 + 4.0


def test_without_a_limit_nobody_waits() -> None:
    lane = Lane()
    for name in range(100):
        lane.come(name, 4.0, 0.0)
    assert lane.starts_in_s(0.0, to_come=100, each_s=4.0) == 0.0
    assert lane.servers == math.inf


def test_a_call_that_takes_longer_than_expected_may_end_at_any_moment() -> None:
    lane = Lane(1)
    lane.come("a", 4.0, 0.0)
    assert lane.starts_in_s(9.0) == 0.0


def test_one_that_was_abandoned_holds_its_server_until_it_should_be_over() -> None:
    lane = Lane(1)
    lane.come("a", 4.0, 0.0)
    lane.come("b", 4.0, 0.0)
    assert lane.abandon("a", 1.0) == 1.0
    assert lane.starts_in_s(1.0) == 3.0 + 4.0
    assert lane.starts_in_s(5.0) == 3.0


def test_one_that_waits_is_abandoned_without_a_trace() -> None:
    lane = Lane(1)
    lane.come("a", 4.0, 0.0)
    lane.come("b", 4.0, 0.0)
    assert lane.abandon("b", 1.0) == 0.0
    assert lane.starts_in_s(1.0) == 3.0


def test_fewer_servers_than_calls_that_run() -> None:
    lane = Lane(3)
    for name, expected_s in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        lane.come(name, expected_s, 0.0)
    lane.servers = 1
    assert lane.starts_in_s(0.0) == 3.0


@given(st.lists(st.floats(0.1, 10.0), max_size=12), st.integers(1, 4))
def test_a_call_starts_when_a_server_takes_it_as_it_comes(expected_s: list[float], servers: int) -> None:
    """Against a plain account of the servers."""
    lane, free_at = Lane(servers), [0.0] * servers
    for key, takes_s in enumerate(expected_s):
        lane.come(key, takes_s, 0.0)
        free_at[free_at.index(min(free_at))] += takes_s
    assert lane.starts_in_s(0.0) == pytest.approx(min(free_at))


def test_a_single_call_that_takes_for_ever_counts_as_twice_what_was_expected() -> None:
    expectation = learnt(*[(1, 2.0)] * 5, (1, 500.0))
    assert expectation.of(1) == 2.5
    assert expectation.at_worst(1) < 4.0


def test_what_was_measured_holds_until_a_call_is_seen():
    expectation = Expectation()
    expectation.assume(0.1, 0.0)
    assert expectation.at_worst(10) == 0.1
    assert not expectation.known
    assert expectation.worth_a_try_in_s(1.0) > 0
    expectation.learn(15, 4.3, 1.0)
    assert expectation.at_worst(15) == pytest.approx(4.3)
