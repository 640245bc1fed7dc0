"""Blocking calls run off the event loop, bounded in number, and never start late."""

import asyncio
import os
import threading
from collections.abc import Iterator

import pytest

from deployments.errors import DeadlineExceeded, InvalidAudio, ModelFailed, QueueFull, Stage
from deployments.replica.thread_pool import NICENESS, ThreadPool, aside
from deployments.replica.watchdog import WEDGED_AFTER_S


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def threads(clock: Clock) -> Iterator[ThreadPool]:
    threads = ThreadPool(Stage.ASR, 1, clock)
    yield threads
    threads.close()


async def occupy(threads: ThreadPool) -> tuple["asyncio.Task[str]", threading.Event]:
    """Fill the only slot until the event is set."""
    started, release = threading.Event(), threading.Event()

    def work() -> str:
        started.set()
        release.wait(10)
        return "done"

    task = asyncio.ensure_future(threads.run(work, 1000))
    await asyncio.to_thread(started.wait, 10)
    return task, release


async def test_work_runs_in_another_thread_and_its_value_comes_back(threads: ThreadPool) -> None:
    name = await threads.run(lambda: threading.current_thread().name, 1000)

    assert name.startswith("livedub-asr")


async def test_what_waits_past_its_budget_never_starts(threads: ThreadPool, clock: Clock) -> None:
    ran: list[int] = []
    running, release = await occupy(threads)
    late = asyncio.ensure_future(threads.run(lambda: ran.append(1), 500))
    await asyncio.sleep(0)
    clock.now_s += 0.5
    release.set()

    with pytest.raises(DeadlineExceeded) as raised:
        await late
    assert raised.value.stage is Stage.ASR
    assert await running == "done"
    assert ran == []


async def test_what_is_cancelled_while_it_waits_never_starts(threads: ThreadPool) -> None:
    ran: list[int] = []
    running, release = await occupy(threads)
    waiting = asyncio.ensure_future(threads.run(lambda: ran.append(1), 500))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    release.set()
    await running
    await threads.run(lambda: None, 500)

    assert ran == []


async def test_a_call_that_nobody_waits_for_keeps_its_slot(threads: ThreadPool, clock: Clock) -> None:
    running, release = await occupy(threads)
    running.cancel()
    await asyncio.sleep(0)
    started = threading.Event()
    following = asyncio.ensure_future(threads.run(started.set, 500))
    await asyncio.sleep(0)

    assert not started.is_set()
    release.set()
    await following
    assert started.is_set()


async def test_stage_errors_pass_unchanged(threads: ThreadPool) -> None:
    error = InvalidAudio(Stage.ASR, "not audio")

    def work() -> None:
        raise error

    with pytest.raises(InvalidAudio) as raised:
        await threads.run(work, 500)
    assert raised.value is error


async def test_anything_else_arrives_as_a_model_failure_that_names_it(threads: ThreadPool) -> None:
    def work() -> None:
        raise ValueError("shape (3, 4)")

    with pytest.raises(ModelFailed, match=r"ValueError: shape \(3, 4\)"):
        await threads.run(work, 500)


async def test_a_call_that_hangs_is_noticed_though_nobody_waits_for_it(threads: ThreadPool, clock: Clock) -> None:
    running, release = await occupy(threads)
    running.cancel()
    clock.now_s += WEDGED_AFTER_S
    threads.check()
    clock.now_s += 1
    with pytest.raises(RuntimeError, match="61 s"):
        threads.check()
    release.set()
    threads.close()


async def test_what_only_waits_for_a_slot_does_not_hang(clock: Clock) -> None:
    threads = ThreadPool(Stage.ASR, 1, clock, wedged_after_s=10)
    running, release = await occupy(threads)
    waiting = asyncio.ensure_future(threads.run(lambda: None, 60_000))
    release.set()
    await running
    await waiting
    clock.now_s += 11

    threads.check()
    threads.close()


async def test_twenty_calls_given_up_never_compute_more_at_once_than_there_are_slots() -> None:
    threads = ThreadPool(Stage.ASR, 2)
    lock, release = threading.Lock(), threading.Event()
    now = peak = 0

    def work() -> None:
        nonlocal now, peak
        with lock:
            now += 1
            peak = max(peak, now)
        release.wait(10)
        with lock:
            now -= 1

    calls = [asyncio.ensure_future(threads.run(work, 60_000)) for _ in range(20)]
    async with asyncio.timeout(10):
        while peak < 2:
            await asyncio.sleep(0)
    for call in calls[:10]:
        call.cancel()
    await asyncio.gather(*calls[:10], return_exceptions=True)
    release.set()
    await asyncio.gather(*calls[10:])
    threads.close()

    assert peak == 2


async def test_what_computes_stands_back_and_what_answers_does_not(threads):
    mine = priority()
    assert await threads.run(priority, 1000) == max(mine, NICENESS)
    assert priority() == mine


def test_what_a_model_starts_while_it_loads_stands_back():
    found: list[int] = []

    def load() -> None:
        started = threading.Thread(target=lambda: found.append(priority()))
        started.start()
        started.join()

    mine = priority()
    aside(load)
    assert (found, priority()) == ([max(mine, NICENESS)], mine)


def test_a_model_that_does_not_load_says_why():
    def load() -> None:
        raise ValueError("no weights")

    with pytest.raises(ValueError, match="no weights"):
        aside(load)


def priority() -> int:
    """Of the calling thread."""
    return os.getpriority(os.PRIO_PROCESS, 0)


async def test_a_call_that_came_too_late_is_known_to_take_so_long() -> None:
    """Else a model that is always too slow would compute for nobody for ever."""
    now = 0.0

    def slow() -> None:
        nonlocal now
        now += 20.0
        raise DeadlineExceeded(Stage.TTS, "the fragment's time ran out")

    threads = ThreadPool(Stage.TTS, 1, lambda: now)
    with pytest.raises(DeadlineExceeded):
        await threads.run(slow, 8000, size=4)
    with pytest.raises(QueueFull, match="20000 ms are needed"):
        await threads.run(slow, 8000, size=4)
