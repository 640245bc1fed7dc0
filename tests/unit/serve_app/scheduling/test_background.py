"""Calls in the background take what live calls leave: judged move by move, and on a stage in virtual time."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.scheduling.fair_queue import RECENT_S, FairQueue, Priority, Turn
from tests.unit.serve_app.scheduling.fair_queue_model import Stage
from tests.unit.serve_app.scheduling.test_fair_queue import come, varied, with_room

MOVES = st.lists(
    st.tuples(
        st.sampled_from(["live", "background", "over", "given up", "look"]),
        st.integers(0, 20),
        st.sampled_from([0.0, 0.3, 2.0, RECENT_S]),
    ),
    max_size=80,
)


def file(turns: FairQueue, stream: str, now: float = 0.0) -> Turn:
    turn = Turn(stream, now, Priority.BACKGROUND)
    turns.come(turn)
    return turn


class Checked:
    """A queue that is moved, each start in the background judged by what was seen from outside."""

    def __init__(self, room: float) -> None:
        self.turns = with_room(room)
        self.now = 0.0
        self.running: list[Turn] = []
        self.waiting: list[Turn] = []
        self.waited_since = -math.inf

    def move(self, what: str, which: int) -> None:
        if what in ("live", "background"):
            priority = Priority.LIVE if what == "live" else Priority.BACKGROUND
            turn = Turn(f"{what}-{which % 4}", self.now, priority)
            if turn.priority > max((one.priority for one in self.waiting), default=Priority.LIVE):
                self.waited_since = self.now
            self.waiting.append(turn)
            self._take(self.turns.come(turn))
        elif what == "look":
            self._take(self.turns.look(self.now))
        elif of := self.running if what == "over" else self.waiting:
            self._take(self.turns.leave(of.pop(which % len(of)), self.now))

    def _take(self, started: list[Turn]) -> None:
        for turn in started:
            if turn.priority is Priority.BACKGROUND:
                self._judge(turn, started)
                self.waited_since = self.now
            self.waiting.remove(turn)
            self.running.append(turn)

    def _judge(self, turn: Turn, started: list[Turn]) -> None:
        live = [one for one in self.waiting if one.priority is Priority.LIVE and one not in started]
        assert not live, "it went before a live call"
        assert turn.beside <= max(1, self.turns.room + 0.5), "it found no idle slot"
        others = [one for one in self.running if one.priority is Priority.BACKGROUND]
        kept = turn.beside + self.turns._kept_free() > self.turns.room + 0.5
        if kept:
            assert not others, "two took what is kept free"
            assert self.now - self.waited_since >= RECENT_S, "it took what is kept free too soon"


@given(st.sampled_from([1, 2, 3.4, 8, math.inf]), MOVES)
def test_no_call_in_the_background_starts_where_a_live_one_waits_or_may_soon_come(room, moves):
    checked = Checked(room)
    for what, which, later_s in moves:
        checked.now += later_s
        checked.move(what, which)


@given(st.sampled_from([1, 2, 3.4, 8, math.inf]), MOVES)
def test_live_calls_start_as_if_nothing_waited_in_the_background(room, moves):
    """What only waits, such as behind a live call that fills the room, is to live calls as if it weren't there."""
    checked, bare = Checked(room), Checked(room)
    hog = Turn("file", 0.0, Priority.BACKGROUND)
    checked.turns._leaves_room = lambda now: False  # type: ignore[method-assign]
    checked.waiting.append(hog)
    assert checked.turns.come(hog) == []
    for what, which, later_s in moves:
        if what in ("live", "over"):
            for each in (checked, bare):
                each.now += later_s
                each.move(what, which)
    for seen in ("stream", "came_at", "started_at", "beside"):
        assert [getattr(one, seen) for one in checked.running] == [getattr(one, seen) for one in bare.running]


@given(st.sampled_from([1, 2, 3.4, 8, math.inf]), MOVES)
def test_all_calls_in_the_background_start_in_the_end(room, moves):
    checked = Checked(room)
    for what, which, later_s in moves:
        checked.now += later_s
        checked.move(what, which)
    for _ in range(2 * len(moves) + 1):
        checked.now += RECENT_S
        checked.move("look", 0)
        if checked.running:
            checked.move("over", 0)
    assert not checked.waiting


# --- call by call -----------------------------------------------------------------------------------------------------


def test_a_call_in_the_background_waits_for_live_ones_that_wait() -> None:
    turns = with_room(2)
    first, _ = come(turns, "hog"), come(turns, "calm")
    live, background = come(turns, "hog", 1.0), file(turns, "file", 0.5)
    assert turns.leave(first, 2.0) == [live]
    assert background.started_at is None


def test_a_live_call_within_its_share_waits_for_nothing_in_the_background() -> None:
    turns = with_room(2)
    files = [file(turns, "file") for _ in range(5)]
    assert [turn.started_at is not None for turn in files] == [True, True, False, False, False]
    assert come(turns, "live").started_at == 0.0


def test_files_take_nothing_of_the_shares_of_streams() -> None:
    turns = with_room(4)
    come(turns, "calm")
    for name in "abcdef":
        file(turns, name)
    assert turns._share() == math.inf
    come(turns, "other")
    assert turns._share() == 2


def test_what_live_calls_used_lately_is_kept_free_of_files_until_it_is_stale() -> None:
    turns = with_room(3)
    for turn in [come(turns, name) for name in ("a", "b")]:
        turns.leave(turn, 0.5)
    files = [file(turns, "file", 1.0) for _ in range(3)]
    assert [turn.started_at is not None for turn in files] == [True, False, False]
    assert turns.look(1.0 + RECENT_S) == []
    assert turns.look(2 * RECENT_S + 1) == files[1:]


def test_where_all_is_kept_free_one_file_has_an_idle_slot_now_and_then() -> None:
    turns, started = with_room(1), []
    for second in range(60):
        now = float(second)
        live = come(turns, "live", now)
        file(turns, "file", now)
        found = turns.leave(live, now + 0.5)
        for turn in found:
            assert turns.leave(turn, now + 0.9) == []
        started += found
    assert len(started) == 5


def test_files_are_fair_among_themselves() -> None:
    turns = with_room(2)
    first, *_ = [file(turns, "long") for _ in range(4)]
    short = file(turns, "short")
    assert turns.leave(first, 1.0) == [short]


# --- on a stage in virtual time ---------------------------------------------------------------------------------------

LEARNING_S, COUNTED_S = 60.0, 240.0


def stage(periods_s: list[float], servers: int, files: int) -> Stage:
    found = Stage(periods_s + [0.06] * files, servers=servers, service_s=varied, background=files)
    found.run(LEARNING_S)
    found.run(LEARNING_S + COUNTED_S)
    return found


def p95_s(found: Stage, count: int) -> float:
    took_s = sorted(value for seen in found.seen[:count] for value in seen.took_s)
    return took_s[int(0.95 * len(took_s))]


@pytest.mark.parametrize(("periods_s", "servers"), [([1.2] * 3, 4), ([2.0] * 20, 16)])
def test_files_do_not_slow_live_streams_and_use_what_these_leave(periods_s: list[float], servers: int) -> None:
    count = len(periods_s)
    alone, beside = stage(periods_s, servers, 0), stage(periods_s, servers, 2)
    assert p95_s(beside, count) <= 1.1 * p95_s(alone, count)
    assert not any(seen.late or seen.refused for seen in beside.seen[:count])
    assert beside.computing_s >= 0.6 * servers * COUNTED_S
