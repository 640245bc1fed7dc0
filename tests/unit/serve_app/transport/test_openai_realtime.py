"""The door of OpenAI's clients for live transcription, on a real WebSocket, in front of scripted models."""

import asyncio
import base64
import json
from contextlib import asynccontextmanager

import pytest
import websockets
from pydantic import SecretStr

from deployments.errors import InvalidAudio, Stage
from serve_app.access import AuthOptions
from serve_app.transcription import TranscriptionLimits
from serve_app.transport.openai_realtime import PATH, TranscriptionDoor
from serve_app.transport.websocket import ClosableSockets, SocketLimits
from tests.support.captions import RATE_HZ, loud, quiet
from tests.unit.serve_app.transport.test_deepgram import KEY, TIMEOUT_S, Door, until

FORMAT = {"type": "audio/pcm", "rate": RATE_HZ}
HEARD = "conversation.item.input_audio_transcription"


class Realtime(Door):
    """A server with this door alone."""

    def serving(self):
        return super().serving(routes={PATH: ClosableSockets(TranscriptionDoor(self.sessions), SocketLimits())})

    @asynccontextmanager
    async def client(self, query: str = "intent=transcription", path: str = PATH, **settings):
        url = f"{self.root.replace('http', 'ws')}{path}?{query}"
        async with asyncio.timeout(TIMEOUT_S), websockets.connect(url, **settings) as socket:
            yield Client(socket)


class Client:
    def __init__(self, socket) -> None:
        self.socket = socket

    async def say(self, kind: str, **more) -> None:
        await self.socket.send(json.dumps({"type": kind, **more}))

    async def send(self, sound: bytes) -> None:
        await self.say("input_audio_buffer.append", audio=base64.b64encode(sound).decode())

    async def update(self, **heard) -> dict:
        session = {"type": "transcription", "audio": {"input": {"format": FORMAT, **heard}}}
        await self.say("session.update", session=session)
        return await self.until("session.updated", "error")

    async def next(self) -> dict:
        return json.loads(await self.socket.recv())

    async def until(self, *kinds: str) -> dict:
        while (event := await self.next())["type"] not in kinds:
            pass
        return event

    async def up_to(self, kind: str) -> list[dict]:
        events = [await self.next()]
        while events[-1]["type"] != kind:
            events.append(await self.next())
        return events

    async def rest(self) -> list[dict]:
        events = []
        try:
            while True:
                events.append(await self.next())
        except websockets.ConnectionClosed:
            return events


async def refusal(door: Realtime, query: str = "intent=transcription", **settings):
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with door.client(query, **settings):
            pass
    response = refused.value.response
    return response.status_code, json.loads(response.body)["error"]


async def test_a_session_says_what_it_is_and_is_set_up_by_what_is_named():
    async with Realtime().serving() as door, door.client() as client:
        created = await client.next()
        assert created["type"] == "session.created"
        heard = created["session"]["audio"]["input"]
        assert (heard["format"], heard["turn_detection"]["silence_duration_ms"]) == (
            {"type": "audio/pcm", "rate": 24_000},
            500,
        )
        updated = await client.update(turn_detection={"silence_duration_ms": 800}, transcription={"language": "en"})
        heard = updated["session"]["audio"]["input"]
        assert updated["session"]["type"] == "transcription"
        assert heard["turn_detection"] == {
            "type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 800,
        }  # fmt: skip
        assert (heard["format"], heard["transcription"]["language"]) == (FORMAT, "en")
        cleared = await client.update(turn_detection=None)
        assert cleared["session"]["audio"]["input"]["turn_detection"] is None


async def test_an_utterance_is_told_from_its_first_sound_to_its_transcript_in_order():
    async with Realtime().serving() as door, door.client() as client:
        await client.update()
        await client.send(quiet(640) + loud(1280))
        await client.send(quiet(1000))
        told = await client.up_to(f"{HEARD}.completed")
    kinds = [event["type"] for event in told if event["type"] != f"{HEARD}.delta"]
    assert kinds == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        f"{HEARD}.completed",
    ]
    assert len({event.get("item_id") or event["item"]["id"] for event in told}) == 1
    assert (told[0]["audio_start_ms"], told[-1]["transcript"]) == (pytest.approx(640, abs=64), "Hello, World!")
    assert told[-1]["usage"]["type"] == "duration"
    assert len({event["event_id"] for event in told}) == len(told)


async def test_deltas_are_words_that_no_later_one_takes_back():
    async with Realtime().serving() as door, door.client() as client:
        await client.update()
        for _ in range(8):
            await client.send(loud(500))
        deltas = [await client.until(f"{HEARD}.delta")]
        await client.send(quiet(1000))
        told = await client.up_to(f"{HEARD}.completed")
    deltas += [event for event in told if event["type"] == f"{HEARD}.delta"]
    assert told[-1]["transcript"].startswith("".join(event["delta"] for event in deltas).strip())


async def test_two_utterances_are_two_items_of_which_each_names_the_one_before():
    async with Realtime().serving() as door, door.client() as client:
        await client.update()
        for _ in range(2):
            await client.send(loud(1000) + quiet(1000))
        first = await client.until("input_audio_buffer.committed")
        second = await client.until("input_audio_buffer.committed")
    assert first["previous_item_id"] is None
    assert second["previous_item_id"] == first["item_id"]


async def test_without_turns_a_commit_ends_an_item_and_nothing_else_does():
    async with Realtime().serving() as door, door.client() as client:
        await client.update(turn_detection=None)
        await client.send(loud(1000) + quiet(6000) + loud(1000))
        await client.say("input_audio_buffer.commit")
        told = await client.up_to(f"{HEARD}.completed")
        await client.send(loud(500))
        await client.say("input_audio_buffer.commit")
        second = await client.until(f"{HEARD}.completed")
    kinds = [event["type"] for event in told]
    assert "input_audio_buffer.speech_started" not in kinds
    assert kinds.count("input_audio_buffer.committed") == 1
    assert told[-1]["transcript"]
    assert second["item_id"] != told[-1]["item_id"]
    assert second["usage"]["seconds"] == 0.5


async def test_commits_in_a_row_each_get_their_own_transcript():
    async with Realtime().serving() as door, door.client() as client:
        await client.update(turn_detection=None)
        for _ in range(4):
            await client.send(loud(600))
            await client.say("input_audio_buffer.commit")
        done = [await client.until(f"{HEARD}.completed") for _ in range(4)]
    assert len({event["item_id"] for event in done}) == 4
    assert all(event["transcript"] == "Hello, World!" for event in done)


async def test_a_commit_where_turns_are_detected_ends_the_turn_once():
    async with Realtime().serving() as door, door.client() as client:
        await client.update()
        await client.send(loud(1000))
        await client.until("input_audio_buffer.speech_started")
        await client.say("input_audio_buffer.commit")
        told = await client.up_to(f"{HEARD}.completed")
    assert [event["type"] for event in told].count("input_audio_buffer.committed") == 1
    assert told[-1]["transcript"] == "Hello, World!"


async def test_a_commit_of_too_little_is_an_error_and_the_session_goes_on():
    async with Realtime().serving() as door, door.client() as client:
        await client.update(turn_detection=None)
        await client.send(loud(50))
        await client.say("input_audio_buffer.commit", event_id="mine")
        error = (await client.until("error"))["error"]
        assert "50 ms" in error["message"]
        assert (error["type"], error["event_id"]) == ("invalid_request_error", "mine")
        await client.send(loud(500))
        await client.say("input_audio_buffer.commit")
        assert (await client.until(f"{HEARD}.completed"))["transcript"]


async def test_what_was_cleared_is_never_told():
    async with Realtime().serving() as door, door.client() as client:
        await client.update(turn_detection=None)
        await client.send(loud(1000))
        await client.say("input_audio_buffer.clear")
        await client.until("input_audio_buffer.cleared")
        await client.send(loud(600))
        await client.say("input_audio_buffer.commit")
        told = await client.up_to(f"{HEARD}.completed")
    assert [event["type"] for event in told].count("input_audio_buffer.committed") == 1
    assert told[-1]["usage"]["seconds"] == 0.6


async def test_the_beta_form_is_answered_in_the_beta_form():
    headers = {"openai-beta": "realtime=v1"}
    async with Realtime().serving() as door, door.client(additional_headers=headers) as client:
        assert (await client.next())["type"] == "transcription_session.created"
        session = {"input_audio_format": "g711_ulaw", "input_audio_transcription": {"model": "m", "language": "en"}}
        await client.say("transcription_session.update", session={**session, "turn_detection": None})
        updated = await client.next()
        assert updated["type"] == "transcription_session.updated"
        assert updated["session"]["input_audio_format"] == "g711_ulaw"
        assert updated["session"]["turn_detection"] is None
        await client.say("transcription_session.update", session={"input_audio_format": "mp3"})
        assert "g711_alaw" in (await client.next())["error"]["message"]


async def test_an_item_of_the_beta_form_is_created():
    async with Realtime().serving() as door, door.client() as client:
        await client.say("transcription_session.update", session={"input_audio_format": "pcm16"})
        await client.until("transcription_session.updated")
        await client.send(loud(1500) + quiet(1000))
        assert (await client.until("conversation.item.created"))["item"]["type"] == "message"


def updating(**heard) -> str:
    return json.dumps({"type": "session.update", "session": {"audio": {"input": heard}}})


WRONG = {
    "text": ("hello", "no JSON object"),
    "a list": ("[]", "no JSON object"),
    "no type": ("{}", "no JSON object"),
    "deep": ("[" * 50_000, "no JSON object"),
    "an unknown type": ('{"type": "response.create"}', "input_audio_buffer.append"),
    "no session": ('{"type": "session.update"}', "session is missing"),
    "another kind": ('{"type": "session.update", "session": {"type": "realtime"}}', "allowed: transcription"),
    "an odd input": ('{"type": "session.update", "session": {"audio": {"input": 5}}}', "no object"),
    "a wrong rate": (updating(format={"rate": 5}), "session.audio.input.format"),
    "a wrong turn": (updating(turn_detection={"type": "coin"}), "semantic_vad"),
    "an unheard language": (updating(transcription={"language": "xx"}), "allowed: en"),
    "no sound": ('{"type": "input_audio_buffer.append"}', "audio is missing"),
    "no base64": ('{"type": "input_audio_buffer.append", "audio": "ä*"}', "no base64"),
}


@pytest.mark.parametrize("what", WRONG)
async def test_a_message_that_is_wrong_is_answered_saying_why_and_the_session_goes_on(what):
    text, message = WRONG[what]
    async with Realtime().serving() as door, door.client() as client:
        await client.socket.send(text)
        assert message in (await client.until("error"))["error"]["message"]
        await client.update()
        await client.send(loud(1000) + quiet(1000))
        assert (await client.until(f"{HEARD}.completed"))["transcript"]


async def test_a_session_is_not_changed_once_sound_has_come():
    async with Realtime().serving() as door, door.client() as client:
        await client.update()
        await client.send(loud(300))
        assert "once sound has come" in (await client.update(turn_detection=None))["error"]["message"]
        assert (await client.update())["type"] == "session.updated"


async def test_an_utterance_that_recognition_fails_on_is_told_as_failed():
    async with Realtime().serving() as door, door.client() as client:
        door.error = InvalidAudio(Stage.ASR, "broken")
        await client.update()
        await client.send(loud(1000) + quiet(1000))
        failed = await client.until(f"{HEARD}.failed")
    assert (failed["error"]["code"], failed["error"]["message"]) == ("INVALID_AUDIO", "broken")


@pytest.mark.parametrize("turns", [None, {"type": "semantic_vad", "eagerness": "high"}])
async def test_a_server_that_shuts_down_gives_the_transcripts_and_sends_clients_elsewhere(turns):
    async with Realtime().serving() as door, door.client() as client:
        await client.update(turn_detection=turns)
        await client.send(loud(1000))
        await until(lambda: any(one.received_ms == 1000 for _, _, one in door.sessions._open.values()))
        door.sessions.drain()
        told = await client.rest()
    assert told[-1]["type"] == f"{HEARD}.completed"
    assert told[-1]["transcript"] == "Hello, World!"
    assert client.socket.close_code == 1012


async def test_a_session_that_has_lasted_long_enough_says_so_and_gives_its_transcripts():
    async with Realtime(limits=TranscriptionLimits(max_session_s=0.4)).serving() as door, door.client() as client:
        await client.update()
        await client.send(loud(1000))
        told = await client.rest()
    assert "session_expired" in [event["error"]["code"] for event in told if event["type"] == "error"]
    assert told[-1]["type"] == f"{HEARD}.completed"
    assert client.socket.close_code == 1001


async def test_who_may_not_come_in_is_told_before_the_upgrade():
    async with Realtime(auth=AuthOptions(api_keys=(SecretStr(KEY),))).serving() as door:
        assert await refusal(door) == (
            401,
            {
                "message": "incorrect API key provided",
                "type": "invalid_request_error",
                "param": None,
                "code": "invalid_api_key",
            },
        )
        async with door.client(additional_headers={"Authorization": f"Bearer {KEY}"}) as client:
            assert (await client.next())["type"] == "session.created"
        protocols = ["realtime", f"openai-insecure-api-key.{KEY}", "openai-beta.realtime-v1"]
        async with door.client(subprotocols=protocols) as client:
            assert client.socket.subprotocol == "realtime"
            assert (await client.next())["type"] == "transcription_session.created"


async def test_a_connection_on_which_nothing_is_said_is_ended():
    limits = TranscriptionLimits(idle_timeout_s=0.1)
    async with Realtime(limits=limits).serving() as door, door.client() as client:
        told = await client.rest()
    assert told[-1]["error"]["code"] == "session_expired"
    assert client.socket.close_code == 1001


async def test_a_session_for_which_there_is_no_place_is_told_so():
    async with Realtime().serving() as door, door.client() as client:
        door.sessions.draining = True
        await client.send(loud(100))
        error = (await client.until("error"))["error"]
    assert (error["type"], error["code"]) == ("server_error", "SERVER_DRAINING")


@pytest.mark.parametrize("query", ["", "model=gpt-realtime", "intent=conversation"])
async def test_other_sessions_than_transcriptions_are_refused(query):
    async with Realtime().serving() as door:
        status, error = await refusal(door, query)
    assert (status, error["param"]) == (400, "intent")


async def test_a_client_that_goes_leaves_nothing():
    async with Realtime().serving() as door:
        async with door.client() as client:
            await client.update()
            await client.send(loud(1000))
            await until(lambda: len(door.sessions) == 1)
        await until(lambda: len(door.sessions) == 0)
    assert door.counts.doors <= {"openai_realtime"}
