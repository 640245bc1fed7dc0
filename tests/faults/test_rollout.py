"""A new configuration is rolled out while streams run: nothing is lost, doubled or out of order."""

import asyncio

import pytest
import yaml

from tests.support.speed import seconds
from tests.support.streaming import Streaming
from tests.support.worker import Worker

STREAMS = 3
CHANGE = {
    "args.asr.delay_ms": 300,
    "deployments.Ingress.num_replicas": 2,
    "deployments.Ingress.max_surge_percent": 50,
    "deployments.Ingress.graceful_shutdown_timeout_s": 60,
}
"""Far more grace than a drain takes: a replica that only waits for its sockets would outlive the test."""


@pytest.fixture(scope="module")
def server(serve):
    return serve("fakes", CHANGE)


def change(server, **fields: object) -> None:
    """Write other fields of the Ingress into the server's file."""
    schema = yaml.safe_load(server.config.read_text(encoding="utf-8"))
    ingress = next(d for d in schema["applications"][0]["deployments"] if d["name"] == "Ingress")
    ingress.update(fields)
    server.config.write_text(yaml.safe_dump(schema), encoding="utf-8")


async def test_two_rolling_updates_lose_double_and_reorder_nothing(server):
    streams = [Streaming(server.url, f"rollout-{number}") for number in range(STREAMS)]
    async with asyncio.timeout(seconds(300)), asyncio.TaskGroup() as running:
        for stream in streams:
            running.create_task(stream.run())
        await asyncio.sleep(1)
        for round_, num_cpus in enumerate((0.11, 0.12), 1):
            change(server, ray_actor_options={"num_cpus": num_cpus})
            await asyncio.to_thread(server.reload)
            while min(stream.client.reconnects for stream in streams) < round_:
                await asyncio.sleep(0.1)
        for stream in streams:
            stream.stop.set()

    assert "livedub: error" not in server.logged()
    for stream in streams:
        stream.assert_nothing_was_lost()
        assert stream.summary.total_fragments == len(stream.sent), "what was finished before is not computed again"


async def test_a_live_change_of_thresholds_drops_nobody(server):
    async with asyncio.timeout(seconds(120)), Worker(server.url) as other, asyncio.TaskGroup() as running:
        stream = Streaming(server.url, "live-change")
        running.create_task(stream.run())
        await asyncio.sleep(0.5)
        change(server, user_config={"streams": {"max_inflight": 2, "critical_inflight": 8, "timeout_ms": 9000}})
        await asyncio.to_thread(server.reload)
        ready = await other.init("after-the-change")
        stream.stop.set()
    assert stream.client.reconnects == 0
    stream.assert_nothing_was_lost()
    assert ready["max_inflight"] == 2


async def test_a_file_with_an_error_changes_nothing(server):
    before = server.config.read_text(encoding="utf-8")
    async with Worker(server.url) as worker:
        await worker.init("wrong-file")
        change(server, user_config={"streams": {"timeout_ms": 1}})
        try:
            await asyncio.to_thread(server.reload)
        finally:
            server.config.write_text(before, encoding="utf-8")
        assert "streams.timeout_ms" in server.logged()
        assert "Nothing was changed" in server.logged()
        assert worker.disconnects == 0
