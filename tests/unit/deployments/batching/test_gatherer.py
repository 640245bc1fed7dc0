"""Items of many callers share calls: full batches, no idle waiting, deadlines, cancellation, failures one by one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextvars import ContextVar

import pytest

from deployments.batching.collection import BatchLimits
from deployments.batching.gatherer import Gatherer
from deployments.errors import DeadlineExceeded, InvalidAudio, ModelFailed, QueueFull, Stage, StageError
from deployments.forecast import TRY_AGAIN_AFTER_S


class Alarm:
    def __init__(self, due_s: float, action: Callable[[], None]) -> None:
        self.due_s = due_s
        self.action = action
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Bench:
    """A gatherer with a hand-driven clock and calls that end when the test says so."""

    def __init__(self, slots: int = 1, *, waits_for_all: bool = False) -> None:
        self.now_s = 0.0
        self.alarms: list[Alarm] = []
        self.calls: list[list[str]] = []
        self._ends: list[asyncio.Future[Sequence[str | StageError]]] = []
        self._tasks: set[asyncio.Task[str]] = set()
        self.gatherer: Gatherer[str, str] = Gatherer(
            Stage.ASR,
            self._call,
            BatchLimits(),
            slots,
            waits_for_all=waits_for_all,
            foretells=True,
            clock=lambda: self.now_s,
            after=self._after,
        )

    def _after(self, delay_s: float, action: Callable[[], None]) -> Alarm:
        self.alarms.append(Alarm(self.now_s + delay_s, action))
        return self.alarms[-1]

    async def _call(self, items: Sequence[str]) -> Sequence[str | StageError]:
        self.calls.append(list(items))
        self._ends.append(asyncio.get_running_loop().create_future())
        return await self._ends[-1]

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def submit(self, item: str, budget_ms: int = 5000, key: str | None = None) -> asyncio.Task[str]:
        return await self._asked(self.gatherer.submit(item, budget_ms, key))

    async def submit_coming(self, coming: Awaitable[str], budget_ms: int = 5000) -> asyncio.Task[str]:
        return await self._asked(self.gatherer.submit_coming(coming, budget_ms))

    async def _asked(self, asking: Coroutine[None, None, str]) -> asyncio.Task[str]:
        task = asyncio.create_task(asking)
        self._tasks.add(task)
        await self.settle()
        return task

    async def end(self, *answers: str | StageError, call: int = -1) -> None:
        self._ends[call].set_result(answers or [item.upper() for item in self.calls[call]])
        await self.settle()

    async def fail(self, error: Exception) -> None:
        self._ends[-1].set_exception(error)
        await self.settle()

    async def advance(self, seconds: float) -> None:
        self.now_s += seconds
        for alarm in [alarm for alarm in self.alarms if not alarm.cancelled and alarm.due_s <= self.now_s]:
            alarm.cancelled = True
            alarm.action()
        await self.settle()

    async def close(self) -> None:
        for end in self._ends:
            end.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    made.gatherer.configure(BatchLimits(4, 125))
    yield made
    await made.close()


async def test_a_lone_item_starts_at_once(bench: Bench) -> None:
    lone = await bench.submit("a")

    assert bench.calls == [["a"]]
    await bench.end()
    assert await lone == "A"


async def test_what_arrives_while_a_call_runs_shares_the_next(bench: Bench) -> None:
    for item in "abcd":
        await bench.submit(item)
    await bench.advance(1)
    await bench.end()

    assert bench.calls == [["a"], ["b", "c", "d"]]


async def test_a_batch_holds_no_more_than_its_size(bench: Bench) -> None:
    for item in "abcdefg":
        await bench.submit(item)
    await bench.end()
    await bench.end()

    assert bench.calls == [["a"], ["b", "c", "d", "e"], ["f", "g"]]


async def test_size_one_never_waits_and_never_shares(bench: Bench) -> None:
    bench.gatherer.configure(BatchLimits(1, 125))
    await bench.submit_coming(asyncio.get_running_loop().create_future())
    for item in "ab":
        await bench.submit(item)
    await bench.end()

    assert bench.calls == [["a"], ["b"]]
    assert bench.alarms == []


async def test_an_item_waits_for_one_that_is_on_its_way(bench: Bench) -> None:
    coming = asyncio.get_running_loop().create_future()
    await bench.submit_coming(coming)
    await bench.submit("b")
    assert bench.calls == []
    coming.set_result("a")
    await bench.settle()

    assert [sorted(call) for call in bench.calls] == [["a", "b"]]


async def test_an_item_waits_no_longer_than_it_is_told(bench: Bench) -> None:
    await bench.submit_coming(asyncio.get_running_loop().create_future())
    await bench.submit("b")
    await bench.advance(0.0625)
    await bench.submit("c")
    assert bench.calls == []
    await bench.advance(0.0625)

    assert bench.calls == [["b", "c"]]


async def test_one_that_never_comes_is_not_waited_for(bench: Bench) -> None:
    coming = asyncio.get_running_loop().create_future()
    lost = await bench.submit_coming(coming)
    await bench.submit("b")
    coming.set_exception(InvalidAudio(Stage.ASR, "noise"))
    await bench.settle()

    assert bench.calls == [["b"]]
    with pytest.raises(InvalidAudio):
        await lost


async def test_a_full_batch_does_not_wait(bench: Bench) -> None:
    await bench.submit_coming(asyncio.get_running_loop().create_future())
    for item in "abcd":
        await bench.submit(item)

    assert bench.calls == [["a", "b", "c", "d"]]


async def test_new_limits_hold_for_what_waits(bench: Bench) -> None:
    await bench.submit_coming(asyncio.get_running_loop().create_future())
    await bench.submit("a")
    await bench.submit("b")
    bench.gatherer.configure(BatchLimits(2, 125))
    await bench.settle()

    assert bench.calls == [["a", "b"]]


async def test_whose_time_runs_out_first_goes_first(bench: Bench) -> None:
    bench.gatherer.configure(BatchLimits(2, 0))
    await bench.submit("busy")
    for item, budget_ms in (("late", 9000), ("soon", 1000), ("sooner", 500)):
        await bench.submit(item, budget_ms)
    await bench.end()

    assert bench.calls[1] == ["sooner", "soon"]


async def test_what_is_too_late_never_starts(bench: Bench) -> None:
    await bench.submit("busy")
    late = await bench.submit("late", budget_ms=500)
    await bench.submit("patient")
    await bench.advance(0.5)
    await bench.end()

    assert bench.calls == [["busy"], ["patient"]]
    with pytest.raises(DeadlineExceeded):
        await late


async def test_a_cancelled_item_never_starts(bench: Bench) -> None:
    await bench.submit("busy")
    gone = await bench.submit("gone")
    gone.cancel()
    await bench.settle()
    await bench.end()

    assert bench.calls == [["busy"]]


async def test_a_cancelled_item_does_not_stop_the_call_it_shares(bench: Bench) -> None:
    await bench.submit("busy")
    gone, kept = await bench.submit("gone"), await bench.submit("kept")
    await bench.end()
    gone.cancel()
    await bench.settle()
    await bench.end()

    assert await kept == "KEPT"


async def test_an_items_failure_is_its_own(bench: Bench) -> None:
    await bench.submit("busy")
    bad, good = await bench.submit("bad"), await bench.submit("good")
    await bench.end()
    await bench.end(InvalidAudio(Stage.ASR, "noise"), "fine")

    assert await good == "fine"
    with pytest.raises(InvalidAudio):
        await bad


async def test_a_calls_failure_is_everyones_and_the_next_call_runs(bench: Bench) -> None:
    await bench.submit("busy")
    first, second = await bench.submit("first"), await bench.submit("second")
    await bench.end()
    third = await bench.submit("third")
    await bench.fail(ModelFailed(Stage.ASR, "broken"))
    await bench.end()

    for failed in (first, second):
        with pytest.raises(ModelFailed):
            await failed
    assert await third == "THIRD"


async def test_as_many_calls_run_at_once_as_there_are_slots() -> None:
    bench = Bench(slots=2)
    for item in "abc":
        await bench.submit(item)

    assert bench.calls == [["a"], ["b"]]
    await bench.end(call=0)
    assert bench.calls[2:] == [["c"]]
    await bench.close()


async def test_what_can_not_be_heard_in_time_is_refused_when_its_turn_comes(bench: Bench) -> None:
    """As calls go: they have taken 4 s."""
    await bench.submit("first")
    bench.now_s = 4.0
    await bench.end("heard")
    await bench.submit("second", 20_000)
    late = await bench.submit("late", 5000)
    bench.now_s = 6.0
    await bench.end("heard")
    error = late.exception()
    assert isinstance(error, QueueFull)
    assert error.details["recommended_delay_ms"] > 0
    assert bench.calls == [["first"], ["second"]]


async def test_with_nothing_to_do_one_is_tried_once_in_a_while(bench: Bench) -> None:
    await bench.submit("first", 60_000)
    bench.now_s = 20.0
    await bench.end("heard")
    refused = await bench.submit("refused", 5000)
    assert isinstance(refused.exception(), QueueFull)
    bench.now_s += TRY_AGAIN_AFTER_S
    await bench.submit("tried", 5000)
    assert bench.calls[-1] == ["tried"]


def test_how_many_are_heard_at_once_is_told() -> None:
    bench = Bench(slots=2)
    bench.gatherer.configure(BatchLimits(8, 0))
    assert bench.gatherer.at_once == 16


# --- where nobody is known to be coming -------------------------------------------------------------------------------


@pytest.fixture
async def service() -> AsyncIterator[Bench]:
    made = Bench(slots=8, waits_for_all=True)
    made.gatherer.configure(BatchLimits(3, 125))
    yield made
    await made.close()


async def test_an_item_waits_for_whoever_may_come_and_no_longer_than_it_is_told(service: Bench) -> None:
    first = await service.submit("a")
    await service.advance(0.0625)
    second = await service.submit("b")
    assert service.calls == []
    await service.advance(0.0625)
    await service.end()

    assert service.calls == [["a", "b"]]
    assert [await first, await second] == ["A", "B"]


async def test_a_full_batch_goes_at_once_and_leaves_no_timer(service: Bench) -> None:
    for item in "abc":
        await service.submit(item)

    assert service.calls == [["a", "b", "c"]]
    assert all(alarm.cancelled for alarm in service.alarms)


async def test_keys_stay_apart_and_each_waits_from_its_own_first(service: Bench) -> None:
    await service.submit("a", key="x")
    await service.advance(0.0625)
    await service.submit("b", key="y")
    await service.advance(0.0625)
    assert service.calls == [["a"]]
    await service.advance(0.0625)

    assert service.calls == [["a"], ["b"]]


async def test_when_all_have_gone_nothing_starts(service: Bench) -> None:
    gone = await service.submit("a")
    gone.cancel()
    await service.settle()
    await service.advance(0.125)

    assert service.calls == []


async def test_a_call_that_is_cancelled_cancels_its_callers(service: Bench) -> None:
    asked = [await service.submit(item) for item in "abc"]
    service._ends[0].cancel()
    await service.settle()

    assert all(task.cancelled() for task in asked)


@pytest.mark.parametrize(("size", "told"), [(1, ["a"]), (2, [None])])
async def test_a_call_of_one_has_its_callers_context_and_one_of_several_has_none(size: int, told: list[str]) -> None:
    bound: ContextVar[str | None] = ContextVar("bound", default=None)
    seen = []

    async def call(items: Sequence[str]) -> Sequence[str]:
        seen.append(bound.get())
        return items

    async def ask(name: str) -> None:
        bound.set(name)
        await gatherer.submit(name, 5000)

    gatherer: Gatherer[str, str] = Gatherer(Stage.ASR, call, BatchLimits(size, 1000), waits_for_all=True)
    await asyncio.gather(*(ask(name) for name in "ab"[:size]))

    assert seen == told
