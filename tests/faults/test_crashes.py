"""Replicas die, workers come back, the server is told to stop: nothing accepted stays without its one result."""

import asyncio
import json
import time

import pytest

from tests.support import clips
from tests.support.processes import logged, standing
from tests.support.speed import seconds
from tests.support.worker import Worker

MS = 1000
SCRIPT = {
    "args.asr.script": [
        {"stream": "crash-once", "fragments": [1], "times": 1, "crash": True},
        {"stream": "crash-always", "crash": True},
        {"stream": "slow*", "delay_ms": 1500},
    ],
    "args.tts.concurrency": 2,
    "args.tts.script": [{"stream": "zombie-*", "delay_ms": 2500}],
    "args.log_level": "DEBUG",
    "deployments.Asr.num_replicas": 2,
    "deployments.Ingress.user_config": {"streams": {"timeout_ms": 8000}},
}


@pytest.fixture(scope="module")
def server(serve):
    return serve("fakes", SCRIPT)


@pytest.fixture(scope="module")
def audio():
    return clips.adts_fragments(MS)[0]


@pytest.fixture(scope="module")
def each_replica_dies_of_once():
    """Content of its own, since what made replicas die twice is refused to all streams."""
    return clips.adts_fragments(MS)[1]


@pytest.fixture(scope="module")
def all_replicas_die_of():
    return clips.adts_fragments(MS)[2]


def answers(worker: Worker) -> list[dict]:
    """Results and refusals: one for each fragment."""
    return [*worker.results, *worker.errors]


async def test_a_fragment_whose_replica_dies_is_given_to_another_one(server, each_replica_dies_of_once):
    audio = each_replica_dies_of_once
    async with Worker(server.url) as worker:
        await worker.init("crash-once")
        for number in range(3):
            await worker.send(number, audio, audio__duration_ms=MS)
        results = await worker.wait_results(3)
    assert (results[0]["sequence_number"], results[0]["status"]) == (0, "success")
    assert len(results) == 3
    assert all(r["status"] == "success" or r["error"]["retryable"] for r in results)
    assert all(r["processing_time_ms"] <= 8000 + seconds(0.5) * 1000 for r in results)


async def test_content_that_kills_every_replica_is_refused_from_then_on(server, audio, all_replicas_die_of):
    async with Worker(server.url) as worker, Worker(server.url) as other:
        await worker.init("crash-always", timeout_ms=30_000)
        await worker.send(0, all_replicas_die_of, audio__duration_ms=MS)
        [crashed] = await worker.wait_results(1, 40)
        assert crashed["status"] == "failed"
        assert {name: crashed["error"][name] for name in ("code", "stage", "retryable")} == {
            "code": "WORKER_CRASHED",
            "stage": "asr",
            "retryable": True,
        }
        before = await standing(server, "Asr", 2)

        await worker.send(0, all_replicas_die_of, audio__duration_ms=MS)
        await other.init("after-the-crash", timeout_ms=30_000)
        await other.send(0, all_replicas_die_of, audio__duration_ms=MS)
        await other.send(1, audio, audio__duration_ms=MS)
        for refused in (await worker.wait_results(2, 40))[1], (await other.wait_results(1, 40))[0]:
            assert refused["status"] == "failed"
            assert {name: refused["error"][name] for name in ("code", "stage", "retryable")} == {
                "code": "INVALID_AUDIO",
                "stage": "asr",
                "retryable": False,
            }
        assert (await other.wait_results(2, 40))[1]["status"] == "success"
    assert await standing(server, "Asr", 2) == before, "no further replica died of it"
    convictions = [line for line in await logged(server, "content_quarantined") if "crash-always" in line]
    assert len(convictions) == 1


async def test_calls_that_timed_out_never_compute_beside_more_than_their_replica_allows(server, audio):
    """A thread can't be stopped: it keeps its slot, and what waits for one past its deadline never starts."""
    async with Worker(server.url) as one, Worker(server.url) as another:
        for number, worker in enumerate((one, another)):
            await worker.init(f"zombie-{number}", max_inflight=10, timeout_ms=1000)
            for sequence_number in range(10):
                await worker.send(sequence_number, audio, audio__duration_ms=MS)
        for worker in (one, another):
            await worker.wait(lambda worker=worker: len(answers(worker)) == 10)
            await worker.send(10, audio, audio__duration_ms=MS)
            await worker.wait(lambda worker=worker: len(answers(worker)) == 11)
        codes = [answer["error"]["code"] if "error" in answer else answer["code"] for answer in answers(one)]
        assert set(codes) <= {"TIMEOUT", "QUEUE_FULL"}
        assert "TIMEOUT" in codes, "nobody knew before how long the voice takes"
    lines = [line for line in await logged(server, "computing") if "zombie-" in line]
    computing = [json.loads(line[line.index("{") :]) for line in lines]
    of_voices = [line["n_computing"] for line in computing if line["stage"] == "tts"]
    assert max(of_voices) == 2, "no more than the replica's concurrency"
    assert len(of_voices) < 20, "what was cancelled while it waited never started"


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
    assert time.monotonic() - started_s < seconds(60)
    assert "Traceback" not in "\n".join(line for line in server.logged().splitlines() if "serve_app" in line)
