"""Openings of one stream on several ingress replicas: the news in any order, late or lost, and no clock asked."""

import itertools
import random
import time
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from serve_app.access import Principal, Subject
from serve_app.scheduling.epochs import Epochs
from serve_app.transport.registry import Streams

STREAM = "radio"


class Quiet:
    """An observer that counts nothing."""

    def observe(self, effect): ...
    def load(self, streams, in_flight, limit): ...


class Session:
    """As much of a session as takeover needs; ended is how it ended."""

    in_flight = 0

    def __init__(self, session_id: str) -> None:
        self.settings = SimpleNamespace(stream_id=STREAM, session_id=session_id)
        self.ended = ""

    def replace(self, *_):
        self.ended = "replaced"
        return []

    def disconnect(self, *_):
        self.ended = self.ended or "gone"
        return []

    def next_tick(self):
        return None


class Wire:
    """As much of a connection."""

    sid = "sid"
    epoch = None

    def __init__(self, subject: str) -> None:
        self.session = None
        self.principal = Principal(Subject(subject), "")

    def post(self, item): ...
    def tick_at(self, when, tick): ...


@dataclass(eq=False)
class Opening:
    """A worker that opens the stream on one replica."""

    at: int
    session: Session
    wire: Wire

    @property
    def ended(self) -> str:
        return self.session.ended


@dataclass
class Cluster:
    """Replicas, and what is on its way between them. Who runs it picks what arrives next."""

    size: int
    names: "itertools.count[int]" = field(default_factory=itertools.count)
    session_ids: list[str] = field(default_factory=list)
    """For the next openings; then made-up ones."""

    def __post_init__(self) -> None:
        self.replicas = [Streams(None, Quiet(), lambda: 0.0) for _ in range(self.size)]
        self.due: list = []
        self.waiting: list = []
        """Of each opening, what happens when an answer doesn't come."""

    def open(self, at: int, subject: str = "") -> Opening:
        """As the Ingress does it: ask all others, take a number, tell it to all others."""
        session = Session(self.session_ids.pop(0) if self.session_ids else f"s{next(self.names)}")
        opening = Opening(at, session, Wire(subject))
        self.replicas[at].register(opening.wire, session)
        others = [other for other in range(self.size) if other != at]
        answers: list[int] = []
        told: list[bool] = []

        def tell(answers: list[int]) -> None:
            if told:
                return
            told.append(True)
            news = self.replicas[at].settle(STREAM, session.settings.session_id, answers)
            if news is not None:
                self.due.extend((lambda other=other: heard(other, news)) for other in others)

        def heard(other: int, news) -> None:
            stays = not self.replicas[other].let_go(news)
            if stays:
                self.due.append(lambda: self.replicas[at].expel(news))

        def asked(other: int) -> None:
            answer = self.replicas[other].epoch(STREAM)
            self.due.append(lambda: answered(answer))

        def answered(answer: int) -> None:
            answers.append(answer)
            if len(answers) == len(others):
                tell(answers)

        self.due.extend((lambda other=other: asked(other)) for other in others)
        self.waiting.append(lambda: tell([]))
        return opening

    def leave(self, opening: Opening) -> None:
        """The worker's connection ends."""
        self.replicas[opening.at].forget(opening.wire)
        opening.wire.session = None
        opening.session.ended = opening.session.ended or "gone"

    def run(self, pick=lambda due: 0) -> None:
        """Let everything arrive."""
        while self.due:
            self.due.pop(pick(self.due))()

    def live(self, openings: list[Opening]) -> list[Opening]:
        return [opening for opening in openings if not opening.ended]


def schedules(scenario, limit: int = 20_000):
    """Run a scenario with every order of arrivals, one after the other."""
    prefix: list[int] = []
    for _ in range(limit):
        taken: list[tuple[int, int]] = []

        def pick(due, taken=taken, prefix=tuple(prefix)) -> int:
            choice = prefix[len(taken)] if len(taken) < len(prefix) else 0
            taken.append((choice, len(due)))
            return choice

        scenario(pick)
        while taken and taken[-1][0] + 1 == taken[-1][1]:
            taken.pop()
        if not taken:
            return
        prefix = [choice for choice, _ in taken[:-1]] + [taken[-1][0] + 1]
    raise AssertionError("too many orders to try all")


@pytest.fixture
def skewed(monkeypatch):
    """Wall clocks that tell nothing."""
    monkeypatch.setattr(time, "time", lambda: random.uniform(0, 2e9))  # noqa: S311


@pytest.mark.parametrize("ids", [["a", "b"], ["b", "a"]])
@pytest.mark.usefixtures("skewed")
def test_of_two_openings_one_after_the_other_the_newer_one_wins_in_every_order(ids):
    """The clocks of their nodes may say what they like, and so may their names."""

    def scenario(pick):
        cluster = Cluster(3, session_ids=list(ids))
        old = cluster.open(0)
        cluster.run(pick)
        new = cluster.open(1)
        cluster.run(pick)
        assert (old.ended, new.ended) == ("replaced", "")

    schedules(scenario)


@pytest.mark.parametrize("ids", [["a", "b"], ["b", "a"]])
def test_of_two_openings_at_the_same_time_exactly_one_stays_in_every_order(ids):
    """Neither both nor none."""

    def scenario(pick):
        cluster = Cluster(2, session_ids=list(ids))
        both = [cluster.open(0), cluster.open(1)]
        cluster.run(pick)
        assert [opening.ended for opening in both].count("") == 1

    schedules(scenario)


def test_where_two_take_the_same_number_the_name_decides():
    """On both replicas alike."""
    for ids in (["a", "b"], ["b", "a"]):
        cluster = Cluster(2, session_ids=list(ids))
        both = [cluster.open(0), cluster.open(1)]
        cluster.run()  # first come, first served: each has asked before one has its number
        assert [opening.session.settings.session_id for opening in cluster.live(both)] == ["b"]


def test_one_that_opens_while_the_older_one_has_no_number_yet_leaves_one_of_them():
    """However the news of both overtake each other."""

    def scenario(pick):
        cluster = Cluster(2)
        old = cluster.open(0)
        cluster.due.pop(pick(cluster.due))()
        new = cluster.open(1)
        cluster.run(pick)
        assert len(cluster.live([old, new])) == 1

    schedules(scenario)


def test_late_news_of_a_connection_that_is_gone_harm_nobody():
    """A worker lost its connection and came back elsewhere before its first opening was told."""

    def scenario(pick):
        cluster = Cluster(2, session_ids=["z", "a"])
        gone = cluster.open(0)
        for _ in range(2):
            cluster.due.pop(0)()
        late, cluster.due = cluster.due, []
        cluster.leave(gone)
        fresh = cluster.open(1)
        cluster.due += late
        cluster.run(pick)
        assert fresh.ended == ""

    schedules(scenario)


@pytest.mark.parametrize("seed", range(300))
def test_with_three_replicas_and_many_openings_one_stays(seed):
    """Some workers leave meanwhile; who opened last, when all was quiet, is the one."""
    chance = random.Random(seed)  # noqa: S311
    cluster = Cluster(3, session_ids=[f"{chance.random():.6f}" for _ in range(9)])
    openings: list[Opening] = []
    while len(openings) < 8:
        if cluster.due and chance.random() < 0.7:
            cluster.due.pop(chance.randrange(len(cluster.due)))()
        elif openings and chance.random() < 0.15:
            cluster.leave(chance.choice(openings))
        else:
            openings.append(cluster.open(chance.randrange(3)))
    cluster.run(lambda due: chance.randrange(len(due)))
    live = cluster.live(openings)
    assert len(live) <= 1
    assert live or any(opening.ended == "gone" for opening in openings)
    last = cluster.open(chance.randrange(3))
    cluster.run(lambda due: chance.randrange(len(due)))
    assert cluster.live([*openings, last]) == [last]


@pytest.mark.parametrize("seed", range(200))
def test_lost_news_never_end_all_and_the_next_opening_wins_where_they_reach(seed):
    """Whatever is lost, nobody ends who is the newest."""
    chance = random.Random(seed)  # noqa: S311
    cluster = Cluster(3, session_ids=[f"{chance.random():.6f}" for _ in range(5)])
    openings = [cluster.open(chance.randrange(3)) for _ in range(4)]
    while cluster.due or cluster.waiting:
        if not cluster.due:
            cluster.waiting.pop(chance.randrange(len(cluster.waiting)))()
            continue
        arriving = cluster.due.pop(chance.randrange(len(cluster.due)))
        if chance.random() < 0.7:
            arriving()
    assert cluster.live(openings)
    last = cluster.open(chance.randrange(3))
    cluster.run()
    assert cluster.live([*openings, last]) == [last]


def test_another_subjects_stream_stays_and_the_newcomer_is_expelled_in_every_order():
    """Whatever the names of their sessions are."""

    def scenario(pick):
        cluster = Cluster(3)
        owner = cluster.open(0, "owner")
        cluster.run(pick)
        stranger = cluster.open(1, "stranger")
        cluster.run(pick)
        assert (owner.ended, stranger.ended) == ("", "gone")

    schedules(scenario)


@pytest.mark.parametrize("ids", [["a", "b"], ["b", "a"]])
def test_of_two_subjects_at_the_same_time_exactly_one_stays_in_every_order(ids):
    """The one that the other replica would have had to let go is the newcomer."""

    def scenario(pick):
        cluster = Cluster(2, session_ids=list(ids))
        both = [cluster.open(0, "one"), cluster.open(1, "other")]
        cluster.run(pick)
        assert [opening.ended for opening in both].count("") == 1

    schedules(scenario)


def test_a_replica_that_has_just_started_learns_the_number_from_the_others():
    """It has heard of no opening, and its own is the newest all the same."""
    cluster = Cluster(2)
    for _ in range(5):
        old = cluster.open(0)
        cluster.run()
    cluster.replicas[1] = Streams(None, Quiet(), lambda: 0.0)
    new = cluster.open(1)
    cluster.run()
    assert (old.ended, new.ended) == ("replaced", "")


def test_of_the_streams_that_are_gone_only_so_many_are_remembered():
    """Those heard of longest ago are forgotten first."""
    epochs = Epochs(max_streams=2)
    for number, stream_id in enumerate(["a", "b", "a", "c"], 1):
        epochs.note(stream_id, number)
    epochs.note("a", 1)
    assert [epochs.largest(stream_id) for stream_id in "abc"] == [3, 0, 4]
    assert len(epochs) == 2
