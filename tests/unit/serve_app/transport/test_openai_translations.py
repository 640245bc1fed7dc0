"""The door of OpenAI's clients for live dubbing, on a real WebSocket, in front of scripted models."""

import asyncio
import base64

import pytest

from deployments.contracts.values import (
    SAID_RATE_HZ,
    SayRequest,
    Sound,
    TranslateRequest,
    Translation,
    TranslationCapabilities,
    TtsCapabilities,
)
from deployments.errors import ModelFailed, Stage
from serve_app.scheduling.fair_queue import Priority
from serve_app.stream.negotiation import ModelCapabilities
from serve_app.transcription.playback import MAX_LAG_S, Playback
from serve_app.transport import openai_translations
from serve_app.transport.openai_translations import PATH, TranslationsDoor
from serve_app.transport.websocket import ClosableSockets, SocketLimits
from tests.support.captions import loud, quiet
from tests.unit.serve_app.transport.test_deepgram import Door, until
from tests.unit.serve_app.transport.test_openai_realtime import Client, Realtime

SOUND = bytes(range(256)) * 100
PHRASE = loud(1500) + quiet(900)
"""At 24 kHz it lasts two thirds of that, which is long enough; the scripted models count it as if at 16 kHz."""


class Dubbing(Realtime):
    """A server with this door alone."""

    def __init__(self, **settings) -> None:
        super().__init__(**settings)
        self.said: list[SayRequest] = []
        self.failing: dict[type, Exception] = {}
        self.saying = asyncio.Event()
        self.saying.set()

    async def capabilities(self) -> ModelCapabilities:
        tts = TtsCapabilities("kokoro", {"anna": "en", "juan": "es"}, {"en": "anna", "es": "juan"})
        pairs = frozenset({("en", "es"), ("en", "fr")})
        return ModelCapabilities(await self.abilities(), TranslationCapabilities("rules", pairs), tts)

    async def ask(self, request, priority=Priority.LIVE):
        if type(request) in self.failing:
            raise self.failing[type(request)]
        if isinstance(request, TranslateRequest):
            return Translation(f"«{request.text}»", "en", "es", "rules", 1)
        if isinstance(request, SayRequest):
            self.said.append(request)
            await self.saying.wait()
            return Sound(SOUND, "kokoro", 1)
        return await super().ask(request, priority)

    def serving(self):
        door = TranslationsDoor(self.sessions, self.capabilities, self.ask)
        return Door.serving(self, routes={PATH: ClosableSockets(door, SocketLimits())})

    def client(self, query: str = "model=any", **settings):
        return super().client(query, path=PATH, **settings)


async def send(client: Client, sound: bytes) -> None:
    await client.say("session.input_audio_buffer.append", audio=base64.b64encode(sound).decode())


def heard_in(told: list[dict]) -> bytes:
    return b"".join(base64.b64decode(one["delta"]) for one in told if one["type"] == "session.output_audio.delta")


def words_in(told: list[dict], which: str) -> str:
    return "".join(one["delta"] for one in told if one["type"] == f"session.{which}_transcript.delta")


async def test_what_is_said_comes_back_in_another_language_whole_and_in_order():
    async with Dubbing().serving() as door, door.client() as client:
        created = await client.next()
        assert created["type"] == "session.created"
        session = created["session"]
        assert (session["type"], session["audio"]["output"]["language"]) == ("translation", "es")
        assert {"id", "model", "expires_at", "audio"} <= set(session)
        update = {
            "audio": {"output": {"language": "es-MX"}, "input": {"transcription": {"model": "m", "language": "en"}}}
        }
        await client.say("session.update", session=update)
        assert (await client.next())["session"]["audio"]["input"]["transcription"]["language"] == "en"
        await send(client, PHRASE * 2)
        await client.say("session.close")
        told = await client.rest()
    assert told[-1]["type"] == "session.closed"
    assert client.socket.close_code == 1000
    assert words_in(told, "input") == "Hello, World! Hello, World!"
    assert words_in(told, "output") == "«Hello, World!» «Hello, World!»"
    assert heard_in(told) == SOUND * 2
    sound = next(one for one in told if one["type"] == "session.output_audio.delta")
    assert (sound["sample_rate"], sound["channels"], sound["format"]) == (SAID_RATE_HZ, 1, "pcm16")
    assert [one.voice for one in door.said] == ["juan", "juan"]


async def test_the_source_is_told_only_where_that_is_asked_for():
    async with Dubbing().serving() as door, door.client() as client:
        await send(client, PHRASE)
        await client.say("session.close")
        told = await client.rest()
    assert words_in(told, "input") == ""
    assert words_in(told, "output") == "«Hello, World!»"


async def test_a_phrase_is_heard_while_the_speaker_goes_on():
    async with Dubbing().serving() as door, door.client() as client:
        await send(client, PHRASE)
        assert base64.b64decode((await client.until("session.output_audio.delta"))["delta"])
        await send(client, PHRASE)
        await client.until("session.output_transcript.delta")


@pytest.mark.parametrize(("failing", "lost"), [(TranslateRequest, "words"), (SayRequest, "sound")])
async def test_a_phrase_that_fails_is_told_and_the_next_one_is_said(failing, lost):
    async with Dubbing().serving() as door, door.client() as client:
        door.failing = {failing: ModelFailed(Stage.TTS, "broken")}
        await send(client, PHRASE)
        assert (await client.until("error"))["error"]["code"] == "MODEL_ERROR"
        door.failing = {}
        await send(client, PHRASE)
        await client.say("session.close")
        told = await client.rest()
    assert heard_in(told) == SOUND
    assert told[-1]["type"] == "session.closed"


async def test_a_voice_that_is_behind_speaks_faster_and_too_late_not_at_all(monkeypatch):
    class Behind(Playback):
        lags = iter([0.0, 6.5, MAX_LAG_S + 1])

        def lag_s(self, now):
            return next(self.lags)

    monkeypatch.setattr(openai_translations, "Playback", Behind)
    async with Dubbing().serving() as door, door.client() as client:
        told = []
        for _ in range(3):
            await send(client, PHRASE)
            told += await client.up_to("session.output_transcript.delta")
        await client.say("session.close")
        told += await client.rest()
    assert [one.rate for one in door.said] == [1.0, pytest.approx(1.25)]
    assert [one["error"]["code"] for one in told if one["type"] == "error"] == ["voice_too_late"]
    assert words_in(told, "output").count("«") == 3


WRONG = {
    "a language without a voice": ({"audio": {"output": {"language": "fr"}}}, "en→es"),
    "a language that is not heard": ({"audio": {"input": {"transcription": {"language": "de"}}}}, "en→es"),
    "no object": ({"audio": 5}, "session.audio is no object"),
    "odd output": ({"audio": {"output": []}}, "session.audio.output is no object"),
}


@pytest.mark.parametrize("what", WRONG)
async def test_what_can_not_be_had_is_answered_with_what_can(what):
    session, message = WRONG[what]
    async with Dubbing().serving() as door, door.client() as client:
        await client.say("session.update", session=session)
        assert message in (await client.until("error"))["error"]["message"]
        await send(client, PHRASE)
        await client.until("session.output_audio.delta")


async def test_languages_stay_once_sound_has_come_and_other_events_are_answered():
    async with Dubbing().serving() as door, door.client() as client:
        await send(client, quiet(300))
        await client.say("session.update", session={"audio": {"input": {"transcription": None}}})
        assert (await client.until("session.updated", "error"))["type"] == "session.updated"
        await client.say("input_audio_buffer.commit")
        assert "session.close" in (await client.until("error"))["error"]["message"]


async def test_a_session_that_is_closed_before_any_sound_ends_at_once():
    async with Dubbing().serving() as door, door.client() as client:
        await client.say("session.close")
        told = await client.rest()
    assert [one["type"] for one in told] == ["session.created", "session.closed"]
    assert client.socket.close_code == 1000


async def test_a_server_that_shuts_down_says_what_was_said_and_sends_clients_elsewhere():
    async with Dubbing().serving() as door, door.client() as client:
        await send(client, loud(1500))
        await until(lambda: len(door.sessions) == 1)
        door.sessions.drain()
        told = await client.rest()
    assert heard_in(told) == SOUND
    assert client.socket.close_code == 1012


async def test_a_client_that_goes_stops_the_voice():
    async with Dubbing().serving() as door:
        async with door.client() as client:
            door.saying.clear()
            await send(client, PHRASE)
            await until(lambda: door.said)
        await until(lambda: len(door.sessions) == 0)
        await until(lambda: not any("translation" in task.get_name() for task in asyncio.all_tasks()))
