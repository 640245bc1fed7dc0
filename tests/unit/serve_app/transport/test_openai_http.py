"""The doors of OpenAI's clients by HTTP, on a real server, in front of scripted models."""

import asyncio
import base64
import io
import json
import wave

import av
import httpx
import numpy as np
import pytest
from pydantic import SecretStr

from deployments.contracts.values import (
    SAID_RATE_HZ,
    SayRequest,
    Sound,
    TranslateRequest,
    Translation,
    TranslationCapabilities,
    TtsCapabilities,
)
from deployments.errors import InvalidText, ModelFailed, Stage
from serve_app.access import AuthOptions
from serve_app.scheduling.fair_queue import Priority
from serve_app.stream.negotiation import ModelCapabilities
from serve_app.transcription import TranscriptionLimits
from serve_app.transport import uploads
from serve_app.transport.openai_http import OpenAIDoor
from tests.support.captions import loud, quiet
from tests.unit.serve_app.transport.test_deepgram import KEY, TIMEOUT_S, Door, until
from tests.unit.serve_app.transport.test_deepgram_recorded import file_of

SPEECH = file_of(loud(1280) + quiet(2000))
UPLOAD = {"file": ("speech.webm", SPEECH)}
TONE = (8000 * np.sin(np.arange(SAID_RATE_HZ // 2))).astype("<i2").tobytes()


class Doors(Door):
    """A server with these doors alone; translations are in capitals, each text is said as the same tone."""

    def __init__(self, **settings) -> None:
        super().__init__(**settings)
        self.said: list[SayRequest] = []
        self.say_error: Exception | None = None
        self.fails_at = 0
        self.translated: list[TranslateRequest] = []

    async def capabilities(self) -> ModelCapabilities:
        tts = TtsCapabilities("kokoro", {"anna": "en", "juan": "es"}, {"en": "anna", "es": "juan"})
        return ModelCapabilities(
            await self.abilities(), TranslationCapabilities("rules", frozenset({("en", "es")})), tts
        )

    async def ask(self, request, priority=Priority.LIVE):
        if isinstance(request, TranslateRequest):
            self.translated.append(request)
            return Translation(request.text.upper(), "en", "es", "rules", 1)
        if isinstance(request, SayRequest):
            self.said.append(request)
            if self.say_error is not None and request.ref.sequence_number >= self.fails_at:
                raise self.say_error
            return Sound(TONE, "kokoro", 1)
        return await super().ask(request, priority)

    def routes(self):
        return OpenAIDoor(self.sessions, self.capabilities, self.ask).routes

    def serving(self):
        return super().serving(routes=self.routes())

    async def post(self, path: str, **settings) -> httpx.Response:
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as client:
            return await client.post(self.root + path, **settings)

    async def get(self, path: str, **settings) -> httpx.Response:
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as client:
            return await client.get(self.root + path, **settings)

    async def transcribe(self, task: str = "transcriptions", **fields) -> httpx.Response:
        files = fields.pop("files", UPLOAD)
        return await self.post(f"/v1/audio/{task}", data={"model": "whisper-1", **fields}, files=files)

    async def speak(self, **fields) -> httpx.Response:
        return await self.post("/v1/audio/speech", json={"model": "tts-1", "input": "Hi.", "voice": "alloy", **fields})


def error_of(answer: httpx.Response) -> dict:
    assert answer.headers["x-request-id"].startswith("req_")
    return answer.json()["error"]


def events_of(answer: httpx.Response) -> list[dict]:
    assert answer.headers["content-type"].startswith("text/event-stream")
    return [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line]


async def test_a_recording_is_transcribed():
    async with Doors().serving() as doors:
        answer = await doors.transcribe()
        assert answer.json() == {"text": "Hello, World!", "usage": {"type": "duration", "seconds": 4}}
        assert answer.headers["x-request-id"].startswith("req_")
        subtitles = await doors.transcribe(response_format="srt")
        assert subtitles.headers["content-type"].startswith("text/plain")
        assert "Hello, World!" in subtitles.text
        verbose = await doors.transcribe(response_format="verbose_json", **{"timestamp_granularities[]": ["word"]})
        assert [one["word"] for one in verbose.json()["words"]] == ["Hello,", "World!"]
    assert len(doors.sessions) == 0
    assert set(doors.priorities) == {Priority.BACKGROUND}


async def test_a_transcription_comes_in_events_as_it_is_heard():
    async with Doors().serving() as doors:
        *deltas, done = events_of(await doors.transcribe(stream="true"))
    assert "".join(one["delta"] for one in deltas) == done["text"] == "Hello, World!"
    assert {one["type"] for one in deltas} == {"transcript.text.delta"}
    assert done["type"] == "transcript.text.done"
    assert len(doors.sessions) == 0


async def test_what_breaks_before_the_first_event_breaks_with_a_status():
    async with Doors().serving() as doors:
        answer = await doors.transcribe(stream="true", files={"file": ("x.wav", b"no audio" * 1000)})
    assert (answer.status_code, error_of(answer)["code"]) == (400, "INVALID_AUDIO")


async def test_a_recording_is_translated_into_what_is_asked_for_with_what_was_said_before():
    async with Doors().serving() as doors:
        answer = await doors.transcribe("translations", to_language="es", response_format="verbose_json")
        body = answer.json()
        assert (body["task"], body["language"], body["text"]) == ("translate", "spanish", "HELLO, WORLD!")
        [asked] = doors.translated
        assert (asked.source_language, asked.target_language, asked.context) == ("en", "es", "")
        same = await doors.transcribe("translations")
        assert same.json()["text"] == "Hello, World!"
        refused = await doors.transcribe("translations", to_language="fr")
    assert (refused.status_code, error_of(refused)["param"]) == (400, "to_language")
    assert "en→es" in error_of(refused)["message"]


REFUSED = {
    "no file": ({"files": {"other": ("a", b"x")}}, 400, "file", "file is missing"),
    "an empty file": ({"files": {"file": ("a.wav", b"")}}, 400, "file", "file is empty"),
    "no audio": ({"files": {"file": ("a.wav", b"hello" * 999)}}, 400, "file", "can't be read"),
    "a format": ({"response_format": "yaml"}, 400, "response_format", "verbose_json"),
    "a language": ({"language": "xx"}, 400, "language", "which hears: en"),
    "too large": ({"files": {"file": ("a.wav", bytes(3_000_000))}}, 413, "file", "more than 2000000 bytes"),
    "too many files": ({"files": [("file", ("a", b"x")), ("file", ("b", b"x"))]}, 400, None, "can't be read"),
    "a giant field": ({"prompt": "x" * 100_000}, 400, None, "can't be read"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_is_not_transcribed_is_refused_saying_what_is(what):
    asked, status, param, message = REFUSED[what]
    async with Doors(limits=TranscriptionLimits(max_upload_bytes=2_000_000)).serving() as doors:
        answer = await doors.transcribe(**asked)
        assert (answer.status_code, error_of(answer)["param"]) == (status, param)
        assert message in error_of(answer)["message"]
        assert (await doors.transcribe()).status_code == 200


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"", "multipart/form-data; boundary=x"), (b"--x\r\nbroken", "multipart/form-data; boundary=x"),
     (b"abc", "multipart/form-data"), (b"{}", "application/json"), (b"a=b", "application/x-www-form-urlencoded")],
)  # fmt: skip
async def test_a_form_that_is_none_is_refused(content, kind):
    async with Doors().serving() as doors:
        answer = await doors.post("/v1/audio/transcriptions", content=content, headers={"content-type": kind})
    assert (answer.status_code, error_of(answer)["type"]) == (400, "invalid_request_error")


async def test_a_form_that_does_not_go_on_is_refused(monkeypatch):
    monkeypatch.setattr(uploads, "SILENT_LIMIT_S", 0.05)
    async with Doors().serving() as doors:
        host, port = doors.root.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: x\r\ncontent-length: 99999\r\n"
        writer.write(f"{head}content-type: multipart/form-data; boundary=x\r\n\r\n--x\r\n".encode())
        async with asyncio.timeout(TIMEOUT_S):
            assert b"408" in await reader.readline()
        writer.close()


async def test_a_model_that_fails_says_whether_to_come_again(monkeypatch):
    monkeypatch.setattr("serve_app.transcription.settings.RECORDING_TIMEOUT_MS", 200)
    async with Doors().serving() as doors:
        doors.error = ModelFailed(Stage.ASR, "broken")
        answer = await doors.transcribe()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert error_of(answer)["code"] == "MODEL_ERROR"


@pytest.mark.parametrize("stream", ["true", "false"])
async def test_a_client_that_goes_away_stops_the_work(stream):
    async with Doors().serving() as doors:
        doors.hang = True
        asking = asyncio.create_task(doors.transcribe(stream=stream))
        await until(lambda: any("transcription" in task.get_name() for task in asyncio.all_tasks()))
        asking.cancel()
        await until(lambda: len(doors.sessions) == 0)


# --- speech -----------------------------------------------------------------------------------------------------


def seconds_of(data: bytes) -> float:
    with av.open(io.BytesIO(data)) as file:
        [stream] = file.streams.audio
        frames = list(file.decode(stream))
    return sum(frame.samples / frame.sample_rate for frame in frames)


TWO = "The first sentence is long enough to be a piece of its own, as it has more than a hundred characters. " * 3
"""Three pieces."""


@pytest.mark.parametrize(
    ("container", "kind"),
    [("mp3", "audio/mpeg"), ("opus", "audio/ogg"), ("aac", "audio/aac"), ("flac", "audio/flac"), ("wav", "audio/wav")],
)
async def test_speech_of_several_pieces_is_one_whole_file(container, kind):
    async with Doors().serving() as doors:
        answer = await doors.speak(input=TWO, response_format=container)
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert seconds_of(answer.content) == pytest.approx(0.5 * len(doors.said) + 0.15 * (len(doors.said) - 1), abs=0.15)
    assert len(doors.said) == 3
    assert " ".join(one.text for one in doors.said) == TWO.strip()


async def test_wav_tells_its_length_and_pcm_is_bare():
    async with Doors().serving() as doors:
        bare = await doors.speak(response_format="pcm", voice="juan", speed=1.5)
        with wave.open(io.BytesIO((await doors.speak(response_format="wav")).content)) as file:
            told = (file.getframerate(), file.getnchannels(), file.getnframes())
    assert bare.content == TONE
    assert told == (SAID_RATE_HZ, 1, SAID_RATE_HZ // 2)
    assert [(one.voice, one.rate) for one in doors.said] == [("juan", 1.5), ("anna", 1.0)]


async def test_speech_comes_in_events():
    async with Doors().serving() as doors:
        *deltas, done = events_of(await doors.speak(input=TWO, response_format="pcm", stream_format="sse"))
    audio = b"".join(base64.b64decode(one["audio"]) for one in deltas)
    assert audio.startswith(TONE)
    assert audio.endswith(TONE)
    assert (done["type"], set(done["usage"])) == (
        "speech.audio.done",
        {"input_tokens", "output_tokens", "total_tokens"},
    )


@pytest.mark.parametrize(
    ("error", "status", "param"),
    [(InvalidText(Stage.TTS, "nothing in it"), 400, "input"), (ModelFailed(Stage.TTS, "broken"), 503, None)],
)
async def test_a_text_that_can_not_be_said_fails_with_a_status(error, status, param):
    async with Doors().serving() as doors:
        doors.say_error = error
        answer = await doors.speak()
    assert (answer.status_code, error_of(answer)["param"]) == (status, param)


async def test_speech_that_breaks_on_its_way_is_no_whole_file():
    async with Doors().serving() as doors:
        doors.say_error, doors.fails_at = ModelFailed(Stage.TTS, "broken"), 1
        with pytest.raises(httpx.RemoteProtocolError):
            await doors.speak(input=TWO, response_format="pcm")
        *_, last = events_of(await doors.speak(input=TWO, response_format="pcm", stream_format="sse"))
    assert last["error"]["code"] == "MODEL_ERROR"


@pytest.mark.parametrize(
    ("settings", "status", "message"),
    [
        ({"json": {"model": "m", "input": "x", "voice": "nobody"}}, 400, "anna, juan"),
        ({"json": {"model": "m", "voice": "alloy"}}, 400, "input is missing"),
        ({"json": [1]}, 400, "no JSON object"),
        ({"content": b"{"}, 400, "no JSON object"),
        ({"content": b"[" * 100_000}, 400, "no JSON object"),
        ({"content": b" " * 300_000}, 413, "more than"),
    ],
)
async def test_speech_that_is_asked_for_wrongly_is_refused(settings, status, message):
    async with Doors().serving() as doors:
        answer = await doors.post("/v1/audio/speech", **settings)
    assert answer.status_code == status
    assert message in error_of(answer)["message"]


async def test_no_more_texts_are_spoken_at_once_than_sessions_may_be_open():
    async with Doors(limits=TranscriptionLimits(max_sessions=1)).serving() as doors:
        door = OpenAIDoor(doors.sessions, doors.capabilities, doors.ask)
        door._speeches = 1
        answers = []

        async def send(message):
            answers.append(message)

        async def receive():
            body = json.dumps({"model": "m", "input": "x", "voice": "alloy"}).encode()
            return {"type": "http.request", "body": body, "more_body": False}

        scope = {"type": "http", "method": "POST", "path": "/v1/audio/speech", "headers": [], "query_string": b""}
        await door.routes["/v1/audio/speech"](scope, receive, send)
    assert answers[0]["status"] == 503


# --- who comes in -----------------------------------------------------------------------------------------------


async def test_models_are_ours_and_the_names_that_clients_know():
    async with Doors().serving() as doors:
        listed = (await doors.get("/v1/models")).json()
        assert [one["id"] for one in listed["data"]] == ["whisper-tiny.en", "whisper-1", "kokoro", "tts-1"]
        assert (await doors.get("/v1/models/whisper-1")).json()["object"] == "model"
        unknown = await doors.get("/v1/models/some/other")
    assert (unknown.status_code, error_of(unknown)["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/audio/speech", "/v1/audio/transcriptions", "/v1/audio/translations"]
)
async def test_keys_are_asked_for_everywhere(path):
    async with Doors(auth=AuthOptions(api_keys=(SecretStr(KEY),))).serving() as doors:
        method = doors.get if path == "/v1/models" else doors.post
        answer = await method(path)
        assert (answer.status_code, error_of(answer)["code"]) == (401, "invalid_api_key")
        inside = await method(path, headers={"authorization": f"Bearer {KEY}"})
        assert inside.status_code != 401
    assert doors.counts.refusals == ["token"]


async def test_a_server_that_shuts_down_sends_clients_elsewhere():
    async with Doors().serving() as doors:
        doors.sessions.drain()
        answer = await doors.speak()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_other_methods_are_answered_with_those_that_are_taken():
    async with Doors().serving() as doors:
        assert (await doors.get("/v1/audio/speech")).status_code == 405
        assert "allowed: GET" in error_of(await doors.post("/v1/models"))["message"]
