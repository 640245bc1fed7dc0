"""A voice that is too slow for what is sent: fewer dubs or plainer ones, and none too late. On the real server."""

import asyncio

import pytest
import yaml

from tests.support import clips
from tests.support.worker import Worker

MS = 1000
VOICE_MS, TIMEOUT_MS = 4300, 8000
CHANGE = {
    "args.tts.delay_ms": 20,
    "args.tts.concurrency": 1,
    "args.tts.script": [{"stream": "slow-*", "delay_ms": VOICE_MS}],
    "args.tts.faster": {"engine": "fake"},
}


@pytest.fixture(scope="module")
def server(serve):
    return serve("fakes", CHANGE)


@pytest.fixture(scope="module")
def audio():
    return clips.adts_fragments(MS)[0]


async def sent(worker: Worker, audio: bytes, numbers: range) -> list[str]:
    return [await worker.send(number, audio, audio__duration_ms=MS) for number in numbers]


async def test_what_the_voice_can_not_speak_in_time_the_faster_one_does(server, audio):
    async with Worker(server.url) as worker:
        await worker.init("slow-one", timeout_ms=TIMEOUT_MS)
        await sent(worker, audio, range(3))
        results = await worker.wait_results(3)
        assert [result["status"] for result in results] == ["success"] * 3
        assert all(result["processing_time_ms"] <= TIMEOUT_MS for result in results)
        faster = ["faster_voice" in result.get("warnings", ()) for result in results]
        assert sorted(faster) == [False, True, True], "the first that came to the voice, whichever it was"
        await sent(worker, audio, range(3, 6))  # it keeps the voice for a while, and so its pace
        results = (await worker.wait_results(6))[3:]
    assert [result.get("warnings") for result in results] == [["faster_voice"]] * 3
    assert all(result["processing_time_ms"] < VOICE_MS for result in results)


async def test_without_it_what_would_be_late_is_refused_at_once_and_what_is_accepted_comes_in_time(server, audio):
    schema = yaml.safe_load(server.config.read_text(encoding="utf-8"))
    ingress = next(d for d in schema["applications"][0]["deployments"] if d["name"] == "Ingress")
    ingress["user_config"]["streams"]["degrade"] = []
    server.config.write_text(yaml.safe_dump(schema), encoding="utf-8")
    await asyncio.to_thread(server.reload)
    async with Worker(server.url) as worker:
        await worker.init("slow-two", timeout_ms=TIMEOUT_MS)
        await sent(worker, audio, range(1))
        [first] = await worker.wait_results(1)  # now it is known how long the voice takes
        await sent(worker, audio, range(1, 4))
        refused = await worker.wait_error("QUEUE_FULL")
        assert refused["retryable"]
        delay_ms = refused["details"]["recommended_delay_ms"]
        assert 0 < delay_ms < VOICE_MS
        [told] = [event for event in worker.of("backpressure") if event["action"] == "pause"][-1:]
        assert told["recommended_delay_ms"] > 0
        await asyncio.sleep(delay_ms / 1000)
        await worker.send(refused["sequence_number"], audio, audio__duration_ms=MS)
        results = await worker.wait_results(3)
        await worker.wait(lambda: worker.of("backpressure")[-1]["action"] == "none")
    assert first["status"] == "success"
    assert [result["status"] for result in results] == ["success"] * 3
    assert all(result["processing_time_ms"] <= TIMEOUT_MS for result in results)
    assert {error["code"] for error in worker.errors} == {"QUEUE_FULL"}
