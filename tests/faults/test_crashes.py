"""Replicas die, workers come back, the server is told to stop: nothing accepted stays without its one result."""

import asyncio
import time

import pytest

from tests.support import clips
from tests.support.worker import Worker

MS = 1000
SCRIPT = {
    "args.asr.script": [
        {"stream": "crash-once", "fragments": [1], "times": 1, "crash": True},
        {"stream": "crash-always", "crash": True},
        {"stream": "slow*", "delay_ms": 1500},
    ],
    "deployments.Asr.num_replicas": 2,
    "deployments.Ingress.user_config": {"streams": {"timeout_ms": 8000}},
}


@pytest.fixture(scope="module")
def server(serve):
    return serve("fakes", SCRIPT)


@pytest.fixture(scope="module")
def audio():
    return clips.adts_fragments(MS)[0]


async def test_a_fragment_whose_replica_dies_is_given_to_another_one(server, audio):
    async with Worker(server.url) as worker:
        await worker.init("crash-once")
        for number in range(3):
            await worker.send(number, audio, audio__duration_ms=MS)
        results = await worker.wait_results(3)
    assert (results[0]["sequence_number"], results[0]["status"]) == (0, "success")
    assert len(results) == 3
    assert all(r["status"] == "success" or r["error"]["retryable"] for r in results)
    assert all(r["processing_time_ms"] <= 8500 for r in results)


async def test_a_fragment_that_kills_every_replica_fails_as_crashed_and_the_stream_goes_on(server, audio):
    async with Worker(server.url) as worker:
        await worker.init("crash-always")
        await worker.send(0, audio, audio__duration_ms=MS)
        result = (await worker.wait_results(1))[0]
    assert result["status"] == "failed"
    assert result["error"]["code"] in ("WORKER_CRASHED", "TIMEOUT")
    assert (result["error"]["stage"], result["error"]["retryable"]) == ("asr", True)
    async with Worker(server.url) as other:
        await other.init("after-the-crash", timeout_ms=30_000)
        await other.send(0, audio, audio__duration_ms=MS)
        assert (await other.wait_results(1, 40))[0]["status"] == "success"


async def test_a_worker_that_restarts_takes_its_stream_over(server, audio):
    async with Worker(server.url, reconnection=True) as old, Worker(server.url) as new:
        await old.init("slow-takeover")
        await old.send(5, audio, audio__duration_ms=MS)
        await old.wait(lambda: old.of("fragment:ack"))
        await new.init("slow-takeover")
        error = await old.wait_error("SESSION_REPLACED")
        assert (error["severity"], error["retryable"]) == ("fatal", False)
        await old.wait(lambda: old.disconnects)
        await new.send(0, audio, audio__duration_ms=MS)
        result = (await new.wait_results(1))[0]
        assert (result["sequence_number"], result["status"]) == (0, "success")
        assert old.results == []
        assert old.connects == 1


async def test_a_worker_that_leaves_frees_its_stream(server, audio):
    async with Worker(server.url) as worker:
        await worker.init("slow-leaver")
        await worker.send(0, audio, audio__duration_ms=MS)
        await worker.wait(lambda: worker.of("fragment:ack"))
    async with Worker(server.url) as again:
        await again.init("slow-leaver")
        await again.send(0, audio, audio__duration_ms=MS)
        assert (await again.wait_results(1))[0]["status"] == "success"


async def test_sigterm_lets_streams_finish_and_sends_workers_elsewhere(serve, audio):
    server = serve("fakes", SCRIPT, fresh=True)
    async with Worker(server.url, reconnection=True) as worker:
        await worker.init("slow-drain")
        await worker.send(0, audio, audio__duration_ms=MS)
        await worker.wait(lambda: worker.of("fragment:ack"))
        started_s = time.monotonic()
        server.terminate()
        told = await worker.wait_error("SERVER_DRAINING")
        assert (told["severity"], told["retryable"]) == ("warning", True)
        await worker.send(1, audio, audio__duration_ms=MS)
        refused = await worker.wait(lambda: [e for e in worker.errors if e.get("fragment_id") == "slow-drain-1"])
        assert refused[0]["code"] == "SERVER_DRAINING"
        result = (await worker.wait_results(1))[0]
        assert (result["sequence_number"], result["status"]) == (0, "success")
        await worker.wait(lambda: worker.disconnects)
        worker.sio.reconnection = False
    code = await asyncio.to_thread(server.stop)
    assert code == 0
    assert time.monotonic() - started_s < 60
    assert "Traceback" not in "\n".join(line for line in server.logged().splitlines() if "serve_app" in line)
