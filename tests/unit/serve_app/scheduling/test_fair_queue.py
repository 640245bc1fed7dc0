"""A hog takes what its neighbours leave and no more; judged call by call, and on a stage in virtual time."""

import itertools
import math
import random
from collections.abc import Callable

import pytest

from serve_app.scheduling.fair_queue import MOST_PATIENCE_S, PROOFS, RECENT_S, WITNESSES, FairQueue, Turn
from tests.unit.serve_app.scheduling.fair_queue_model import Stage

SLOWER = 1.25
"""How much longer neighbours may take at p95 beside a hog."""
LEARNING_S, COUNTED_S = 60.0, 240.0


def fixed(_: random.Random) -> float:
    return 0.8


def varied(dice: random.Random) -> float:
    return dice.uniform(0.4, 1.2)


CASES: dict[str, tuple[list[float], int, Callable[[random.Random], float]]] = {
    "four slots, three neighbours": ([1.2] * 3, 4, fixed),
    "their calls vary": ([1.2] * 3, 4, varied),
    "sixteen slots, twenty neighbours": ([2.0] * 20, 16, fixed),
    "two slots, one neighbour": ([1.2], 2, fixed),
}


def stage(case: str, seed: int, hogs: int = 1) -> Stage:
    periods_s, servers, service_s = CASES[case]
    found = Stage(periods_s + [0.06] * hogs, servers=servers, service_s=service_s, seed=seed)
    found.run(LEARNING_S)
    found.run(LEARNING_S + COUNTED_S)
    return found


def neighbours_p95_s(found: Stage, count: int) -> float:
    took_s = sorted(value for seen in found.seen[:count] for value in seen.took_s)
    return took_s[int(0.95 * len(took_s))]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_hog_does_not_slow_its_neighbours(case: str, seed: int) -> None:
    count = len(CASES[case][0])
    alone, beside = stage(case, seed, hogs=0), stage(case, seed)
    assert neighbours_p95_s(beside, count) <= SLOWER * neighbours_p95_s(alone, count)
    assert not any(seen.late or seen.refused for seen in beside.seen[:count])


@pytest.mark.parametrize("case", CASES)
def test_a_hog_has_what_is_left_and_in_time(case: str) -> None:
    periods_s, servers, _ = CASES[case]
    found = stage(case, seed=1)
    hog = found.seen[-1]
    assert found.computing_s >= 0.6 * servers * COUNTED_S
    assert len(hog.took_s) * periods_s[0] >= COUNTED_S  # more than a neighbour
    assert hog.late <= 0.02 * len(hog.took_s)
    assert hog.refused > len(hog.took_s)


def test_without_turns_a_hog_slows_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FairQueue, "_share", lambda self: math.inf)
    case = "four slots, three neighbours"
    assert neighbours_p95_s(stage(case, 1), 3) > 1.5 * neighbours_p95_s(stage(case, 1, hogs=0), 3)


def test_what_is_free_now_and_then_must_be_kept_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FairQueue, "_kept_free", lambda self: 0)
    case = "two slots, one neighbour"
    assert neighbours_p95_s(stage(case, 1), 1) > SLOWER * neighbours_p95_s(stage(case, 1, hogs=0), 1)


def test_a_stream_that_is_alone_has_all_slots() -> None:
    found = Stage([0.06], servers=4, service_s=fixed)
    found.run(LEARNING_S)
    found.run(LEARNING_S + COUNTED_S)
    assert found.computing_s >= 0.97 * 4 * COUNTED_S


@pytest.mark.parametrize("count", [3, 5, 9])
def test_equal_hogs_share_equally_and_use_everything(count: int) -> None:
    found = Stage([0.2] * count, servers=4, service_s=varied)
    found.run(LEARNING_S)
    found.run(LEARNING_S + COUNTED_S)
    done = [len(seen.took_s) for seen in found.seen]
    assert found.computing_s >= 0.95 * 4 * COUNTED_S
    assert max(done) <= 1.3 * min(done)


def test_the_room_is_found_by_calls_that_waited() -> None:
    found = stage("four slots, three neighbours", seed=1)
    assert found.turns.room == pytest.approx(4, abs=1.5)


# --- call by call -----------------------------------------------------------------------------------------------------


def come(turns: FairQueue, stream: str, now: float = 0.0) -> Turn:
    turn = Turn(stream, now)
    turns.come(turn)
    return turn


def with_room(room: float) -> FairQueue:
    turns = FairQueue()
    turns.room = room
    return turns


def test_nobody_waits_until_calls_have_waited_for_a_slot() -> None:
    turns = FairQueue()
    assert all(come(turns, stream).started_at == 0.0 for stream in "ab" * 50)


def test_a_call_within_the_share_goes_at_once_whatever_the_others_have() -> None:
    turns = with_room(4)
    hog = [come(turns, "hog") for _ in range(8)]
    assert all(turn.started_at is not None for turn in hog)  # alone
    assert [come(turns, "calm").started_at for _ in range(3)] == [0.0, 0.0, None]


def test_a_call_beyond_the_share_takes_what_others_leave() -> None:
    turns = with_room(4)
    come(turns, "calm")
    hog = [come(turns, "hog") for _ in range(5)]
    assert [turn.started_at is not None for turn in hog] == [True, True, True, False, False]


def test_slots_that_others_used_lately_are_kept_free_until_they_are_stale() -> None:
    turns = with_room(4)
    calm = [come(turns, name) for name in ("a", "b", "c")]
    for turn in calm:
        turns.leave(turn, 0.5)
    hog = [come(turns, "hog", 1.0) for _ in range(4)]
    assert [turn.started_at is not None for turn in hog] == [True, True, False, False]
    turns.leave(hog[0], 2.0)
    assert [turn.started_at is not None for turn in hog] == [True, True, True, False]
    later = 3 * RECENT_S
    come(turns, "a", later)
    assert hog[3].started_at == later


def test_what_waits_starts_in_order_and_the_stream_that_holds_least_first() -> None:
    turns = with_room(2)
    held = [come(turns, "one"), come(turns, "two", 0.1)]
    one, two = [come(turns, "one", 1.0), come(turns, "one", 1.1)], [come(turns, "two", 1.2)]
    assert turns.leave(held[1], 2.0) == two
    assert turns.leave(held[0], 3.0) == one[:1]
    assert turns.leave(one[0], 4.0) == one[1:]


def test_a_call_that_is_given_up_while_it_waits_never_starts() -> None:
    turns = with_room(2)
    first, _ = come(turns, "hog"), come(turns, "calm")
    waiting = [come(turns, "hog"), come(turns, "hog")]
    assert turns.leave(waiting[0], 1.0) == []
    assert turns.leave(first, 1.0) == [waiting[1]]
    assert turns.leave(come(turns, "hog"), 1.0) == []


def test_streams_are_forgotten_but_not_while_they_have_calls() -> None:
    turns = with_room(4)
    gone, kept = come(turns, "gone"), come(turns, "kept")
    turns.leave(gone, 1.0)
    come(turns, "new", 2 * RECENT_S)
    assert len(turns) == 2
    turns.leave(kept, 2 * RECENT_S)
    come(turns, "new", 4 * RECENT_S)
    assert len(turns) == 1


def finish(turns: FairQueue, beside: int, took_s: float, now: float, computed_s: float | None = 1.0) -> None:
    """One call of so many at once."""
    started = [come(turns, f"s{n}", now) for n in range(beside)]
    turns.leave(started[-1], now + took_s, computed_s)
    for turn in started[:-1]:
        turns.leave(turn, now + took_s)


def test_calls_that_waited_tell_the_room_once_enough_of_them_say_so() -> None:
    turns = FairQueue()
    for n in range(WITNESSES):
        assert turns.room == math.inf
        finish(turns, beside=8, took_s=2.0, now=10.0 * n)
    assert turns.room == 4.0


def test_a_call_among_as_many_that_did_not_wait_refutes_one_that_did() -> None:
    turns = with_room(20)
    for n in range(4 * WITNESSES):
        finish(turns, beside=8, took_s=2.0 if n % 2 else 1.0, now=10.0 * n)
    assert turns.room == 20


def test_fewer_at_once_refute_nothing() -> None:
    turns = with_room(20)
    for n in range(2 * WITNESSES):
        finish(turns, beside=8 if n % 2 else 7, took_s=2.0 if n % 2 else 1.0, now=10.0 * n)
    assert turns.room == 4.0


def test_waits_that_the_room_accounts_for_do_not_shrink_it() -> None:
    turns = with_room(4)
    for n in range(3 * WITNESSES):
        finish(turns, beside=10, took_s=2.0, now=10.0 * n)
    assert turns.room == 4.0


@pytest.mark.parametrize(("took_s", "room"), [(2.0, 1.0), (1.5, math.inf)])
def test_calls_that_were_given_up_count_as_waiting_if_they_took_long(took_s: float, room: float) -> None:
    turns = FairQueue()
    finish(turns, beside=1, took_s=0.5, now=0.0, computed_s=0.5)
    for n in range(1, 1 + WITNESSES):
        finish(turns, beside=2, took_s=took_s if room == 1.0 else 0.9, now=10.0 * n, computed_s=None)
    assert turns.room == room


def test_nothing_is_learnt_from_calls_that_were_given_up_before_any_ended_well() -> None:
    turns = FairQueue()
    for n in range(2 * WITNESSES):
        finish(turns, beside=4, took_s=50.0, now=100.0 * n, computed_s=None)
    assert turns.room == math.inf


class Pressed:
    """FairQueue of a stage that is always full: a hog waits beside a neighbour."""

    def __init__(self, room: int, slots: int) -> None:
        self.turns = with_room(room)
        self.slots = slots
        self.now = 0.0

    def step(self) -> float:
        """Fill the room and let one call end that started last; the room thereafter."""
        self.now += 0.5
        calm = come(self.turns, "calm", self.now)
        hog = [come(self.turns, "hog", self.now) for _ in range(40)]
        started = [turn for turn in hog if turn.started_at is not None]
        last = started[-1]
        took_s = max(1.0, last.beside / self.slots)
        self.turns.leave(last, self.now + took_s, 1.0)
        for turn in [calm, *reversed(hog)]:
            if turn is not last:
                self.turns.leave(turn, self.now)
        return self.turns.room


def test_more_room_is_tried_again_and_again_and_seldom_where_there_is_none() -> None:
    pressed = Pressed(room=4, slots=4)
    rooms = [pressed.step() for _ in range(2000)]
    tries = sum(later > earlier for earlier, later in itertools.pairwise(rooms))
    assert max(rooms) <= 6
    assert 5 <= tries <= 2 * 1000 / MOST_PATIENCE_S + 10


def test_more_room_is_found_soon_where_there_is_some() -> None:
    pressed = Pressed(room=4, slots=12)
    steps = next(n for n in range(1000) if pressed.step() >= 12)
    assert steps <= 10 * PROOFS
    assert pressed.turns.room <= 13


# --- whatever happens -------------------------------------------------------------------------------------------------


def drive(seed: int) -> None:
    """Calls that come, end well or not, and are given up; AssertionError when one is lost or starts out of turn."""
    dice = random.Random(seed)  # noqa: S311 - dice of a test, not a secret
    turns, now = with_room(dice.choice([1, 2, 3.4, 8, math.inf])), 0.0
    running: list[Turn] = []
    waiting: list[Turn] = []
    for _ in range(300):
        now += dice.expovariate(2)
        roll = dice.random()
        if roll < 0.5:
            turn = Turn(dice.choice("abcde"), now)
            waiting.append(turn)
            started = turns.come(turn)
        elif roll < 0.9 and running:
            over = running.pop(dice.randrange(len(running)))
            started = turns.leave(over, now, dice.choice([None, 0.1, 1.0]))
        elif waiting:
            started = turns.leave(waiting.pop(dice.randrange(len(waiting))), now)
        else:
            started = []
        for turn in started:
            assert [turn] == [other for other in waiting if other.stream == turn.stream][:1]
            assert turn.started_at == now
            waiting.remove(turn)
            running.append(turn)
        assert {turn.stream for turn in waiting} <= {turn.stream for turn in running}
        assert all(turn.started_at is None for turn in waiting)
        assert turns.room >= 1
    while running:
        running = running[1:] + turns.leave(running[0], now)
    assert all(turn.started_at is not None for turn in waiting)


def drive_all() -> None:
    for seed in range(100):
        drive(seed)


def test_every_call_starts_in_turn_and_a_stream_without_one_never_waits() -> None:
    drive_all()


def nothing_is_the_share_of_many(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(FairQueue, "_share", lambda self: self.room // len(self))


def what_is_given_up_starts_all_the_same(patch: pytest.MonkeyPatch) -> None:
    kind = FairQueue.leave
    patch.setattr(
        FairQueue, "leave", lambda self, turn, *told: [] if turn.started_at is None else kind(self, turn, *told)
    )


def what_ends_is_followed_by_nothing(patch: pytest.MonkeyPatch) -> None:
    kind = FairQueue._start
    patch.setattr(FairQueue, "_start", lambda self, now: kind(self, now) if self._busy == 0 else [])


def the_last_to_come_goes_first(patch: pytest.MonkeyPatch) -> None:
    kind = FairQueue.come

    def come(self: FairQueue, turn: Turn) -> list[Turn]:
        started = kind(self, turn)
        if turn.started_at is None:
            self._streams[turn.stream].waiting.rotate(1)
        return started

    patch.setattr(FairQueue, "come", come)


@pytest.mark.parametrize(
    "plant",
    [
        nothing_is_the_share_of_many,
        what_is_given_up_starts_all_the_same,
        what_ends_is_followed_by_nothing,
        the_last_to_come_goes_first,
    ],
)
def test_the_same_drive_catches(plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        drive_all()


def test_what_a_stage_says_that_it_computes_at_once_is_the_most_that_is_tried() -> None:
    turns = FairQueue()
    turns.serves(4)
    assert turns.room == 4
    turns.serves(8)
    assert turns.room == 8
    now = 100.0
    for _ in range(40):
        running = [Turn(f"s{n % 2}", now) for n in range(12)]
        started = [one for turn in running for one in turns.come(turn)]
        assert len(started) == 8
        while started:
            now += 0.1
            started = started[1:] + turns.leave(started[0], now, now - started[0].started_at)
    assert turns.room == 8


def test_room_that_others_were_seen_to_use_is_not_given_back_by_hearsay() -> None:
    turns = FairQueue()
    turns.serves(8)
    turns.room = 3.0
    turns.serves(8)
    assert turns.room == 3.0
    turns.serves(2)
    assert turns.room == 2
