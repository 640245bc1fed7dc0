"""What goes together: never more than fit, never of two keys, first whoever's time runs out first, nobody lost."""

import math

from hypothesis import given
from hypothesis import strategies as st

from deployments.batching.collection import BatchLimits, Collection, Waiting

LIMITS = st.builds(BatchLimits, st.integers(1, 4), st.integers(0, 300))
ITEMS = st.lists(
    st.tuples(st.sampled_from("xy"), st.integers(0, 400), st.integers(0, 900)).map(
        lambda told: Waiting("item", told[0], told[1] / 1000, told[2] / 1000)
    ),
    max_size=12,
)


def collection(limits: BatchLimits, items: list[Waiting[str]]) -> Collection[Waiting[str]]:
    made: Collection[Waiting[str]] = Collection(limits)
    for item in sorted(items, key=lambda one: one.arrived_s):
        made.add(item)
    return made


@given(LIMITS, ITEMS, st.booleans())
def test_batches_are_full_or_have_waited_and_all_of_one_key(limits, items, company):
    waiting, now_s = collection(limits, items), 0.4
    batch = waiting.take(now_s, company=company)
    assert len(batch) <= limits.max_batch_size
    assert len({one.key for one in batch}) <= 1
    assert len(batch) + len(waiting) == len(items)
    if batch:
        waited_s = now_s - min(one.arrived_s for one in items if one.key == batch[0].key)
        full = len(batch) == limits.max_batch_size
        assert full or not company or waited_s >= limits.batch_wait_ms / 1000
        left = [one.end_by_s for one in waiting if one.key == batch[0].key]
        assert max(one.end_by_s for one in batch) <= min(left, default=math.inf)
    else:
        assert waiting.ready_in_s(now_s, company=company) > 0


@given(LIMITS, ITEMS, st.booleans())
def test_once_it_says_so_something_goes_and_all_go_in_the_end(limits, items, company):
    waiting, now_s, gone = collection(limits, items), 0.4, []
    while len(waiting):
        now_s += waiting.ready_in_s(now_s, company=company) + 1e-9
        batch = waiting.take(now_s, company=company)
        assert batch
        gone += batch
    assert set(map(id, gone)) == set(map(id, items))
    assert waiting.ready_in_s(now_s, company=company) == math.inf


@given(LIMITS, ITEMS)
def test_without_company_nobody_waits_and_the_first_to_run_out_goes_first(limits, items):
    waiting = collection(limits, items)
    ends = [waiting.take()[0].end_by_s for _ in range(len({one.key for one in items}))]
    assert ends[:1] == sorted(one.end_by_s for one in items)[:1]


def test_among_equals_who_came_first_goes_first():
    waiting: Collection[Waiting[int]] = Collection(BatchLimits(2))
    for number in range(5):
        waiting.add(Waiting(number))
    assert [[one.item for one in waiting.take()] for _ in range(4)] == [[0, 1], [2, 3], [4], []]


def test_what_gives_way_goes_behind_all_others_however_little_time_it_has():
    waiting = collection(
        BatchLimits(),
        [Waiting("late", end_by_s=9.0), Waiting("interim", end_by_s=0.1, gives_way=True), Waiting("soon")],
    )
    assert [waiting.take()[0].item for _ in range(3)] == ["late", "soon", "interim"]
