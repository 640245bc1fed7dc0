"""Processes of the server are killed under live streams: each fragment gets its one result, in order."""

import asyncio
import itertools
from collections.abc import Callable

import pytest

from client import DubClient, Fragment, FragmentResult, StreamConfig
from tests.faults.processes import kill, logged, processes, replicas, standing

CHANGE = {
    "args.asr.script": [{"stream": "model-*", "delay_ms": 500}],
    "deployments.Asr.num_replicas": 2,
}
CONFIG = StreamConfig(target_language="es", format="pcm_s16le", sample_rate_hz=16_000)
STREAMS, PACE_S = 3, 0.1
RESULTS_BEFORE, RESULTS_AFTER = 3, 5


@pytest.fixture(scope="module")
def server(serve):
    return serve("fakes", CHANGE)


class Streaming:
    """A DubClient that sends until told to stop, and what it has got so far."""

    def __init__(self, url: str, name: str) -> None:
        self.client = DubClient(url, config=CONFIG, stream_id=name)
        self.stop = asyncio.Event()
        self.sent: list[str] = []
        self.results: list[FragmentResult] = []

    async def run(self) -> None:
        async with self.client, asyncio.TaskGroup() as reading:
            reading.create_task(self._read())
            for number in itertools.count():
                self.sent.append(f"{self.client.stream_id}-{number}")
                audio = (number + 1).to_bytes(2, "little") * 3200
                await self.client.send(Fragment(audio, "pcm_s16le", 16_000, 1, 200, fragment_id=self.sent[-1]))
                if self.stop.is_set():
                    break
                await asyncio.sleep(PACE_S)
            await self.client.end()

    async def _read(self) -> None:
        async for result in self.client.results():
            self.results.append(result)


async def streamed_through(server, name: str, disturb: Callable[[], None], *, reconnects: int) -> list[Streaming]:
    """Streams that were disturbed in their midst, went on for some results, and ended."""
    streams = [Streaming(server.url, f"{name}-{number}") for number in range(STREAMS)]

    async def until(results: Callable[[Streaming], int]) -> None:
        while any(len(stream.results) < results(stream) for stream in streams):
            await asyncio.sleep(0.05)

    async with asyncio.timeout(90), asyncio.TaskGroup() as running:
        for stream in streams:
            running.create_task(stream.run())
        await until(lambda _: RESULTS_BEFORE)
        await asyncio.to_thread(disturb)
        while any(stream.client.reconnects < reconnects for stream in streams):
            await asyncio.sleep(0.05)
        seen = {id(stream): len(stream.results) for stream in streams}
        await until(lambda stream: seen[id(stream)] + RESULTS_AFTER)
        for stream in streams:
            stream.stop.set()
    return streams


def assert_nothing_was_lost(streams: list[Streaming]) -> None:
    for stream in streams:
        assert [result.fragment_id for result in stream.results] == stream.sent
        assert [result.sequence_number for result in stream.results] == list(range(len(stream.sent)))
        assert {result.status for result in stream.results} == {"success"}


async def test_streams_go_on_when_one_of_two_model_replicas_is_killed(server):
    """The calls that it had are given to the other one within their deadline, so workers send nothing twice."""
    await standing(server, "Asr", 2)
    streams = await streamed_through(server, "model", lambda: kill(replicas(server, "Asr")[0]), reconnects=0)
    assert_nothing_was_lost(streams)
    assert {result.attempts for stream in streams for result in stream.results} == {1}
    assert all(stream.client.reconnects == 0 for stream in streams)
    assert await logged(server, "replica_died")
    assert '"event": "content_quarantined"' not in server.logged(), "one death convicts nobody"


@pytest.mark.parametrize("name", ["ServeReplica:livedub:Ingress", "ProxyActor"], ids=["ingress", "proxy"])
async def test_streams_come_back_when_what_holds_their_connections_is_killed(server, name):
    def disturb() -> None:
        [process] = processes(server, name)
        kill(process)

    streams = await streamed_through(server, name.rsplit(":", 1)[-1].lower(), disturb, reconnects=1)
    assert_nothing_was_lost(streams)
