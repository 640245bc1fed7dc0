"""Processes of the server are killed under live streams: each fragment gets its one result, in order."""

import asyncio
from collections.abc import Callable

import pytest

from tests.support.captions import captioned, loud, quiet
from tests.support.processes import kill, logged, processes, replicas, standing
from tests.support.speed import seconds
from tests.support.streaming import Streaming

CHANGE = {
    "args.asr.script": [{"stream": "model-*", "delay_ms": 500}],
    "deployments.Asr.num_replicas": 2,
}
STREAMS = 3
SESSIONS, UTTERANCES = 12, 5
RESULTS_BEFORE, RESULTS_AFTER = 3, 5


@pytest.fixture(scope="module")
def server(serve):
    return serve("fakes", CHANGE)


async def streamed_through(server, name: str, disturb: Callable[[], None], *, reconnects: int) -> list[Streaming]:
    """Streams that were disturbed in their midst, went on for some results, and ended."""
    streams = [Streaming(server.url, f"{name}-{number}") for number in range(STREAMS)]

    async def until(results: Callable[[Streaming], int]) -> None:
        while any(len(stream.results) < results(stream) for stream in streams):
            await asyncio.sleep(0.05)

    async with asyncio.timeout(seconds(90)), asyncio.TaskGroup() as running:
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


async def test_streams_go_on_when_one_of_two_model_replicas_is_killed(server):
    """The calls that it had are given to the other one within their deadline, so workers send nothing twice."""
    await standing(server, "Asr", 2)
    streams = await streamed_through(server, "model", lambda: kill(replicas(server, "Asr")[0]), reconnects=0)
    for stream in streams:
        stream.assert_nothing_was_lost()
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
    for stream in streams:
        stream.assert_nothing_was_lost()


async def test_live_transcription_loses_no_final_when_one_of_two_model_replicas_is_killed(server):
    """What a replica heard is sent anew to the other one: it keeps nothing of a session."""
    await standing(server, "Asr", 2)
    audio = (loud(1500) + quiet(1000)) * UTTERANCES
    async with asyncio.timeout(seconds(90)), asyncio.TaskGroup() as running:
        sessions = [
            running.create_task(captioned(server.url, audio, interim_results="true", endpointing=300))
            for _ in range(SESSIONS)
        ]
        await asyncio.sleep(len(audio) / 32_000 / 2)
        await asyncio.to_thread(kill, replicas(server, "Asr")[0])
    for session in sessions:
        captions = session.result()
        assert captions.close_code == 1000
        assert len(captions.said) == UTTERANCES
        assert not [message for _, message in captions.told if message["type"] == "Error"]
