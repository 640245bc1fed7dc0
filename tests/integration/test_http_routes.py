"""/health, /ready and /metrics, with two ingress replicas behind one port."""

import asyncio
from collections import Counter

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support import clips
from tests.support.speed import seconds
from tests.support.worker import Worker

STREAMS = 6
MS = 1000


@pytest.fixture(scope="module")
def server(serve):
    return serve("echo", {"deployments.Ingress.num_replicas": 2})


async def test_health_and_ready_answer(server):
    async with httpx.AsyncClient(base_url=server.url) as http:
        health = await http.get("/health")
        ready = await http.get("/ready")
        missing = await http.get("/nothing-here")
    assert (health.status_code, health.json()["status"]) == (200, "ok")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert set(ready.json()["deployments"]) == {"Asr", "Translation", "Tts"}
    assert missing.status_code == 404


async def test_metrics_are_the_same_truth_from_either_replica(server):
    """Streams spread over both replicas; every scrape, whoever answers, counts them all."""
    audio = clips.adts_fragments(MS)[0]
    all_seen = set()

    async def one(number):
        async with Worker(server.url) as worker:
            await worker.init(f"metrics-{number}")
            for sequence in range(3):
                await worker.send(sequence, audio, audio__duration_ms=MS)
            await worker.wait_results(3)
            await until(http, "sts_streams_active", lambda value: value == STREAMS)
            all_seen.add(number)
            async with asyncio.timeout(seconds(30)):
                while len(all_seen) < STREAMS:
                    await asyncio.sleep(0.1)

    async with httpx.AsyncClient(base_url=server.url) as http:
        await asyncio.gather(*(one(number) for number in range(STREAMS)))
        await until(http, "sts_streams_active", lambda value: value == 0)
        counts = Counter([await value(http, "sts_fragment_processing_seconds_count") for _ in range(10)])
        text = (await http.get("/metrics")).text
    assert counts == {STREAMS * 3: 10}
    lines = [line.split()[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines))
    assert all(family.name.startswith("sts_") for family in text_string_to_metric_families(text))
    assert "metrics-" not in text
    assert "sts_gpu" not in text or "gpu=" in text


async def until(http, name, condition):
    async with asyncio.timeout(seconds(30)):
        while not condition(found := await value(http, name)):
            await asyncio.sleep(0.3)
    return found


async def value(http, name):
    text = (await http.get("/metrics", timeout=10)).text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{")))


async def test_echo_gives_a_worker_its_own_audio_back(server):
    audio = clips.adts_fragments(MS)[2]
    async with Worker(server.url) as worker:
        await worker.init("echo", {"source_language": "fr", "target_language": "de-CH"})
        await worker.send(0, audio, audio__duration_ms=MS)
        result = (await worker.wait_results(1))[0]
    assert result["status"] == "success"
    assert result["metadata"]["tts_model"] == "echo"


async def test_a_restarted_worker_takes_its_stream_over_whichever_replica_it_meets(server):
    """Sockets spread over both replicas, so among several pairs old and new meet different ones."""
    audio = clips.adts_fragments(MS)[0]
    for number in range(6):
        async with Worker(server.url, reconnection=True) as old, Worker(server.url) as new:
            await old.init(f"takeover-{number}")
            await new.init(f"takeover-{number}")
            error = await old.wait_error("SESSION_REPLACED")
            assert error["severity"] == "fatal"
            await old.wait(lambda old=old: old.disconnects)
            await new.send(0, audio, audio__duration_ms=MS)
            assert (await new.wait_results(1))[0]["status"] == "success"
            assert new.errors == []
