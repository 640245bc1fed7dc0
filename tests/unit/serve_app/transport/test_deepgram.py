"""The door of Deepgram's clients, on a real WebSocket, in front of scripted models."""

import asyncio
import gc
import hashlib
import json
import socket as sockets
from contextlib import asynccontextmanager

import numpy as np
import pytest
import uvicorn
import websockets
from pydantic import SecretStr

from deployments.contracts.values import (
    AsrCapabilities,
    AudioFormat,
    ListenRequest,
    Recognition,
    Segment,
    Transcript,
    VoiceActivity,
    Word,
)
from deployments.errors import InvalidAudio, Stage
from serve_app.access import Access, AccessOptions, AuthOptions, LimitsConfig, Rates
from serve_app.scheduling.fair_queue import Priority
from serve_app.transcription import TranscriptionLimits
from serve_app.transport import deepgram
from serve_app.transport.http import build_app
from serve_app.transport.transcriber import Transcribers
from serve_app.transport.websocket import ClosableSockets, SocketLimits
from tests.support.captions import RATE_HZ, loud, quiet

TIMEOUT_S = 20.0
KEY = "a-key-of-this-test"
RAW = f"encoding=linear16&sample_rate={RATE_HZ}"


class Counts:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.refusals: list[str] = []
        self.open = 0
        self.doors: set[str] = set()
        self.events: list = []

    def refused(self, reason):
        self.refusals.append(reason)

    def sessions(self, door, count):
        self.open = count

    def told(self, door, event):
        self.doors.add(door)
        self.events.append(event)


class Door:
    """A server with nothing but this door."""

    def __init__(self, *, auth=None, access=None, limits=None) -> None:
        self.counts = Counts()
        self.limits = limits or TranscriptionLimits()
        self.access = Access(auth, access)
        self.error: BaseException | None = None
        self.hang = False
        self.abilities_error: Exception | None = None
        self.loading: asyncio.Event | None = None
        self.asked = 0
        self.priorities: list[Priority] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.sessions = Transcribers(self.ask, self.abilities, lambda: self.limits, self.counts, self.access)

    async def abilities(self):
        self.asked += 1
        if self.loading is not None:
            await self.loading.wait()
        if self.abilities_error is not None:
            raise self.abilities_error
        return AsrCapabilities("whisper-tiny.en", frozenset({"en"}))

    async def ask(self, request, priority=Priority.LIVE):
        self.priorities.append(priority)
        data = np.frombuffer(request.audio.data, "<i2")
        if isinstance(request, ListenRequest):
            new = data[request.context_ms * RATE_HZ // 1000 :]
            frames = [new[at : at + 512] for at in range(0, len(new), 512)]
            return VoiceActivity(tuple(0.9 if frame.any() else 0.0 for frame in frames), 0)
        if self.hang:
            await asyncio.Event().wait()
        await self.hold.wait()
        if self.error is not None:
            raise self.error
        duration_ms = len(data) * 1000 // RATE_HZ
        words = (Word("Hello,", 0, 200, 0.9), Word("World!", 200, min(500, duration_ms), 0.8))
        segment = Segment("Hello, World!", 0, duration_ms, 0.85, words)
        return Transcript(Recognition((segment,), "en"), duration_ms, AudioFormat("pcm_s16le", RATE_HZ, 1), "fake", 1)

    @asynccontextmanager
    async def serving(self, ws: str = "auto", routes=None):
        async def nothing():
            return {}

        async def metrics():
            return ""

        routes = routes or {deepgram.PATH: ClosableSockets(deepgram.DeepgramDoor(self.sessions), SocketLimits())}
        app = build_app({}, nothing, metrics, routes=routes)
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", ws=ws))
        listener = sockets.create_server(("127.0.0.1", 0))
        self.root = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.url = f"{self.root.replace('http', 'ws')}{deepgram.PATH}"
        running = asyncio.create_task(server.serve([listener]))
        try:
            yield self
        finally:
            server.should_exit = server.force_exit = True
            async with asyncio.timeout(TIMEOUT_S):
                await running
            listener.close()

    @asynccontextmanager
    async def client(self, query: str = RAW, **settings):
        async with asyncio.timeout(TIMEOUT_S), websockets.connect(f"{self.url}?{query}", **settings) as socket:
            yield Client(socket)


class Client:
    def __init__(self, socket) -> None:
        self.socket = socket

    async def say(self, kind: str, **more) -> None:
        await self.socket.send(json.dumps({"type": kind, **more}))

    async def next(self, kind: str | None = None) -> dict:
        """The next message, of this type if one is named."""
        while True:
            message = json.loads(await self.socket.recv())
            if kind in (None, message["type"]):
                return message

    async def rest(self) -> list[dict]:
        """All that comes until the end."""
        told = []
        try:
            while True:
                told.append(json.loads(await self.socket.recv()))
        except websockets.ConnectionClosed:
            return told


async def until(condition) -> None:
    """Until the server, whose loop the test shares, has come so far."""
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():
            await asyncio.sleep(0)


async def refusal(door: Door, query: str = RAW, **settings):
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with door.client(query, **settings):
            pass
    response = refused.value.response
    assert response.headers["dg-request-id"]
    assert response.headers["dg-error"]
    return response


async def test_a_stream_is_told_from_its_first_sound_to_its_metadata_in_order():
    async with Door().serving() as door, door.client(f"{RAW}&vad_events=true&utterance_end_ms=1000") as client:
        await client.socket.send(quiet(640) + loud(1280) + quiet(3200))
        await client.say("CloseStream")
        told = await client.rest()
    assert [message["type"] for message in told] == ["SpeechStarted", "Results", "UtteranceEnd", "Results", "Metadata"]
    started, final, end, silence, metadata = told
    assert started["timestamp"] == pytest.approx(0.64)
    assert final["channel"]["alternatives"][0]["transcript"] == "hello world"
    assert (final["is_final"], final["speech_final"], final["start"]) == (True, True, 0.0)
    assert silence["start"] == pytest.approx(final["start"] + final["duration"])
    assert (silence["channel"]["alternatives"][0]["transcript"], silence["speech_final"]) == ("", False)
    assert end["last_word_end"] == final["channel"]["alternatives"][0]["words"][-1]["end"]
    assert (metadata["duration"], metadata["channels"]) == (5.12, 1)
    assert metadata["request_id"] == final["metadata"]["request_id"]
    assert client.socket.close_code == 1000


async def test_interims_come_where_they_are_asked_for():
    async with Door().serving() as door, door.client(f"{RAW}&interim_results=true&punctuate=true") as client:
        await client.socket.send(loud(2000))
        interim = await client.next("Results")
        assert (interim["is_final"], interim["speech_final"]) == (False, False)
        assert interim["channel"]["alternatives"] == [{"transcript": "Hello, World!", "confidence": 0.0, "words": []}]


async def test_finalize_flushes_and_the_stream_goes_on():
    async with Door().serving() as door, door.client() as client:
        await client.socket.send(loud(1000))
        await client.say("Finalize")
        first = await client.next("Results")
        assert (first["from_finalize"], first["start"], first["duration"]) == (True, 0.0, 1.0)
        await client.socket.send(loud(500))
        await client.say("Finalize")
        second = await client.next("Results")
        assert (second["start"], second["duration"]) == (1.0, 0.5)


async def test_an_empty_frame_ends_the_stream_as_old_clients_expect():
    async with Door().serving() as door, door.client() as client:
        await client.socket.send(loud(1001)[:-1])  # half a sample is left over
        await client.socket.send(b"")
        assert [message["type"] for message in await client.rest()] == ["Results", "Metadata"]
        assert client.socket.close_code == 1000


async def test_a_stream_without_audio_ends_with_its_metadata_alone():
    async with Door().serving() as door, door.client() as client:
        await client.say("CloseStream")
        [metadata] = await client.rest()
    assert (metadata["type"], metadata["duration"]) == ("Metadata", 0.0)
    assert metadata["sha256"].startswith("e3b0c442")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "[1]",
        '"KeepAlive"',
        "{}",
        '{"type": 5}',
        '{"type": ["KeepAlive"]}',
        '{"type": "Nonsense"}',
        "[" * 50_000,
    ],
    ids=["empty", "no JSON", "list", "text", "no type", "number", "list as type", "unknown", "deep"],
)
async def test_a_message_that_cannot_be_read_is_answered_and_the_stream_goes_on(text):
    async with Door().serving() as door, door.client() as client:
        await client.socket.send(text)
        error = await client.next()
        assert (error["type"], error["variant"]) == ("Error", "SchemaError")
        assert "CloseStream" in error["description"]
        await client.socket.send(loud(500))
        await client.say("CloseStream")
        assert [message["type"] for message in await client.rest()] == ["Results", "Metadata"]


async def test_configure_is_refused_in_deepgrams_words():
    async with Door().serving() as door, door.client() as client:
        await client.say("Configure", keyterms=["Norland"])
        assert (await client.next())["code"] == "CONFIGURE_KEYTERMS_NOT_SUPPORTED"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidAudio(Stage.ASR, "broken"), "INVALID_AUDIO"),
        (ValueError("the inside of a bug"), "INTERNAL"),
        (asyncio.CancelledError(), "INTERNAL"),
    ],
)
async def test_a_final_that_recognition_fails_on_is_empty_behind_an_error_that_says_why(error, code):
    door = Door(limits=TranscriptionLimits(final_timeout_ms=1000))
    door.error = error
    async with door.serving(), door.client() as client:
        await client.socket.send(loud(500))
        await client.say("CloseStream")
        failed, final, metadata = await client.rest()
    assert failed["type"] == "Error"
    assert failed["variant"] == code
    assert "the inside" not in failed["description"]
    assert final["channel"]["alternatives"][0]["transcript"] == ""
    assert metadata["type"] == "Metadata"


@pytest.mark.parametrize("offered", [["token", KEY], ["bearer", KEY, "x-deepgram-session-id", "5f1c"]])
async def test_a_browser_that_offers_its_key_gets_its_subprotocol_back(offered):
    auth = AuthOptions(api_keys=(SecretStr(KEY),))
    async with Door(auth=auth).serving() as door, door.client(subprotocols=offered) as client:
        assert client.socket.subprotocol == offered[0]
        assert client.socket.response.headers["dg-request-id"]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Token no-key-of-this-test"}])
async def test_without_the_right_key_nobody_gets_in(headers):
    async with Door(auth=AuthOptions(api_keys=(SecretStr(KEY),))).serving() as door:
        response = await refusal(door, additional_headers=headers)
        assert (response.status_code, json.loads(response.body)["category"]) == (401, "INVALID_AUTH")
        assert door.counts.refusals == ["token"]


async def test_pages_of_other_origins_are_refused():
    async with Door(access=AccessOptions(origins=("https://news.example",))).serving() as door:
        assert (await refusal(door, origin="https://other.example")).status_code == 403


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("encoding=g729&sample_rate=8000", "linear16"),
        (f"{RAW}&language=es", "en"),
        (f"{RAW}&endpointing=%F0%9F%8E%A4", "endpointing"),
        ("&".join(f"a={at}" for at in range(600)), "500"),
    ],
)
async def test_a_query_that_cannot_be_met_is_refused_with_what_is_allowed(query, said):
    async with Door().serving() as door:
        response = await refusal(door, query)
        assert response.status_code == 400
        assert said in response.headers["dg-error"]


async def test_more_sessions_than_fit_are_refused_until_one_ends():
    async with Door(limits=TranscriptionLimits(max_sessions=1)).serving() as door:
        async with door.client() as client:
            assert (await refusal(door)).status_code == 503
            await client.say("CloseStream")
            await client.rest()
        async with door.client() as client:
            await client.say("CloseStream")
            assert await client.rest()


async def test_a_callers_limit_counts_for_this_door_too():
    door = Door()
    door.access.limits = LimitsConfig(per_address=Rates(connections=1))
    async with door.serving(), door.client():
        assert (await refusal(door)).status_code == 429


async def test_a_client_that_vanishes_leaves_nothing_behind():
    door = Door()
    door.hang = True
    async with door.serving():
        async with door.client() as client:
            await client.socket.send(loud(1000))
            await client.say("Finalize")
            while not any("transcription" in task.get_name() for task in asyncio.all_tasks()):
                await asyncio.sleep(0)
            client.socket.transport.abort()
        async with asyncio.timeout(TIMEOUT_S):
            while door.counts.open or len(door.sessions):
                await asyncio.sleep(0)
            while any("transcription" in task.get_name() for task in asyncio.all_tasks()):
                await asyncio.sleep(0)
    gc.collect()


async def test_a_server_that_shuts_down_gives_the_finals_and_sends_clients_elsewhere():
    async with Door().serving() as door, door.client() as client:
        await client.socket.send(loud(1000))
        while not len(door.sessions):
            await asyncio.sleep(0)
        await client.say("KeepAlive")
        await client.say("Nonsense")  # what came before it has been read, once this is answered
        await client.next("Error")
        door.sessions.drain()
        assert (await refusal(door)).status_code == 503
        told = await client.rest()
        assert [message["type"] for message in told] == ["Results", "Metadata"]
        assert told[0]["channel"]["alternatives"][0]["transcript"] == "hello world"
        assert client.socket.close_code == 1012


async def test_a_client_that_says_nothing_is_closed_as_deepgram_does(monkeypatch):
    monkeypatch.setattr(deepgram, "IDLE_TIMEOUT_S", 0.05)
    async with Door().serving() as door, door.client() as client:
        assert await client.rest() == []
        assert (client.socket.close_code, client.socket.close_reason) == (1011, "NET-0001")


async def test_a_session_that_has_lasted_long_enough_gets_its_finals_and_may_come_again():
    async with Door(limits=TranscriptionLimits(max_session_s=0.2)).serving() as door, door.client() as client:
        await client.socket.send(loud(1000))
        told = await client.rest()
        assert [message["type"] for message in told] == ["Results", "Metadata"]
        assert client.socket.close_code == 1012


async def test_by_http_it_says_what_it_is():
    async with Door().serving() as door:
        _, writer = await asyncio.open_connection("127.0.0.1", int(door.url.split(":")[2].split("/")[0]))
        reader, writer = await asyncio.open_connection("127.0.0.1", int(door.url.split(":")[2].split("/")[0]))
        writer.write(b"GET /v1/listen HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(TIMEOUT_S):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 426")
        writer.close()


async def test_sessions_that_open_at_the_same_time_do_not_pass_the_limit_together():
    async with Door(limits=TranscriptionLimits(max_sessions=1)).serving() as door:
        door.loading = asyncio.Event()
        most = 0

        async def come() -> int:
            nonlocal most
            try:
                async with door.client() as client:
                    await client.say("Nonsense")
                    await client.next("Error")
                    most = max(most, len(door.sessions))
                    await all_answered.wait()
                    return 101
            except websockets.InvalidStatus as refused:
                return refused.response.status_code

        all_answered = asyncio.Event()
        coming = [asyncio.create_task(come()) for _ in range(5)]
        await until(lambda: door.asked == len(coming))
        door.loading.set()
        await until(lambda: sum(task.done() for task in coming) >= 4 or most > 1)
        all_answered.set()
        statuses = sorted(await asyncio.gather(*coming))
    assert most == 1
    assert statuses == [101, 503, 503, 503, 503]


async def test_a_session_that_is_being_accepted_when_draining_begins_is_sent_elsewhere_too(monkeypatch):
    async with Door().serving() as door:
        accept = deepgram.WebSocket.accept

        async def drained_meanwhile(socket, *args, **kwargs):
            door.sessions.drain()
            await accept(socket, *args, **kwargs)

        monkeypatch.setattr(deepgram.WebSocket, "accept", drained_meanwhile)
        async with door.client() as client:
            assert [message["type"] for message in await client.rest()] == ["Metadata"]
            assert client.socket.close_code == 1012


async def test_a_bug_before_the_upgrade_gives_the_callers_place_back():
    door = Door()
    door.access.limits = LimitsConfig(per_address=Rates(connections=1))
    door.abilities_error = ValueError("the inside of a bug")
    async with door.serving():
        response = await refusal(door)
        assert response.status_code == 500
        assert b"the inside" not in response.body
        door.abilities_error = None
        async with door.client() as client:
            await client.say("CloseStream")
            assert [message["type"] for message in await client.rest()] == ["Metadata"]


async def test_audio_behind_the_end_is_not_kept_and_does_not_count():
    door = Door()
    door.hold.clear()
    async with door.serving(), door.client() as client:
        before = loud(1000)
        await client.socket.send(before)
        await client.say("CloseStream")
        for _ in range(20):
            await client.socket.send(loud(1000))
        await client.say("Nonsense")
        await client.next("Error")
        [(_, _, transcriber)] = door.sessions._open.values()
        assert transcriber._audio.held_bytes <= len(before)
        door.hold.set()
        metadata = (await client.rest())[-1]
    assert metadata["duration"] == 1.0
    assert metadata["sha256"] == hashlib.sha256(before).hexdigest()
    assert client.socket.close_code == 1000


async def test_a_client_that_waits_for_its_last_final_is_not_idle(monkeypatch):
    monkeypatch.setattr(deepgram, "IDLE_TIMEOUT_S", 0.05)
    door = Door()
    door.hold.clear()
    async with door.serving(), door.client() as client:
        await client.socket.send(loud(1000))
        await client.say("CloseStream")
        asyncio.get_running_loop().call_later(0.3, door.hold.set)
        assert [message["type"] for message in await client.rest()] == ["Results", "Metadata"]
        assert client.socket.close_code == 1000


async def test_a_client_that_vanishes_before_the_upgrade_gives_its_place_back():
    door = Door()
    door.access.limits = LimitsConfig(per_address=Rates(connections=1))
    door.loading = asyncio.Event()
    async with door.serving():
        coming = asyncio.create_task(websockets.connect(f"{door.url}?{RAW}").__aenter__())
        await until(lambda: door.asked)
        coming.cancel()
        await asyncio.wait([coming])
        door.loading.set()
        await until(lambda: not door.access._addresses.connections("127.0.0.1"))
        assert len(door.sessions) == 0


async def test_a_client_that_vanishes_while_a_long_session_ends_leaves_at_once():
    door = Door(limits=TranscriptionLimits(max_session_s=0.2))
    door.hold.clear()
    async with door.serving():
        async with door.client() as client:
            await client.socket.send(loud(1000))
            [(_, _, transcriber)] = await opened(door)
            await until(lambda: transcriber._session._overdue)
            client.socket.transport.abort()
        async with asyncio.timeout(3):
            await until(lambda: not len(door.sessions))


async def opened(door: Door):
    await until(lambda: len(door.sessions))
    return door.sessions._open.values()


@pytest.mark.parametrize("ws", ["websockets-sansio", "websockets", "wsproto"])
async def test_every_websocket_server_shows_a_refusal_and_an_end_alike(ws):
    if ws == "wsproto":
        pytest.importorskip("wsproto")
    async with Door(auth=AuthOptions(api_keys=(SecretStr(KEY),))).serving(ws) as door:
        assert (await refusal(door)).status_code == 401
        async with door.client(subprotocols=["token", KEY]) as client:
            assert client.socket.subprotocol == "token"
            await client.socket.send(loud(500) + b"\0")
            await client.socket.send(b"")
            assert [message["type"] for message in await client.rest()] == ["Results", "Metadata"]
            assert client.socket.close_code == 1000


async def test_keep_alive_is_not_answered_and_moves_no_time():
    async with Door().serving() as door, door.client() as client:
        await client.socket.send(loud(500))
        for _ in range(5):
            await client.say("KeepAlive")
        await client.say("CloseStream")
        final, metadata = await client.rest()
    assert (final["start"], final["duration"], metadata["duration"]) == (0.0, 0.5, 0.5)


async def test_a_listening_call_that_is_cancelled_on_its_way_does_not_stop_the_stream():
    door = Door()
    cancelled = []

    async def ask(request):
        if isinstance(request, ListenRequest) and not cancelled:
            cancelled.append(request)
            raise asyncio.CancelledError
        return await Door.ask(door, request)

    door.sessions._ask = ask
    async with door.serving(), door.client() as client:
        await client.socket.send(loud(500))
        await client.say("CloseStream")
        assert [message["type"] for message in await client.rest()] == ["Results", "Metadata"]
    assert cancelled


async def test_a_message_that_cannot_be_read_still_shows_that_its_client_is_there():
    async with Door().serving() as door, door.client() as client:
        [(_, _, transcriber)] = await opened(door)
        heard_at = transcriber._session._heard_at
        await client.socket.send("hello")
        await client.next("Error")
        assert transcriber._session._heard_at > heard_at
