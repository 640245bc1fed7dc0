"""What a replica tells of how much it computes."""

import pytest

from deployments.replica.utilisation import Utilisation


class Clock:
    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_an_idle_replica_is_not_busy_and_knows_no_time(clock):
    load = Utilisation(2, clock)
    clock.now_s += 5

    assert load.read() == {"busy": 0.0, "slots": 2.0}


def test_busy_is_the_share_of_all_slots_since_it_was_read_last(clock):
    load = Utilisation(2, clock)
    with load.one():
        clock.now_s += 1
        with load.one():
            clock.now_s += 1
    clock.now_s += 2

    assert load.read()["busy"] == pytest.approx(3 / 8)
    clock.now_s += 1
    assert load.read()["busy"] == 0.0


def test_a_call_that_still_computes_counts_so_far(clock):
    load = Utilisation(1, clock)
    with load.one():
        clock.now_s += 3
        assert load.read() == {"busy": 1.0, "slots": 1.0}
        clock.now_s += 1
    clock.now_s += 1

    assert load.read()["busy"] == pytest.approx(0.5)


def test_the_fragments_of_one_call_share_its_time(clock):
    load = Utilisation(1, clock)
    with load.one(8):
        clock.now_s += 0.8

    assert load.read()["computing_ms"] == pytest.approx(100)


def test_the_computing_time_follows_without_jumping(clock):
    load = Utilisation(1, clock)
    for elapsed_s in (0.1, 0.6):
        with load.one():
            clock.now_s += elapsed_s

    assert load.read()["computing_ms"] == pytest.approx(200)


def test_a_call_that_fails_has_computed_too(clock):
    load = Utilisation(1, clock)

    def fail():
        with load.one():
            clock.now_s += 0.2
            raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        fail()
    clock.now_s += 0.2

    assert load.read() == {"busy": pytest.approx(0.5), "slots": 1.0, "computing_ms": pytest.approx(200)}


def test_reading_twice_at_once_divides_by_nothing(clock):
    load = Utilisation(1, clock)
    load.read()

    assert load.read()["busy"] == 0.0
