"""The arithmetic of plans: replicas, cards, CPUs, memory, bounds, and what is told to be wrong."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.planning.figures import Card, Figure, How
from serve_app.planning.plan import Demand, Work, cards, plan, replicas, streams_a_replica

PROJECT = Path(__file__).parents[4]
TIMEOUT_MS = 8000
CARD = Card("card", 10.0)


def figure(value, how=How.MEASURED):
    return Figure(value, how, "a test")


def work(name="Tts", ms=900.0, memory_mib=1000.0, **fields):
    return Work(name, figure(ms), figure(memory_mib), **fields)


def planned(streams, *works, card=CARD, timeout_ms=TIMEOUT_MS, **load):
    return plan(Demand(streams, **load), works, card, timeout_ms)


# --- streams a replica, replicas ---


def test_a_replica_carries_what_the_sizing_comment_of_the_production_configuration_says():
    comment = " ".join((PROJECT / "configs" / "prod.yaml").read_text(encoding="utf-8").replace("#", "").split())
    utilisation, fragment_s = re.search(r"([\d.]+) × ([\d.]+) s × num_gpus ÷ \(computing time", comment).groups()
    load = Demand(1)
    assert (load.utilisation, load.fragment_s) == (float(utilisation), float(fragment_s))
    assert streams_a_replica(work(ms=900), load) == pytest.approx(0.6 * 6 / 0.9)
    assert streams_a_replica(work(ms=900, num_gpus=0.5), load) == pytest.approx(0.6 * 6 * 0.5 / 0.9)


def test_a_whole_card_or_several_are_no_share_of_one():
    assert work(num_gpus=1).share == work(num_gpus=2).share == work(num_gpus=0).share == 1


def test_calls_of_a_service_run_side_by_side():
    assert streams_a_replica(work(ms=900, side_by_side=4), Demand(1)) == pytest.approx(16)


def test_sockets_bound_what_a_replica_carries():
    assert streams_a_replica(work(ms=1, most_streams=200), Demand(1)) == 200


@pytest.mark.parametrize(
    ("streams", "carried", "wanted"),
    [
        (0, 4.0, 1),  # a service without streams waits for the first one
        (4, 4.0, 1),
        (5, 4.0, 2),
        (1, 0.25, 4),  # one stream that takes four replicas
        (1, 0.3, 4),
        (4, 0.6 * 6000 / 900, 1),  # 3.9999999999999996
        (1_000_000, 0.6 * 6000 / 900, 250_000),
    ],
)
def test_replicas_are_rounded_up_and_never_none(streams, carried, wanted):
    assert replicas(streams, carried) == wanted


@given(st.integers(0, 10**6), st.floats(0.01, 1000))
def test_replicas_carry_all_streams_and_one_fewer_would_not(streams, carried):
    count = replicas(streams, carried)
    assert count * carried >= streams * (1 - 1e-6)
    assert count == 1 or (count - 1) * carried < streams


# --- cards ---


@pytest.mark.parametrize(
    ("shares", "wanted"),
    [
        ([], 0),
        ([(0.0, 7)], 0),
        ([(0.5, 1), (0.5, 1)], 1),
        ([(0.5, 3), (0.5, 4)], 4),
        ([(1.0, 3)], 3),
        ([(2.0, 3), (0.5, 1)], 7),
        ([(0.6, 3)], 3),  # above a half each has its own
        ([(0.6, 3), (0.4, 2)], 3),
        ([(0.6, 1), (0.4, 4)], 3),
        ([(1 / 3, 3)], 1),
        ([(0.3, 10), (0.5, 0)], 4),
        ([(0.0001, 10_000)], 1),
        ([(0.5, 10**6), (0.5, 10**6)], 10**6),
    ],
)
def test_cards_are_packed_as_fractions_allow(shares, wanted):
    assert cards(shares)[0] == wanted


def first_fit(shares):
    """The same, one replica at a time."""
    free = []
    for size in sorted((round(share * 10_000) for share, count in shares for _ in range(count)), reverse=True):
        fitting = [index for index, room in enumerate(free) if room >= size]
        if fitting:
            free[min(fitting, key=lambda index: free[index])] -= size
        else:
            free.append(10_000 - size)
    return len(free)


@given(st.lists(st.tuples(st.integers(1, 99).map(lambda percent: percent / 100), st.integers(0, 12)), max_size=4))
def test_packing_alike_cards_at_once_is_packing_one_replica_at_a_time(shares):
    count, kinds = cards(shares)
    assert count == first_fit(shares)
    assert all(sum(kind) <= 1 + 1e-9 for kind in kinds)


def test_it_is_told_what_lies_together_on_one_card():
    assert cards([(0.6, 3), (0.4, 2), (1.0, 1)]) == (4, [(1.0,), (0.6, 0.4), (0.6,)])


# --- whole plans ---


def test_a_plan_adds_up():
    got = planned(
        10,
        work("Ingress", ms=10, memory_mib=100, cpu_ms=10, most_streams=4),
        work("Asr", ms=180, memory_mib=1000, num_cpus=2, num_gpus=0.5, gpu_memory_gib=figure(3)),
        work("Tts", ms=900, memory_mib=2000, num_cpus=2, num_gpus=0.5, gpu_memory_gib=figure(4)),
        least_streams=4,
    )
    ingress, asr, tts = got.deployments
    assert (ingress.replicas, asr.replicas, tts.replicas) == (3, 1, 5)
    assert (ingress.least_replicas, asr.least_replicas, tts.least_replicas) == (1, 1, 2)
    assert (got.gpus, got.least_gpus) == (3, 2)
    assert got.gpu_memory_gib == 8  # Ray may put two of Tts together
    assert got.cpus == 3 + 2 + 10
    assert got.memory_mib == 300 + 1000 + 10_000
    assert got.alone_ms == pytest.approx(10 + 360 + 1800)
    assert got.problems == ()


def test_no_streams_need_one_replica_of_each():
    got = planned(0, work("Ingress"), work("Asr", num_gpus=0.5), work("Tts", num_gpus=0.5))
    assert [(p.least_replicas, p.replicas) for p in got.deployments] == [(1, 1)] * 3
    assert got.gpus == 1


def test_cpus_are_what_engines_compute_where_that_is_more_than_what_ray_reserves():
    got = planned(6, work(ms=900, cpu_ms=1800, num_cpus=0.1), card=None)
    assert got.cpus == 3  # 6 streams × 1.8 s ÷ (6 s × 0.6), and no hair more
    assert (got.gpus, got.card) == (0, None)


def test_no_fewer_replicas_are_planned_than_the_configuration_keeps():
    [got] = planned(1, work(ms=900, fewest_replicas=2)).deployments
    assert (got.least_replicas, got.replicas) == (2, 2)
    [got] = planned(40, work(ms=900, fewest_replicas=2), least_streams=20).deployments
    assert (got.least_replicas, got.replicas) == (5, 10)


def test_a_deployment_that_does_not_scale_has_its_number_all_the_time():
    [got] = planned(10, work(ms=900, autoscaled=False), least_streams=1).deployments
    assert got.least_replicas == got.replicas == 3


def test_more_streams_at_the_quietest_time_than_at_the_busiest_change_nothing():
    [got] = planned(1, work(ms=900), least_streams=100).deployments
    assert got.least_replicas == got.replicas == 1


@given(st.integers(0, 10**6), st.floats(0.05, 1), st.floats(0.1, 30), st.floats(0.1, 60_000))
def test_more_streams_never_need_less(streams, utilisation, fragment_s, ms):
    less, more = (
        planned(count, work(ms=ms, num_gpus=0.5), utilisation=utilisation, fragment_s=fragment_s)
        for count in (streams, streams * 2)
    )
    assert less.deployments[0].replicas <= more.deployments[0].replicas
    assert less.gpus <= more.gpus
    assert less.cpus <= more.cpus


# --- problems ---


def test_a_fragment_that_takes_so_long_that_the_door_would_close_is_a_problem():
    assert planned(1, work(ms=2550, num_gpus=0.5)).problems == ()
    [problem] = planned(1, work(ms=2650, num_gpus=0.5)).problems
    assert "takes 5300 ms" in problem
    assert "has 8000 ms" in problem
    assert "QUEUE_FULL" in problem


def test_the_longest_that_a_service_may_take_is_not_held_against_the_fragment():
    slow = Work("Translation", figure(7900, How.CONFIGURED), figure(1))
    got = planned(1, slow, work(ms=1000))
    assert got.alone_ms == 1000
    assert got.problems == ()


def test_a_card_that_is_too_small_is_a_problem():
    assert planned(2, work(ms=900, num_gpus=0.5, gpu_memory_gib=figure(6))).problems == ()  # one replica, one card
    [problem] = planned(8, work(ms=900, num_gpus=0.5, gpu_memory_gib=figure(6))).problems
    assert problem == "12.0 GiB are needed on one card, and card has 10"


def test_a_share_of_memory_that_is_too_small_is_a_problem():
    [problem] = planned(1, work(num_gpus=0.5, gpu_memory_gib=figure(4), gpu_memory_fraction=0.3)).problems
    assert problem == "Tts needs 4.0 GiB, and gpu_memory_fraction 0.3 leaves it 3.0 of a card"


def test_a_card_of_unknown_memory_is_not_judged():
    unknown = Card("new", None)
    got = planned(8, work(num_gpus=0.5, gpu_memory_gib=figure(600), gpu_memory_fraction=0.1), card=unknown)
    assert got.problems == ()
    assert got.card is unknown
