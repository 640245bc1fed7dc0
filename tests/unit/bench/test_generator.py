"""The load generator against a plain server whose models are canned."""

import asyncio
import contextlib
import time

import psutil
import pytest
import uvicorn

from bench.generator import cpu_s, play, saturate
from bench.pacing import Plan, Saturation
from bench.plain_server import Dub, NotDubbed, app
from serve_app.operations.place import free_port

ONE_EACH = Plan((0.0, 0.0), cadence_s=10.0, warm_s=0.0, seconds=1.0)


@contextlib.asynccontextmanager
async def serving(work):
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app(work), host="127.0.0.1", port=port, log_level="warning"))
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await running


@pytest.fixture(autouse=True)
def short_speech(monkeypatch):
    monkeypatch.setattr("bench.generator.speech", lambda: (b"one", b"two", b"three"))


async def test_each_fragment_has_its_times_and_no_two_streams_say_the_same_at_once():
    heard = []

    async def work(data, output):
        heard.append(data)
        return Dub(data, 6000, "said", "dicho")

    async with serving(work) as url:
        sent = await play(url, "play", ONE_EACH, time.monotonic())
    assert sorted(heard) == [b"one", b"two"]
    assert len(sent) == 2
    assert all(0 < one.ack_ms <= one.result_ms and not one.code for one in sent)


async def test_a_fragment_that_fails_has_its_code():
    async def work(data, output):
        raise NotDubbed("not heard")

    async with serving(work) as url:
        sent = await play(url, "fail", ONE_EACH, time.monotonic())
    assert [one.code for one in sent] == ["MODEL_ERROR", "MODEL_ERROR"]


async def test_saturated_there_are_always_so_many_in_flight():
    running, seen = 0, []

    async def work(data, output):
        nonlocal running
        running += 1
        seen.append(running)
        while max(seen) < 3:
            await asyncio.sleep(0)
        running -= 1
        return Dub(data, 6000, "said", "dicho")

    async with serving(work) as url:
        sent = await saturate(url, "full", Saturation(3, 0.0, 0.2), time.monotonic())
    assert max(seen) == 3
    assert len(sent) >= 3
    assert all(one.result_ms is not None for one in sent)


def test_the_cpu_time_of_a_process_counts_what_is_below_it():
    own = psutil.Process()
    assert cpu_s(own.pid) >= sum(own.cpu_times()[:2]) - 0.1
