"""The Socket.IO shell on a real port with real clients: what workers send, what they get, and how connections end."""

import asyncio
import base64
import gc
import json
import socket as sockets
import weakref
from contextlib import suppress
from dataclasses import replace

import httpx
import pytest
import socketio
import uvicorn
import websockets

from deployments.contracts.values import EncodedAudio, Outcome
from deployments.errors import ModelFailed, Stage
from serve_app.protocol import MAX_FRAGMENT_BYTES, ErrorCode, FragmentProcessed, WireError
from serve_app.stream.values import Emit, StreamLimits
from serve_app.transport.engine_io import PATHS, engine_sockets
from serve_app.transport.http import build_app
from serve_app.transport.registry import Opening
from serve_app.transport.server import SocketServer
from tests.unit.serve_app.scripted import ABILITIES, M4A, OUTCOME, Counts, ScriptedDub, quick_limits, transcript

TIMEOUT_S = 10.0
AUDIO = b"the original"
EVENTS = ("stream:ready", "fragment:ack", "fragment:processed", "stream:complete", "backpressure", "error")


async def within(awaitable):
    return await asyncio.wait_for(awaitable, TIMEOUT_S)


class Server:
    """A SocketServer under uvicorn, its pipeline and abilities scripted."""

    def __init__(self) -> None:
        self.dub = ScriptedDub()
        self.counts = Counts()
        self.limits = quick_limits()
        self.loading: asyncio.Future[None] | None = None
        self.asked = asyncio.Event()
        self.sockets = self._make()

    def _make(self, **options) -> SocketServer:
        return SocketServer(self.dub, self._abilities, lambda: self.limits, self.counts, **options)

    async def _abilities(self):
        self.asked.set()
        if self.loading is not None:
            await self.loading
        return ABILITIES

    async def start(self, **options) -> None:
        self.sockets = self._make(**options) if options else self.sockets
        app = build_app(dict.fromkeys(PATHS, engine_sockets(self.sockets.app)), self._ready, self._metrics)
        config = uvicorn.Config(app, log_level="critical", lifespan="off", ws="auto")
        self._uvicorn = uvicorn.Server(config)
        self._listener = sockets.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._serving = asyncio.create_task(self._uvicorn.serve([self._listener]))

    async def stop(self) -> None:
        self._uvicorn.should_exit = self._uvicorn.force_exit = True
        await within(self._serving)
        self._listener.close()
        await self.sockets._sio.shutdown()

    async def _ready(self):
        return {}

    async def _metrics(self):
        return ""

    async def until(self, condition) -> None:
        """Until the server has come so far; looked at on each turn of the loop that it shares with the test."""
        async with asyncio.timeout(TIMEOUT_S):
            while not condition():
                await asyncio.sleep(0)


class Worker:
    """A real client that keeps what it gets."""

    def __init__(self, server: Server, *, reconnection: bool = False) -> None:
        self._server = server
        self.sio = socketio.AsyncClient(reconnection=reconnection, reconnection_delay=0.01, randomization_factor=0)
        self.got: list[tuple[str, dict]] = []
        self._news = asyncio.Event()
        self._read = 0
        self.disconnected: asyncio.Queue[str] = asyncio.Queue()
        self.connections = 0
        for name in EVENTS:
            self.sio.on(name, self._keep(name))
        self.sio.on("disconnect", self._left)
        self.sio.on("connect", self._came)

    def _keep(self, name: str):
        async def handler(payload: dict) -> None:
            self.got.append((name, payload))
            self._news.set()

        return handler

    async def _left(self, reason: str) -> None:
        self.disconnected.put_nowait(reason)

    async def _came(self) -> None:
        self.connections += 1

    async def connect(self, path: str = "socket.io", **headers: str) -> "Worker":
        await self.sio.connect(
            self._server.url, headers=headers, transports=["websocket"], socketio_path=path, wait_timeout=TIMEOUT_S
        )
        return self

    async def next(self) -> tuple[str, dict]:
        """The next event, whatever it is."""
        async with asyncio.timeout(TIMEOUT_S):
            while len(self.got) <= self._read:
                self._news.clear()
                await self._news.wait()
        self._read += 1
        return self.got[self._read - 1]

    async def expect(self, name: str) -> dict:
        """The next event of this name; others before it are skipped, but no error that is more than a warning."""
        while True:
            event, payload = await self.next()
            if event == name:
                return payload
            assert event != "error" or payload["severity"] == "warning", payload

    async def error(self) -> dict:
        """The next error."""
        while True:
            event, payload = await self.next()
            if event == "error":
                return payload

    async def open(self, stream_id: str = "radio", **changes) -> dict:
        await self.sio.emit("stream:init", init(stream_id, **changes))
        return await self.expect("stream:ready")

    async def send(self, number: int, **changes) -> None:
        await self.sio.emit("fragment:data", fragment(number, **changes))

    async def works(self, number: int = 0, **changes) -> None:
        """The connection carries a fragment from end to end."""
        await self.send(number, **changes)
        assert (await self.expect("fragment:ack"))["fragment_id"] == f"f-{number}"
        assert (await self.expect("fragment:processed"))["fragment_id"] == f"f-{number}"


def init(stream_id: str = "radio", **changes) -> dict:
    payload = {"stream_id": stream_id, "worker_id": "worker", "config": {"target_language": "es"}}
    return {name: value for name, value in (payload | changes).items() if value is not None}


def fragment(number: int, stream_id: str = "radio", audio: dict | None = None, **changes) -> dict:
    sound = {"format": "m4a", "sample_rate_hz": 48_000, "channels": 1, "duration_ms": 6000}
    sound |= {"data_base64": base64.b64encode(AUDIO).decode()} if audio is None else audio
    return {
        "fragment_id": f"f-{number}",
        "stream_id": stream_id,
        "sequence_number": number,
        "timestamp": 1_700_000_000_000,
        "audio": sound,
    } | changes


@pytest.fixture
async def server():
    server = Server()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def workers(server):
    made = []

    def make(**options) -> Worker:
        made.append(Worker(server, **options))
        return made[-1]

    yield make
    for worker in made:
        with suppress(Exception):
            await within(worker.sio.shutdown())


@pytest.fixture
async def worker(workers) -> Worker:
    return await workers().connect()


# --- a stream -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["socket.io", "ws/sts"])
async def test_a_stream_from_init_to_complete_on_both_paths(path, workers, server):
    worker = await workers().connect(path)
    ready = await worker.open()
    assert (ready["stream_id"], ready["max_inflight"]) == ("radio", 3)
    assert ready["capabilities"]["binary_audio"] is True
    await worker.send(0)
    assert (await worker.next())[0] == "fragment:ack"
    event, pressure = await worker.next()
    assert (event, pressure["action"], pressure["recommended_delay_ms"]) == ("backpressure", "none", 0)
    result = await worker.expect("fragment:processed")
    assert (result["status"], result["transcript"], result["translated_text"]) == ("success", "hello", "hola")
    assert base64.b64decode(result["dubbed_audio"]["data_base64"]) == b"the dub"
    await worker.sio.emit("stream:end", {"stream_id": "radio"})
    assert (await worker.expect("stream:complete"))["success_count"] == 1
    assert await within(worker.disconnected.get()) == "server disconnect"
    await server.until(lambda: not server.sockets._connections)
    assert (server.counts.streams, server.counts.in_flight) == (0, 0)


async def test_the_acknowledgement_does_not_wait_for_the_pipeline(worker, server):
    server.dub.hold.add("radio")
    await worker.open()
    await worker.send(0)
    assert (await worker.expect("fragment:ack"))["queue_position"] == 0
    server.dub.finish("f-0")
    await worker.expect("fragment:processed")


async def test_results_leave_in_order_however_they_come(worker, server):
    server.dub.hold.add("radio")
    await worker.open()
    for number in range(3):
        await worker.send(number)
        await within(server.dub.started.get())
    assert server.counts.in_flight == 3
    for number in (2, 1, 0):
        server.dub.finish(f"f-{number}")
    assert [(await worker.expect("fragment:processed"))["sequence_number"] for _ in range(3)] == [0, 1, 2]


async def test_two_streams_do_not_disturb_each_other(workers, server):
    """The pipeline of one never comes back; the other is served as ever."""
    server.dub.hold.add("stuck")
    stuck, lively = await workers().connect(), await workers().connect()
    await stuck.open("stuck")
    await stuck.send(0, stream_id="stuck")
    await stuck.expect("fragment:ack")
    await lively.open("lively")
    for number in range(5):
        await lively.works(number, stream_id="lively")
    assert server.sockets.streams == 2


async def test_binary_in_binary_out_and_base64_in_base64_out(worker):
    await worker.open()
    await worker.send(0, audio={"data": AUDIO})
    assert (await worker.expect("fragment:processed"))["dubbed_audio"]["data"] == b"the dub"
    await worker.send(1)
    assert base64.b64decode((await worker.expect("fragment:processed"))["dubbed_audio"]["data_base64"]) == b"the dub"


async def test_a_fragments_own_time_places_its_segments(worker):
    await worker.open()
    await worker.send(0, metadata={"pts_ns": 90_000_000_000})
    result = await worker.expect("fragment:processed")
    assert result["assets"]["transcript"]["segments"][0]["start_ms"] == 90_000


async def test_headers_are_the_defaults_of_an_init_that_names_nothing(workers, server):
    worker = await workers().connect(**{"X-Stream-ID": "tv", "X-Worker-ID": "box"})
    await worker.sio.emit("stream:init", init(stream_id=None, worker_id=None))
    assert (await worker.expect("stream:ready"))["stream_id"] == "tv"
    await worker.works(stream_id="tv")
    assert server.dub.settings[0].worker_id == "box"


async def test_an_init_wins_over_the_headers(workers):
    worker = await workers().connect(**{"X-Stream-ID": "tv"})
    assert (await worker.open("radio"))["stream_id"] == "radio"


async def test_pause_refuses_and_resume_takes_again(worker):
    await worker.open()
    await worker.sio.emit("stream:pause", {"stream_id": "radio"})
    await worker.send(0)
    refused = await worker.error()
    assert (refused["code"], refused["retryable"], refused["fragment_id"]) == ("STREAM_PAUSED", True, "f-0")
    await worker.sio.emit("stream:resume", {"stream_id": "radio"})
    await worker.works(0)


async def test_an_acknowledgement_of_the_worker_needs_no_answer(worker):
    await worker.open()
    await worker.sio.emit("fragment:ack", {"fragment_id": "f-0", "status": "received", "timestamp": 1})
    await worker.works()


async def test_end_lets_finish_what_is_in_flight(worker, server):
    server.dub.hold.add("radio")
    await worker.open()
    await worker.send(0)
    await within(server.dub.started.get())
    await worker.sio.emit("stream:end", {"stream_id": "radio"})
    await worker.send(1)
    assert (await worker.error())["code"] == "STREAM_NOT_FOUND"
    server.dub.finish("f-0")
    assert (await worker.expect("fragment:processed"))["sequence_number"] == 0
    assert (await worker.expect("stream:complete"))["total_fragments"] == 1


async def test_a_new_stream_on_a_connection_that_was_about_to_close_keeps_it_open(worker, server):
    server.limits = quick_limits(close_delay_ms=60_000)
    await worker.open("first")
    await worker.sio.emit("stream:end", {"stream_id": "first"})
    await worker.expect("stream:complete")
    [connection] = server.sockets._connections.values()
    await server.until(lambda: connection._end is not None)
    await worker.open("second")
    assert connection._end is None
    await worker.works(stream_id="second")


# --- what is refused --------------------------------------------------------------------------------------------------


REFUSALS = {
    "an unknown event": ("stream:stop", {"stream_id": "radio"}, "MALFORMED_DATA"),
    "no object": ("fragment:data", "hello", "MALFORMED_DATA"),
    "a list": ("fragment:data", [1], "MALFORMED_DATA"),
    "nothing at all": ("fragment:data", None, "MALFORMED_DATA"),
    "a missing field": ("fragment:data", {"fragment_id": "f"}, "MALFORMED_DATA"),
    "a boolean for a number": ("fragment:data", fragment(0, sequence_number=True), "MALFORMED_DATA"),
    "text for a number": ("fragment:data", fragment(0, sequence_number="0"), "MALFORMED_DATA"),
    "a negative number": ("fragment:data", fragment(0, sequence_number=-1), "INVALID_SEQUENCE"),
    "a number past all bounds": ("fragment:data", fragment(0, sequence_number=10**30), "INVALID_SEQUENCE"),
    "bad base64": ("fragment:data", fragment(0, audio={"data_base64": "%%%"}), "MALFORMED_DATA"),
    "audio twice": ("fragment:data", fragment(0, audio={"data_base64": "", "data": b""}), "MALFORMED_DATA"),
    "an unknown format": ("fragment:data", fragment(0, audio={"data": b"x", "format": "mid"}), "INVALID_FRAGMENT"),
    "another stream": ("fragment:data", fragment(0, stream_id="tv"), "STREAM_NOT_FOUND"),
    "the end of another stream": ("stream:end", {"stream_id": "tv"}, "STREAM_NOT_FOUND"),
    "a wrong acknowledgement": ("fragment:ack", {"fragment_id": "f"}, "MALFORMED_DATA"),
    "another init": ("stream:init", init("tv"), "INVALID_CONFIG"),
    "an init out of bounds": ("stream:init", init(max_inflight=11), "INVALID_CONFIG"),
    "an unknown language": ("stream:init", init(config={"target_language": "xx"}), "UNSUPPORTED_LANGUAGE_PAIR"),
    "an unknown voice": (
        "stream:init",
        init(config={"target_language": "es", "voice_profile": "../etc"}),
        "INVALID_VOICE_PROFILE",
    ),
    "half a character in an id": ("fragment:data", fragment(0, fragment_id="\ud800"), "INVALID_FRAGMENT"),
    "half a character in a stream": ("fragment:data", fragment(0, stream_id="a\udfff"), "INVALID_FRAGMENT"),
    "an event named connect": ("connect", {"asgi.scope": {"livedub.closer": None}}, "MALFORMED_DATA"),
    "an event named disconnect": ("disconnect", "bye", "MALFORMED_DATA"),
}


@pytest.mark.parametrize(("event", "payload", "code"), REFUSALS.values(), ids=REFUSALS)
async def test_a_refused_message_is_answered_and_the_connection_works_on(event, payload, code, worker, server):
    await worker.open()
    await worker.sio.emit(event, payload)
    error = await worker.error()
    assert error["code"] == code
    assert error["message"]
    await worker.works(1, sequence_number=1)
    assert len(server.sockets._connections) == 1


@pytest.mark.parametrize("name", ["connect", "disconnect"])
@pytest.mark.parametrize("data", [(), (1,), (1, 2), (1, 2, 3)], ids=len)
async def test_an_event_named_like_the_librarys_own_is_refused_whatever_it_holds(name, data, worker, server):
    await worker.open()
    await worker.sio.emit(name, data)
    error = await worker.error()
    assert (error["code"], error["details"]["event"]) == ("MALFORMED_DATA", name)
    await worker.works(1, sequence_number=1)
    assert len(server.sockets._connections) == 1


async def test_an_error_about_a_fragment_names_it(worker):
    await worker.open()
    await worker.send(3, audio={"data_base64": "%%%"})
    error = await worker.error()
    assert (error["fragment_id"], error["stream_id"], error["sequence_number"]) == ("f-3", "radio", 3)
    assert error["retryable"] is False


async def test_a_refused_number_does_not_hold_up_later_ones(worker, server):
    server.limits = quick_limits(start_wait_ms=30_000)
    await worker.open()
    await worker.send(0, audio={"data_base64": "%%%"})
    await worker.send(1)
    assert (await worker.error())["sequence_number"] == 0
    assert (await worker.expect("fragment:processed"))["sequence_number"] == 1


async def test_an_oversized_fragment_is_refused_and_the_connection_works_on(worker):
    await worker.open()
    await worker.send(0, audio={"data_base64": base64.b64encode(bytes(MAX_FRAGMENT_BYTES + 1)).decode()})
    error = await worker.error()
    assert (error["code"], error["fragment_id"]) == ("FRAGMENT_TOO_LARGE", "f-0")
    assert str(MAX_FRAGMENT_BYTES) in error["message"]
    await worker.works(1)


async def test_the_size_limit_can_be_lowered():
    server = Server()
    await server.start(max_fragment_bytes=4)
    worker = await Worker(server).connect()
    ready = await worker.open()
    assert ready["capabilities"]["max_fragment_bytes"] == 4
    await worker.send(0)
    assert (await worker.error())["code"] == "FRAGMENT_TOO_LARGE"
    await worker.sio.shutdown()
    await server.stop()


async def test_a_fragment_before_init_is_refused_with_what_to_do(worker):
    await worker.send(0)
    error = await worker.error()
    assert (error["code"], error["fragment_id"]) == ("STREAM_NOT_FOUND", "f-0")
    assert "stream:init" in error["message"]
    await worker.open()
    await worker.works()


async def test_above_the_critical_limit_a_fragment_is_rejected_and_can_be_sent_again(worker, server):
    server.dub.hold.add("radio")
    server.limits = quick_limits(critical_inflight=2)
    await worker.open()
    for number in range(3):
        await worker.send(number)
    error = await worker.error()
    assert (error["code"], error["sequence_number"], error["retryable"]) == ("BACKPRESSURE_EXCEEDED", 2, True)
    for number in range(2):
        server.dub.finish(f"f-{number}")
        await worker.expect("fragment:processed")
    await worker.send(2)
    await worker.expect("fragment:ack")


async def test_new_limits_hold_for_running_streams(worker, server):
    server.dub.hold.add("radio")
    await worker.open()
    server.limits = quick_limits(critical_inflight=1)
    server.sockets.apply_limits()
    await worker.send(0)
    await worker.send(1)
    assert (await worker.error())["code"] == "BACKPRESSURE_EXCEEDED"


async def test_a_name_of_an_event_may_be_anything(server):
    """Hostile packets by hand: an answer where there is something to answer, and no harm."""
    async with websockets.connect(f"ws://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=websocket") as raw:
        await raw.recv()
        await raw.send("40")
        await within(raw.recv())
        for packet in ("42[5,{}]", "42[null]"):
            await raw.send(packet)
        await raw.send('42["hello"]')
        answers = []
        while not answers or "'hello'" not in answers[-1]:
            answers.append(await within(raw.recv()))
        assert "unknown event '5'" in answers[0]


async def test_a_packet_that_breaks_engine_io_ends_its_connection_cleanly(server):
    async with websockets.connect(f"ws://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=websocket") as raw:
        await raw.recv()
        await raw.send("40")
        await within(raw.recv())
        assert len(server.sockets._connections) == 1
        await raw.send("x")
        await within(raw.wait_closed())
        assert raw.close_code == 1002
    await server.until(lambda: not server.sockets._connections)


async def test_a_message_above_all_limits_ends_the_connection_with_its_own_code(server):
    async with websockets.connect(f"ws://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=websocket") as raw:
        await raw.recv()
        await raw.send("40")
        await within(raw.recv())
        with suppress(websockets.ConnectionClosed):
            await raw.send("4" + "x" * (16 * 1024 * 1024 + 1))
        await within(raw.wait_closed())
        assert raw.close_code == 1009
    await server.until(lambda: not server.sockets._connections)


async def test_polling_is_refused(server):
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.get(f"{server.url}/socket.io/?EIO=4&transport=polling")
    assert response.status_code == 400
    assert "transport" in response.text


async def test_pings_are_announced_as_configured(server):
    other = Server()
    await other.start(ping_interval_s=7, ping_timeout_s=3)
    for port, announced in ((server.port, '"pingTimeout":10000,"pingInterval":25000'), (other.port, ":3000")):
        async with websockets.connect(f"ws://127.0.0.1:{port}/ws/sts/?EIO=4&transport=websocket") as raw:
            assert announced in await within(raw.recv())
    await other.stop()


# --- failures --------------------------------------------------------------------------------------------------------


async def test_a_bug_in_the_pipeline_is_an_internal_failure_of_its_fragment(worker, server):
    server.dub.bugs.add("f-0")
    await worker.open()
    await worker.send(0)
    result = await worker.expect("fragment:processed")
    assert result["status"] == "failed"
    assert (result["error"]["code"], result["error"]["stage"], result["error"]["retryable"]) == (
        "INTERNAL",
        "translation",
        True,
    )
    assert "bug" in result["error"]["message"]
    assert "ZeroDivision" not in result["error"]["message"]
    await worker.works(1)


async def test_a_failed_stage_comes_with_what_was_done_before_it(worker, server):
    server.dub.hold.add("radio")
    await worker.open()
    await worker.send(0)
    await within(server.dub.started.get())
    server.dub.finish("f-0", Outcome(transcript(), failure=ModelFailed(Stage.TRANSLATION, "down")))
    result = await worker.expect("fragment:processed")
    assert (result["error"]["code"], result["transcript"]) == ("MODEL_ERROR", "hello")
    assert "dubbed_audio" not in result


async def test_a_deadline_cancels_the_pipeline_and_names_the_stage_that_ran(worker, server):
    server.dub.hold.add("radio")
    await worker.open(timeout_ms=1000)
    await worker.send(0)
    result = await worker.expect("fragment:processed")
    assert (result["error"]["code"], result["error"]["stage"]) == ("TIMEOUT", "translation")
    assert result["transcript"] == OUTCOME.transcript.recognition.text
    assert result["stage_timings"]["asr_ms"] == OUTCOME.transcript.elapsed_ms
    assert 1000 <= result["processing_time_ms"] < 2000
    assert await within(server.dub.cancelled.get()) == "f-0"


async def test_a_bug_in_the_shell_is_answered_and_the_connection_works_on(worker, server, monkeypatch):
    await worker.open()
    monkeypatch.setattr("serve_app.transport.server.Fragment", None)
    await worker.send(0)
    error = await worker.error()
    assert (error["code"], error["retryable"]) == ("INTERNAL", True)
    assert "NoneType" not in error["message"]
    monkeypatch.undo()
    await worker.works(1)


async def test_models_that_are_still_loading_refuse_an_init_that_can_be_sent_again(worker, server):
    server.loading = asyncio.get_running_loop().create_future()
    server.loading.set_exception(WireError(ErrorCode.INTERNAL, "still loading"))
    await worker.sio.emit("stream:init", init())
    error = await worker.error()
    assert (error["code"], error["message"], error["retryable"]) == ("INTERNAL", "still loading", True)
    server.loading = None
    await worker.open()
    await worker.works()


async def test_every_effect_is_observed_once(worker, server):
    await worker.open()
    await worker.works()
    results = [e for e in server.counts.effects if isinstance(e, Emit) and isinstance(e.event, FragmentProcessed)]
    assert len(results) == 1
    assert (server.counts.streams, server.counts.in_flight) == (1, 0)


# --- a second init, takeover, disconnect -----------------------------------------------------------------------------


async def test_the_same_init_again_restarts_the_stream(worker, server):
    server.dub.hold.add("radio")
    first = await worker.open()
    await worker.send(0)
    await within(server.dub.started.get())
    second = await worker.open()
    assert second["session_id"] != first["session_id"]
    assert await within(server.dub.cancelled.get()) == "f-0"
    server.dub.hold.clear()
    await worker.works(0)
    assert server.sockets.streams == 1


async def test_a_refused_restart_leaves_the_running_stream_alone(worker, server):
    server.dub.hold.add("radio")
    await worker.open()
    await worker.send(0)
    await within(server.dub.started.get())
    await worker.sio.emit("stream:init", init(config={"target_language": "xx"}))
    assert (await worker.error())["code"] == "UNSUPPORTED_LANGUAGE_PAIR"
    server.dub.finish("f-0")
    assert (await worker.expect("fragment:processed"))["status"] == "success"


async def test_another_connection_takes_a_stream_over(workers, server):
    server.dub.hold.add("radio")
    old = await workers(reconnection=True).connect()
    await old.open()
    await old.send(0)
    await within(server.dub.started.get())
    new = await workers().connect()
    await new.open()
    error = await old.error()
    assert (error["code"], error["severity"], error["retryable"]) == ("SESSION_REPLACED", "fatal", False)
    assert await within(old.disconnected.get()) == "server disconnect"
    assert await within(server.dub.cancelled.get()) == "f-0"
    await server.until(lambda: len(server.sockets._connections) == 1)
    server.dub.hold.clear()
    await new.works(0)
    assert old.connections == 1
    assert not old.sio.connected


async def test_a_stream_that_opened_later_on_another_replica_is_let_go_here(worker, server):
    await worker.open()
    session = server.sockets._streams.carrier("radio").session.settings.session_id
    assert server.sockets.let_go(Opening("radio", "it has no number yet", 7, "")) is True
    own = server.sockets.settle("radio", session, [4, 2])
    assert own == Opening("radio", session, 8, "")
    for told in (own, Opening("radio", "older", 7, ""), Opening("jazz", "newer", 9, "")):
        assert server.sockets.let_go(told) is True
    await worker.works(0)
    assert server.sockets.epoch("radio") == 8
    server.sockets.let_go(Opening("radio", "newer", 9, ""))
    assert (await worker.error())["code"] == "SESSION_REPLACED"
    assert await within(worker.disconnected.get()) == "server disconnect"


async def test_the_fragments_of_all_open_streams_are_counted_and_those_of_ended_ones_are_not(workers, server):
    server.dub.hold |= {"radio", "jazz"}
    radio, jazz = await workers().connect(), await workers().connect()
    await radio.open("radio")
    await jazz.open("jazz")
    for number in range(2):
        await radio.send(number)
    await jazz.send(0, stream_id="jazz")
    await server.until(lambda: server.counts.in_flight == 3)
    await radio.open("radio")
    await server.until(lambda: server.counts.in_flight == 1)
    successor = await workers().connect()
    await successor.open("jazz")
    assert (server.counts.streams, server.counts.in_flight) == (2, 0)


async def test_every_stream_that_opens_is_told_to_the_other_replicas(worker, server):
    told = []

    async def opened(*ids):
        told.append(ids)

    server.sockets._opened = opened
    await worker.open()
    connection = server.sockets._streams.carrier("radio")
    assert told == [("radio", connection.session.settings.session_id)]
    await worker.open()
    assert [stream_id for stream_id, _ in told] == ["radio", "radio"]
    assert server.sockets.settle(*told[0], []) is None


async def test_a_disconnect_cancels_the_pipelines(worker, server):
    server.dub.hold.add("radio")
    await worker.open()
    for number in range(2):
        await worker.send(number)
        await within(server.dub.started.get())
    await worker.sio.disconnect()
    assert {await within(server.dub.cancelled.get()) for _ in range(2)} == {"f-0", "f-1"}
    await server.until(lambda: not server.sockets._connections)
    assert (server.sockets.streams, server.counts.streams, server.counts.in_flight) == (0, 0, 0)


async def test_every_lost_connection_is_cleaned_up_though_others_are_lost_meanwhile(server, monkeypatch):
    """The event loop holds its tasks weakly: what nobody else holds may be collected half way."""
    given_up, done, go_on = [], [], []

    async def disconnect(sid):
        waiting = asyncio.get_running_loop().create_future()
        go_on.append(weakref.ref(waiting))
        try:
            await waiting
        except GeneratorExit:
            given_up.append(sid)
            raise
        done.append(sid)

    monkeypatch.setattr(server.sockets._sio, "disconnect", disconnect)
    lost = ["a", "b", "c"]
    server.sockets._connections.update(dict.fromkeys(lost))
    for sid in lost:
        server.sockets._lost(sid)
        await asyncio.sleep(0)
    gc.collect()
    assert given_up == []
    for waiting in go_on:
        waiting().set_result(None)
    await server.until(lambda: done == lost)
    await server.until(lambda: not server.sockets._disconnecting)
    server.sockets._connections.clear()


async def test_a_connection_that_ends_while_its_init_waits_leaves_no_stream_behind(worker, server):
    server.loading = asyncio.get_running_loop().create_future()
    await worker.sio.emit("stream:init", init())
    await within(server.asked.wait())
    [sid] = server.sockets._connections
    await within(server.sockets._sio.disconnect(sid))
    server.loading.set_result(None)
    await within(worker.disconnected.get())
    await server.until(lambda: not server.sockets._connections)
    assert server.sockets.streams == 0


# --- drain -----------------------------------------------------------------------------------------------------------


async def test_draining_refuses_new_streams(worker, server):
    server.sockets.draining = True
    await worker.sio.emit("stream:init", init())
    error = await worker.error()
    assert (error["code"], error["retryable"]) == ("SERVER_DRAINING", True)


async def test_draining_that_begins_while_an_init_waits_refuses_it(worker, server):
    server.loading = asyncio.get_running_loop().create_future()
    await worker.sio.emit("stream:init", init())
    await within(server.asked.wait())
    server.sockets.draining = True
    server.loading.set_result(None)
    assert (await worker.error())["code"] == "SERVER_DRAINING"
    assert server.sockets.streams == 0


async def test_drain_closes_an_idle_socket_with_service_restart(server):
    async with websockets.connect(f"ws://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=websocket") as raw:
        await raw.recv()
        await raw.send("40")
        await within(raw.recv())
        server.sockets.drain()
        await within(raw.wait_closed())
        assert (raw.close_code, raw.close_reason) == (1012, "server draining")


async def test_drain_lets_a_stream_finish_and_its_worker_comes_back_by_itself(workers, server):
    server.dub.hold.add("radio")
    worker = await workers(reconnection=True).connect()
    await worker.open()
    await worker.send(0, audio={"data": AUDIO})
    await within(server.dub.started.get())
    server.sockets.drain()
    server.sockets.drain()
    told = await worker.error()
    assert (told["code"], told["severity"]) == ("SERVER_DRAINING", "warning")
    await worker.send(1, audio={"data": AUDIO})
    refused = await worker.error()
    assert (refused["code"], refused["fragment_id"]) == ("SERVER_DRAINING", "f-1")
    assert worker.disconnected.empty()
    server.sockets.draining = False
    server.dub.finish("f-0")
    assert (await worker.expect("fragment:processed"))["dubbed_audio"]["data"] == b"the dub"
    assert (await within(worker.disconnected.get())).startswith("transport"), "a server disconnect keeps it away"
    await server.until(lambda: worker.connections == 2 and worker.sio.connected)
    await worker.open()


async def test_large_last_results_are_out_before_the_restart_closes_the_socket(server):
    """The client reads slowly: the close has to wait behind megabytes."""
    speech = replace(OUTCOME.speech, audio=EncodedAudio(bytes(4 * 1024 * 1024), M4A))
    server.dub.hold.add("radio")
    async with websockets.connect(
        f"ws://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=websocket", max_size=None, max_queue=1
    ) as raw:
        await raw.recv()
        await raw.send("40")
        await within(raw.recv())
        await raw.send(_packet("stream:init", init()))
        await within(raw.recv())
        for number in range(3):
            await raw.send(_packet("fragment:data", fragment(number)))
            await within(server.dub.started.get())
        server.sockets.drain()
        for number in range(3):
            server.dub.finish(f"f-{number}", replace(OUTCOME, speech=speech))
        messages = []
        with suppress(websockets.ConnectionClosed):
            while True:
                messages.append(await within(raw.recv()))
        assert raw.close_code == 1012
        results = [message for message in messages if message.startswith('42["fragment:processed"')]
        assert [len(result) > 4 * 1024 * 1024 for result in results] == [True] * 3


async def test_a_worker_that_comes_while_draining_is_sent_elsewhere(server):
    server.sockets.draining = True
    async with websockets.connect(f"ws://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=websocket") as raw:
        await raw.recv()
        await raw.send("40")
        assert (await within(raw.recv())).startswith("40{")
        await within(raw.wait_closed())
        assert raw.close_code == 1012


def _packet(event: str, payload: dict) -> str:
    return "42" + json.dumps([event, payload])


def test_limits_of_the_tests_differ_from_the_defaults_only_in_waiting():
    assert quick_limits(close_delay_ms=5000, start_wait_ms=1000) == StreamLimits()


async def test_a_stream_that_another_replica_took_before_it_was_ready_is_never_ready(worker, server):
    async def opened(stream_id, session_id):
        server.sockets.settle(stream_id, session_id, [])
        server.sockets.let_go(Opening(stream_id, "newer", 9, ""))

    server.sockets._opened = opened
    await worker.sio.emit("stream:init", init())
    assert (await worker.error())["code"] == "SESSION_REPLACED"
    assert await within(worker.disconnected.get()) == "server disconnect"
    assert server.sockets.streams == 0
