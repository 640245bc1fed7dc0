"""Recordings by POST and live containers at the door of Deepgram's clients, in front of scripted models."""

import asyncio
import hashlib
import json

import httpx
import numpy as np
import pytest
import websockets
from pydantic import SecretStr

from deployments.errors import InvalidText, ModelFailed, Stage
from serve_app.access import AuthOptions
from serve_app.scheduling.fair_queue import Priority
from serve_app.transcription import TranscriptionLimits
from serve_app.transport import deepgram_recorded
from tests.support.captions import RATE_HZ, contained, loud, quiet
from tests.unit.serve_app.transport.test_deepgram import KEY, TIMEOUT_S, Door, until


def file_of(pcm: bytes, container: str = "webm", codec: str = "libopus") -> bytes:
    return contained(np.frombuffer(pcm, "<i2"), RATE_HZ, container, codec)


SPEECH = file_of(quiet(640) + loud(1280) + quiet(3200))


async def post(door: Door, body: object = SPEECH, query: str = "", **settings) -> httpx.Response:
    async with httpx.AsyncClient(timeout=TIMEOUT_S) as client:
        return await client.post(door.url.replace("ws", "http", 1) + query, content=body, **settings)


async def test_a_live_container_is_heard_as_it_comes_and_told_to_its_end():
    async with Door().serving() as door, door.client("vad_events=true") as client:
        for at in range(0, len(SPEECH), 1000):
            await client.socket.send(SPEECH[at : at + 1000])
        assert (await client.next())["type"] == "SpeechStarted"
        await client.say("CloseStream")
        told = await client.rest()
    finals = [message for message in told if message["type"] == "Results"]
    assert "hello world" in [final["channel"]["alternatives"][0]["transcript"] for final in finals]
    assert told[-1]["type"] == "Metadata"
    assert told[-1]["duration"] == pytest.approx(5.12, abs=0.05)
    assert client.socket.close_code == 1000


async def test_a_container_that_breaks_gets_the_finals_of_what_came_before_and_an_error_that_says_why():
    async with Door().serving() as door, door.client("") as client:
        await client.socket.send(b"this is no audio" * 500)
        told = await client.rest()
    assert [message["type"] for message in told] == ["Error", "Metadata"]
    assert told[0]["variant"] == "INVALID_AUDIO"
    assert (client.socket.close_code, client.socket.close_reason) == (1008, "DATA-0000")


async def test_a_client_that_leaves_in_the_midst_of_a_container_leaves_no_decoder():
    async with Door().serving() as door:
        async with door.client("") as client:
            await client.socket.send(SPEECH[:3000])
            await until(lambda: len(door.sessions) == 1)
            [(_, _, transcriber)] = door.sessions._open.values()
        await until(lambda: len(door.sessions) == 0 and transcriber._decoding._task.done())
        process = transcriber._decoding._decoder._process
        assert process is None or process.returncode is not None


async def test_a_recording_is_answered_in_deepgrams_words():
    async with Door().serving() as door:
        answer = await post(door, query="?punctuate=true&utterances=true")
    assert answer.status_code == 200
    body = answer.json()
    metadata, results = body["metadata"], body["results"]
    assert answer.headers["dg-request-id"] == metadata["request_id"]
    assert metadata["sha256"] == hashlib.sha256(SPEECH).hexdigest()
    assert metadata["duration"] == pytest.approx(5.12, abs=0.05)
    assert metadata["model_info"][metadata["models"][0]]["name"] == "whisper-tiny.en"
    [alternative] = results["channels"][0]["alternatives"]
    assert alternative["transcript"] == "Hello, World!"
    first, second = alternative["words"]
    assert (first["word"], first["punctuated_word"], first["confidence"]) == ("hello", "Hello,", 0.9)
    assert 0.64 - 0.35 <= first["start"] < first["end"] == second["start"] < second["end"]
    [utterance] = results["utterances"]
    assert (utterance["transcript"], utterance["channel"]) == ("Hello, World!", 0)
    assert len(door.sessions) == door.counts.open == 0
    [completed] = door.counts.events  # nothing of how late finals came, which is of live speech alone
    assert completed.statistics.finals == 1


@pytest.mark.parametrize(
    ("container", "codec"), [("wav", "pcm_s16le"), ("mp4", "aac"), ("flac", "flac"), ("matroska", "flac")]
)
async def test_recordings_of_all_kinds_are_heard(container, codec):
    async with Door().serving() as door:
        answer = await post(door, file_of(loud(1280), container, codec))
    assert answer.json()["results"]["channels"][0]["alternatives"][0]["transcript"] == "hello world"


REFUSED = {
    "empty": ({"body": b""}, 400, "the body is empty"),
    "no audio": ({"body": b"hello" * 1000}, 400, "failed to process audio: the audio can't be read"),
    "too large": ({"body": bytes(3_000_000)}, 413, "more than 2000000 bytes"),
    "raw": ({"query": "?encoding=linear16&sample_rate=16000"}, 400, "such as WAV"),
    "callback": ({"query": "?callback=http://example.org"}, 400, "callback is not supported"),
    "language": ({"query": "?language=xx"}, 400, "which hears: en"),
    "a wrong parameter": ({"query": "?utt_split=soon"}, 400, "utt_split='soon'"),
    "a URL": (
        {"body": b'{"url": "http://example.org/a.wav"}', "headers": {"content-type": "application/json"}},
        400,
        "fetches no URLs",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_is_not_served_is_refused_saying_what_is(what):
    asked, status, message = REFUSED[what]
    async with Door(limits=TranscriptionLimits(max_upload_bytes=2_000_000)).serving() as door:
        answer = await post(door, **asked)
    assert answer.status_code == status
    assert message in answer.json()["message"]
    assert answer.headers["dg-request-id"]
    assert len(door.sessions) == 0


async def test_only_posts_and_keys_that_are_known_come_in():
    async with Door(auth=AuthOptions(api_keys=(SecretStr(KEY),))).serving() as door:
        assert (await post(door)).status_code == 401
        assert (await post(door, headers={"authorization": f"Token {KEY}"})).status_code == 200
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as client:
            assert (await client.get(door.url.replace("ws", "http", 1))).status_code == 426


@pytest.mark.parametrize(
    ("error", "status"), [(ModelFailed(Stage.ASR, "broken"), 503), (InvalidText(Stage.ASR, "never"), 500)]
)
async def test_a_recording_that_recognition_fails_on_says_whether_to_come_again(error, status, monkeypatch):
    monkeypatch.setattr("serve_app.transcription.settings.RECORDING_TIMEOUT_MS", 200)
    async with Door().serving() as door:
        door.error = error
        answer = await post(door)
    assert answer.status_code == status
    assert error.code in answer.json()["message"]


async def test_a_recording_longer_than_one_may_be_is_refused():
    async with Door(limits=TranscriptionLimits(max_recording_s=3)).serving() as door:
        answer = await post(door)
    assert (answer.status_code, "longer than 3 s" in answer.json()["message"]) == (400, True)


async def test_a_client_that_goes_away_stops_the_work():
    async with Door().serving() as door:
        door.hang = True
        asking = asyncio.create_task(post(door))
        await until(lambda: any("transcription" in task.get_name() for task in asyncio.all_tasks()))
        asking.cancel()
        await until(lambda: len(door.sessions) == 0)
        await until(lambda: not any("transcription" in task.get_name() for task in asyncio.all_tasks()))


async def test_live_sessions_come_before_recordings():
    async with Door().serving() as door:
        await post(door)
        recorded = door.priorities.copy()
        door.priorities.clear()
        async with door.client() as client:
            await client.socket.send(loud(1000))
            await client.say("CloseStream")
            await client.rest()
    assert (set(recorded), set(door.priorities)) == ({Priority.BACKGROUND}, {Priority.LIVE})


@pytest.fixture
async def site():
    """What a URL may name: a recording, and what is none."""

    async def serve(reader, writer):
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
        body, status = (SPEECH, b"200 OK") if path == b"/speech.webm" else (b"gone", b"404 Not Found")
        writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


async def by_url(door: Door, url: object) -> httpx.Response:
    return await post(door, json.dumps({"url": url}), headers={"content-type": "application/json; charset=utf-8"})


async def test_a_url_is_fetched_where_that_is_allowed(site):
    async with Door(limits=TranscriptionLimits(fetch="any")).serving() as door:
        answer = await by_url(door, f"{site}/speech.webm")
        assert answer.json()["results"]["channels"][0]["alternatives"][0]["transcript"] == "hello world"
        for url, message in [
            (f"{site}/nothing", "HTTP 404"),
            ("file:///etc/passwd", "no http or https URL"),
            ("http://127.0.0.1:1/", "not reached"),
            ("http://[", "no"),
            (5, "no JSON object"),
        ]:
            answer = await by_url(door, url)
            assert answer.status_code == 400
            assert message in answer.json()["message"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254"])
async def test_an_address_inside_a_network_is_not_fetched_from(host, site):
    port = site.rpartition(":")[2]
    async with Door(limits=TranscriptionLimits(fetch="public")).serving() as door:
        answer = await by_url(door, f"http://{host}:{port}/speech.webm")
    assert answer.status_code == 400
    assert "not a public one" in answer.json()["message"]


async def test_a_body_for_a_url_is_no_recording():
    async with Door(limits=TranscriptionLimits(fetch="any")).serving() as door:
        answer = await post(
            door, b" " * (deepgram_recorded.MAX_URL_BODY_BYTES + 1), headers={"content-type": "application/json"}
        )
    assert answer.status_code == 413


async def test_a_recorded_answer_is_no_answer_to_a_socket():
    """The two forms share the path and don't take each other's requests."""
    async with Door().serving() as door:
        with pytest.raises(websockets.InvalidStatus):
            async with door.client("encoding=nonsense"):
                pass
