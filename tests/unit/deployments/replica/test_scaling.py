"""How many replicas a deployment needs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.replica.scaling import Load, ReplicaLoad, ScalingOptions, replicas_wanted, scaling_options

OPTIONS = ScalingOptions(target_ms=2000, target_busy=0.7, shrink_below=0.75)


def replicas(count: int, busy: float, computing_ms: float | None = 400, slots: int = 1) -> tuple[ReplicaLoad, ...]:
    return (ReplicaLoad(busy, slots, computing_ms),) * count


def wanted(fragments: float, told: tuple[ReplicaLoad, ...], target: int | None = None) -> int:
    return replicas_wanted(Load(fragments, told), OPTIONS, len(told), len(told) if target is None else target)


def test_what_waits_is_to_be_done_within_the_target():
    """20 fragments of 400 ms are 8 s of work: four replicas do it in 2 s."""
    assert wanted(20, replicas(2, 0.9)) == 4


def test_slots_share_the_work():
    assert wanted(20, replicas(2, 0.6, slots=4)) == wanted(5, replicas(2, 0.6)) == 2


def test_a_target_below_the_computing_time_does_not_ask_for_ever_more():
    """A fragment computes 4 s; no number of replicas makes that 2 s, so one replica a fragment is the most."""
    assert wanted(6, replicas(2, 1.0, computing_ms=4000)) == 6


def test_replicas_that_never_pause_ask_for_more_though_nothing_is_seen_to_wait():
    """Where the queue stands in front of the deployment, only this tells of it."""
    assert wanted(2, replicas(2, 1.0)) == 3
    assert wanted(4, replicas(4, 1.0)) == 6


def test_the_fragments_that_arrive_are_sustained_once_the_queue_is_gone():
    assert wanted(3, replicas(4, 0.6)) == 4


def test_replicas_leave_when_the_others_carry_the_load_with_room():
    """Four replicas computing a fifth of the time are .8 replicas' work; at 52 % of the time that takes two."""
    assert wanted(1, replicas(4, 0.2)) == 2


def test_what_would_be_full_again_without_a_replica_keeps_it():
    """1.5 replicas' work: three at half their time; two would be above 52 %, though not above 70 %."""
    assert wanted(1, replicas(3, 0.45)) == 3


def test_an_idle_deployment_wants_one_replica():
    assert wanted(0, replicas(5, 0.0)) == 1


def test_a_queue_that_two_would_do_in_barely_the_target_keeps_the_third():
    assert wanted(9, replicas(3, 0.1)) == 3


def test_while_replicas_load_the_full_ones_do_not_send_them_away():
    """One replica tells of itself, full; four are on their way."""
    assert wanted(3, replicas(1, 1.0), target=5) == 5


def test_nothing_is_changed_while_no_replica_has_told_anything():
    assert wanted(50, (), target=3) == 3


def test_a_replica_that_has_computed_nothing_yet_has_no_say_in_the_time():
    assert wanted(20, (*replicas(1, 0.9), *replicas(1, 0.0, computing_ms=None))) == 4
    assert wanted(20, replicas(2, 0.0, computing_ms=None)) == 1


def test_all_of_the_target_is_no_reason_for_one_more():
    """7 replicas' work at 70 % takes 10; floats make it 10.000000000000002."""
    assert wanted(0, replicas(10, 0.7)) == 10
    assert wanted(0, replicas(3, 0.7)) == 3


@given(
    fragments=st.floats(0, 500),
    busy=st.floats(0, 1),
    count=st.integers(1, 20),
    computing_ms=st.floats(1, 10_000),
    more=st.floats(0, 100),
)
def test_more_fragments_never_want_fewer_replicas(fragments, busy, count, computing_ms, more):
    told = replicas(count, busy, computing_ms)

    assert wanted(fragments + more, told) >= wanted(fragments, told) >= 1


@given(work=st.floats(0.05, 20), start=st.integers(1, 40))
def test_a_steady_load_comes_to_rest(work, start):
    """From any number of replicas: after a while the number stays, and it carries the load."""
    running, seen = start, []
    for _ in range(60):
        busy = min(1.0, work / running)
        waiting = 30 * running if work > running else 0
        told = replicas(running, busy)
        running = replicas_wanted(Load(busy * running + waiting, told), OPTIONS, running, running)
        seen.append(running)

    assert len(set(seen[-20:])) == 1
    assert work / running <= OPTIONS.target_busy + 1e-6


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"target": 3}, "target: no such option; allowed: target_ms, target_busy, shrink_below"),
        ({"target_ms": "soon"}, "target_ms: .*integer; got 'soon'"),
        ({"target_busy": 1.5}, "target_busy: .*0.95; got 1.5"),
        ({"shrink_below": float("nan")}, "shrink_below: .*finite number; got nan"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_allowed(given, told):
    with pytest.raises(ValueError, match=told):
        scaling_options(given)


def test_options_left_out_have_their_defaults():
    assert scaling_options({"target_ms": 900}) == ScalingOptions(target_ms=900)
