"""A rehearsal of a slower machine takes as many times as long as it says."""

from deployments.replica.slowdown import slowed


def test_a_call_takes_so_many_times_as_long() -> None:
    times, slept = iter([10.0, 12.5]), []
    assert slowed(lambda: "done", 4, clock=lambda: next(times), sleep=slept.append) == "done"
    assert slept == [7.5]


def test_at_its_own_speed_nothing_is_waited_for() -> None:
    slept: list[float] = []
    assert slowed(lambda: "done", 1, clock=lambda: 0.0, sleep=slept.append) == "done"
    assert not slept
