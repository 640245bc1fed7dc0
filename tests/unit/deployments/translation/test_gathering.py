"""Texts that come together are translated together; none waits for long, and none is worked on for nobody."""

import asyncio

import pytest

from deployments.errors import InvalidText, Stage, TranslationUnavailable
from deployments.translation.apertium import ApertiumOptions
from deployments.translation.deepl import DeepLOptions
from deployments.translation.gathering import Batching, BatchLimits, Gatherer


class Timers:
    def __init__(self) -> None:
        self.set: list[tuple[float, object]] = []

    def after(self, delay_s, action):
        timer = _Timer(self, (delay_s, action))
        self.set.append(timer.entry)
        return timer

    def fire(self) -> None:
        for _, action in list(self.set):
            action()


class _Timer:
    def __init__(self, timers: Timers, entry) -> None:
        self.timers, self.entry = timers, entry

    def cancel(self) -> None:
        if self.entry in self.timers.set:
            self.timers.set.remove(self.entry)


class Work:
    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.go = asyncio.Event()
        self.go.set()
        self.fails: BaseException | None = None
        self.cancelled = False

    async def __call__(self, items):
        self.calls.append(list(items))
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self.fails is not None:
            raise self.fails
        return [InvalidText(Stage.TRANSLATION, "bad") if item == "bad" else item.upper() for item in items]


@pytest.fixture
def timers() -> Timers:
    return Timers()


@pytest.fixture
async def work() -> Work:
    return Work()


@pytest.fixture
def gatherer(work, timers) -> Gatherer[str, str]:
    return Gatherer(work, BatchLimits(3, 10), timers.after)


async def submitted(gatherer, *items, key="k"):
    tasks = [asyncio.ensure_future(gatherer.submit(key, item)) for item in items]
    await asyncio.sleep(0)
    return tasks


async def test_what_comes_in_time_goes_together(gatherer, work, timers):
    tasks = await submitted(gatherer, "a", "b")
    assert (work.calls, [delay_s for delay_s, _ in timers.set]) == ([], [0.01])
    timers.fire()
    assert await asyncio.gather(*tasks) == ["A", "B"]
    assert work.calls == [["a", "b"]]


async def test_a_full_batch_waits_for_nobody(gatherer, work, timers):
    tasks = await submitted(gatherer, "a", "b", "c")
    assert await asyncio.gather(*tasks) == ["A", "B", "C"]
    assert timers.set == []


async def test_keys_stay_apart(gatherer, work, timers):
    one = await submitted(gatherer, "a", key="x")
    other = await submitted(gatherer, "b", key="y")
    timers.fire()
    assert await asyncio.gather(*one, *other) == ["A", "B"]
    assert work.calls == [["a"], ["b"]]


async def test_one_that_fails_leaves_the_others_alone(gatherer, timers):
    tasks = await submitted(gatherer, "a", "bad", "c")
    first, bad, last = await asyncio.gather(*tasks, return_exceptions=True)
    assert (first, last) == ("A", "C")
    assert isinstance(bad, InvalidText)


async def test_a_call_that_fails_fails_for_all(gatherer, work):
    work.fails = TranslationUnavailable(Stage.TRANSLATION, "no")
    tasks = await submitted(gatherer, "a", "b", "c")
    assert await asyncio.gather(*tasks, return_exceptions=True) == [work.fails] * 3


async def test_who_has_gone_is_not_worked_for(gatherer, work, timers):
    gone, stays = await submitted(gatherer, "a", "b")
    gone.cancel()
    await asyncio.sleep(0)
    timers.fire()
    assert await stays == "B"
    assert work.calls == [["b"]]


async def test_when_all_have_gone_nothing_starts(gatherer, work, timers):
    [gone] = await submitted(gatherer, "a")
    gone.cancel()
    await asyncio.sleep(0)
    timers.fire()
    await asyncio.sleep(0)
    assert work.calls == []


async def test_who_goes_while_it_runs_keeps_nobody_from_his_answer(gatherer, work):
    work.go.clear()
    gone, *others = await submitted(gatherer, "a", "b", "c")
    await asyncio.sleep(0)
    gone.cancel()
    work.go.set()
    assert await asyncio.gather(*others) == ["B", "C"]
    assert gone.cancelled()


async def test_a_call_whose_callers_have_all_gone_is_cancelled(gatherer, work):
    work.go.clear()
    first, *others = await submitted(gatherer, "a", "b", "c")
    await asyncio.sleep(0)
    for task in others:
        task.cancel()
    await asyncio.sleep(0)
    assert not work.cancelled
    first.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert work.cancelled


async def test_a_call_that_is_cancelled_cancels_its_callers(gatherer, work):
    work.fails = asyncio.CancelledError()
    tasks = await submitted(gatherer, "a", "b", "c")
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)


def test_deepl_gathers_and_apertium_does_not():
    assert isinstance(DeepLOptions(engine="deepl", api_key="k").build(), Batching)
    assert not isinstance(ApertiumOptions(engine="apertium").build(), Batching)
