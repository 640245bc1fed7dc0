"""Deepgram's own client, unchanged, pointed at the real server: live captions by the real models, and who gets in."""

import asyncio
import json
import threading
import time
import wave
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import websockets
from deepgram import DeepgramClient
from deepgram.core.api_error import ApiError
from deepgram.core.events import EventType
from deepgram.environment import DeepgramClientEnvironment

from deployments.audio import pcm
from tests.support import browser, clips
from tests.support.browser import with_chromium, with_node
from tests.support.captions import CHUNK_MS, RATE_HZ, contained, loud, quiet
from tests.support.speed import seconds
from tests.support.words import word_error_rate

PROJECT = Path(__file__).resolve().parents[2]
SDK_4 = PROJECT / ".venv/deepgram-4/bin/python"
KEY = "a-key-of-this-test"
CLIP = "sense_and_sensibility-0870.wav"


@pytest.fixture(scope="module")
def fakes(serve):
    return serve("fakes", {"args.asr.delay_ms": 1}, environ={"LIVEDUB_AUTH__API_KEYS": json.dumps([KEY])})


@dataclass
class Heard:
    """What one client was told."""

    messages: list[Any] = field(default_factory=list)
    errors: list[Any] = field(default_factory=list)

    def of(self, kind: str) -> list[Any]:
        return [message for message in self.messages if message.type == kind]

    @property
    def finals(self) -> list[Any]:
        return [message for message in self.of("Results") if message.is_final]

    @property
    def text(self) -> str:
        return " ".join(final.channel.alternatives[0].transcript for final in self.finals).strip()


def client_of(server, key: str = KEY) -> DeepgramClient:
    http, socket = server.url, server.url.replace("http", "ws")
    where = DeepgramClientEnvironment(base=http, production=socket, agent=socket, agent_rest=http)
    return DeepgramClient(api_key=key, environment=where)


def listened(server, audio: bytes, bytes_per_s: int, *, pace: float = 1.0, **query: Any) -> Heard:
    """Send audio as fast as it is spoken, times `pace`, close the stream, and return what came."""
    heard = Heard()
    with client_of(server).listen.v1.connect(model="nova-3", **query) as connection:
        connection.on(EventType.MESSAGE, heard.messages.append)
        connection.on(EventType.ERROR, heard.errors.append)
        reading = threading.Thread(target=connection.start_listening)
        reading.start()
        began = time.monotonic()
        chunk_bytes = bytes_per_s * CHUNK_MS // 1000
        for at in range(0, len(audio), chunk_bytes):
            connection.send_media(audio[at : at + chunk_bytes])
            time.sleep(max(0.0, began + (at + chunk_bytes) / bytes_per_s / pace - time.monotonic()))
        connection.send_close_stream()
        reading.join(seconds(60))
        assert not reading.is_alive(), "the server did not end the stream"
    return heard


def check_contiguous(heard: Heard, duration_s: float) -> None:
    finals = heard.finals
    assert finals[0].start == 0
    assert all(one.start + one.duration == pytest.approx(other.start, abs=0.0015) for one, other in pairwise(finals))
    assert finals[-1].start + finals[-1].duration == pytest.approx(duration_s, abs=0.002)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("encoding", ["linear16", "mulaw"])
def test_real_speech_is_shown_while_it_lasts_and_final_after_it(serve, encoding):
    server = serve("local", {"args.asr_interim": {"engine": "moonshine"}})
    rate_hz = 8000 if encoding == "mulaw" else RATE_HZ
    samples, text = clips.clip(CLIP, rate_hz)[:, 0], clips.transcripts()[CLIP]
    audio = clips.g711(samples, encoding) if encoding == "mulaw" else pcm.to_bytes(samples, "pcm_s16le")
    bytes_per_s = rate_hz * (1 if encoding == "mulaw" else 2)
    heard = listened(
        server,
        audio,
        bytes_per_s,
        encoding=encoding,
        sample_rate=rate_hz,
        interim_results=True,
        punctuate=True,
        vad_events=True,
    )
    assert not heard.errors
    assert word_error_rate([text], [heard.text]) <= (0.15 if encoding == "linear16" else 0.3)
    interims = [message for message in heard.of("Results") if not message.is_final]
    assert interims, "no words were shown before the end"
    check_contiguous(heard, len(audio) / bytes_per_s)
    words = [word for final in heard.finals for word in final.channel.alternatives[0].words]
    assert all(one.start <= other.start for one, other in pairwise(words))
    assert all(0 < word.confidence <= 1 for word in words)
    assert words[-1].end <= len(audio) / bytes_per_s
    assert heard.messages[-1].type == "Metadata"
    assert heard.messages[-1].duration == pytest.approx(len(audio) / bytes_per_s, abs=0.002)


def transcript_of(final: dict[str, Any]) -> str:
    return str(final["channel"]["alternatives"][0]["transcript"])


@pytest.mark.timeout(300)
@with_node
@with_chromium
async def test_a_browser_records_its_microphone_and_reads_what_was_said(serve, tmp_path):
    """A page in Chromium, its MediaRecorder's WebM, and a key that only a subprotocol can carry."""
    server = serve("local", {"args.asr_interim": {"engine": "moonshine"}})
    spoken = clips.SPEECH / CLIP
    with wave.open(str(spoken)) as file:
        lasts_s = file.getnframes() / file.getframerate()
    came = await browser.run("media_recorder.mjs", server.url, "any", str(spoken), f"{lasts_s + 1:.1f}", timeout_s=120)
    results = [message for message in came["messages"] if message["type"] == "Results"]
    finals = [message for message in results if message["is_final"]]
    assert came["protocol"] == "token"
    assert came["close"][0] == 1000
    assert word_error_rate([clips.transcripts()[CLIP]], [" ".join(map(transcript_of, finals))]) <= 0.3
    assert len(results) > len(finals), "no words were shown before the end"


@pytest.mark.timeout(300)
def test_a_recording_is_heard_whole_by_the_python_sdk(serve):
    server = serve("local", {"args.asr_interim": {"engine": "moonshine"}})
    recorded = (clips.SPEECH / "two_cities.flac").read_bytes()
    answer = client_of(server).listen.v1.media.transcribe_file(
        request=recorded,
        model="nova-3",
        punctuate=True,
        utterances=True,
        request_options={"timeout_in_seconds": round(seconds(120))},
    )
    [alternative] = answer.results.channels[0].alternatives
    assert word_error_rate([clips.transcripts()["two_cities.flac"]], [alternative.transcript]) <= 0.15
    assert all(one.start <= other.start for one, other in pairwise(alternative.words))
    assert alternative.words[-1].end <= answer.metadata.duration == pytest.approx(44.37, abs=0.1)
    assert len(answer.results.utterances) >= 2


@with_node
async def test_the_javascript_sdk_streams_and_sends_recordings(fakes, tmp_path):
    raw, stored = tmp_path / "raw.pcm", tmp_path / "recorded.webm"
    audio = loud(2000) + quiet(1000)
    raw.write_bytes(audio)
    stored.write_bytes(contained(np.frombuffer(audio, "<i2"), RATE_HZ, "webm", "libopus"))
    asked = {"encoding": "linear16", "sample_rate": RATE_HZ, "interim_results": "true"}
    messages, recorded = await asyncio.gather(
        browser.run("deepgram.mjs", fakes.url, KEY, "live", str(raw), json.dumps(asked)),
        browser.run("deepgram.mjs", fakes.url, KEY, "recorded", str(stored), "{}"),
    )
    finals = [message for message in messages if message["type"] == "Results" and message["is_final"]]
    assert any(map(transcript_of, finals))
    assert (messages[-1]["type"], messages[-1]["duration"]) == ("Metadata", 3.0)
    assert recorded["results"]["channels"][0]["alternatives"][0]["transcript"]


@pytest.mark.skipif(not SDK_4.exists(), reason="no Deepgram SDK of version 4: make packages-test")
async def test_the_python_sdk_of_version_4_streams_too(fakes, tmp_path):
    raw = tmp_path / "raw.pcm"
    raw.write_bytes(loud(2000) + quiet(1500))
    asked = {"encoding": "linear16", "sample_rate": RATE_HZ, "interim_results": True, "vad_events": True}
    asked["utterance_end_ms"] = "1000"
    command = (SDK_4, PROJECT / "tests/support/deepgram_4.py", fakes.url, KEY, raw, json.dumps(asked))
    running = await asyncio.create_subprocess_exec(*map(str, command), stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(seconds(90)):
        printed, _ = await running.communicate()
    came = json.loads(printed)
    assert any(came["texts"])
    assert came["kinds"][0] == "SpeechStarted"
    assert came["kinds"][-1] == "Metadata"
    assert "UtteranceEnd" in came["kinds"]
    assert not {"Error", "Unhandled"} & set(came["kinds"])


async def test_curl_sends_a_file_and_is_told_what_is_wrong_with_another(fakes, tmp_path):
    stored = tmp_path / "recorded.ogg"
    stored.write_bytes(contained(np.frombuffer(loud(2000), "<i2"), RATE_HZ, "ogg", "libopus"))

    async def curl(*arguments: str) -> dict[str, Any]:
        command = ("curl", "-sS", "-H", f"Authorization: Token {KEY}", *arguments, f"{fakes.url}/v1/listen")
        running = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        async with asyncio.timeout(seconds(60)):
            printed, _ = await running.communicate()
        return dict(json.loads(printed))

    heard = await curl("--data-binary", f"@{stored}")
    assert heard["results"]["channels"][0]["alternatives"][0]["transcript"]
    refused = await curl("--data-binary", "hello")
    assert "failed to process audio" in refused["message"]


def test_each_utterance_gets_its_final_and_a_stream_of_them_loses_none(fakes):
    audio = (loud(2000) + quiet(1500)) * 4
    heard = listened(fakes, audio, RATE_HZ * 2, pace=4, encoding="linear16", sample_rate=RATE_HZ, endpointing=500)
    said = [final for final in heard.finals if final.channel.alternatives[0].transcript]
    assert len(said) == 4
    assert all(final.speech_final for final in said)
    check_contiguous(heard, len(audio) / RATE_HZ / 2)


def test_a_wrong_key_is_told_as_deepgram_tells_it(fakes):
    with (
        pytest.raises((ApiError, websockets.InvalidStatus)) as refused,  # by the version of websockets
        client_of(fakes, "no-key-of-this-test").listen.v1.connect(
            model="nova-3", encoding="linear16", sample_rate=8000
        ),
    ):
        pass
    error = refused.value
    assert (error.status_code if isinstance(error, ApiError) else error.response.status_code) == 401


async def test_a_refusal_passes_the_proxy_with_its_status_its_reason_and_its_request_id(fakes):
    url = fakes.url.replace("http", "ws")
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(f"{url}/v1/listen?encoding=g729", additional_headers={"Authorization": f"Token {KEY}"})
    response = refused.value.response
    assert response.status_code == 400
    assert "linear16" in response.headers["dg-error"]
    assert response.headers["dg-request-id"]
    assert json.loads(response.body)["category"] == "INVALID_QUERY_PARAMETER"


async def test_a_browser_sends_its_key_as_a_subprotocol(fakes):
    url = fakes.url.replace("http", "ws")
    socket = await websockets.connect(
        f"{url}/v1/listen?encoding=linear16&sample_rate={RATE_HZ}", subprotocols=["token", KEY]
    )
    async with socket, asyncio.timeout(seconds(20)):
        assert socket.subprotocol == "token"
        await socket.send(loud(1000))
        await socket.send(json.dumps({"type": "Finalize"}))
        final = json.loads(await socket.recv())
        assert final["from_finalize"]
        assert final["channel"]["alternatives"][0]["transcript"]
        await socket.send(json.dumps({"type": "CloseStream"}))
        assert json.loads(await socket.recv())["type"] == "Metadata"
        with pytest.raises(websockets.ConnectionClosedOK):
            await socket.recv()
