"""How a WebSocket ends: codes, nothing after the end, and the server's own way to end it."""

import asyncio

import pytest

from serve_app.transport.engine_io import LARGE_BYTES, MARK, EngineCloser, engine_sockets
from serve_app.transport.websocket import CLOSER_KEY, ClosableSockets, SocketLimits

SOCKET = {"type": "websocket", "path": "/"}
TIMEOUT_S = 5.0


class Wire:
    """The server's side of one connection: what the client sends is put in, what it gets is written down."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[dict] = asyncio.Queue()
        self.sent: list[dict] = []
        self.error: Exception | None = None

    async def receive(self) -> dict:
        return await self.incoming.get()

    async def send(self, message: dict) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append(dict(message))


@pytest.fixture
def wire() -> Wire:
    return Wire()


async def served(app, wire: Wire, scope=SOCKET, limits=None) -> None:
    before = asyncio.all_tasks()
    await asyncio.wait_for(engine_sockets(app, limits)(scope, wire.receive, wire.send), TIMEOUT_S)
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - before
    _, pending = await asyncio.wait(left, timeout=TIMEOUT_S) if left else (set(), set())
    assert not pending, "a connection that is over leaves no task behind"


async def test_a_close_without_code_gets_the_normal_one(wire):
    async def app(scope, receive, send):
        await send({"type": "websocket.close"})

    await served(app, wire)
    assert wire.sent == [{"type": "websocket.close", "code": 1000}]


async def test_a_close_keeps_its_own_code_and_reason(wire):
    async def app(scope, receive, send):
        await send({"type": "websocket.close", "code": 4000, "reason": "no"})

    await served(app, wire)
    assert wire.sent == [{"type": "websocket.close", "code": 4000, "reason": "no"}]


async def test_nothing_is_sent_after_the_client_has_left(wire):
    wire.incoming.put_nowait({"type": "websocket.disconnect", "code": 1001})

    async def app(scope, receive, send):
        assert (await receive())["type"] == "websocket.disconnect"
        await send({"type": "websocket.send", "text": "too late"})
        await send({"type": "websocket.close"})

    await served(app, wire)
    assert wire.sent == []


async def test_nothing_is_sent_after_a_close(wire):
    async def app(scope, receive, send):
        await send({"type": "websocket.close"})
        await send({"type": "websocket.send", "text": "too late"})

    await served(app, wire)
    assert [message["type"] for message in wire.sent] == ["websocket.close"]


async def test_nothing_is_sent_once_the_application_is_done(wire):
    kept = []

    async def app(scope, receive, send):
        kept.append(send)

    await served(app, wire)
    await kept[0]({"type": "websocket.send", "text": "too late"})
    assert wire.sent == []


async def test_a_broken_pipe_is_no_error_of_the_application(wire):
    wire.error = BrokenPipeError()

    async def app(scope, receive, send):
        await send({"type": "websocket.send", "text": "x"})

    await served(app, wire)


async def test_messages_pass_both_ways(wire):
    wire.incoming.put_nowait({"type": "websocket.connect"})
    wire.incoming.put_nowait({"type": "websocket.receive", "text": '42["hello"]'})

    async def app(scope, receive, send):
        assert [(await receive())["type"], (await receive())["text"]] == ["websocket.connect", '42["hello"]']
        await send({"type": "websocket.send", "text": "hi"})

    await served(app, wire)
    assert wire.sent == [{"type": "websocket.send", "text": "hi"}]


async def test_the_closer_ends_a_pending_receive_with_one_close(wire):
    received = []

    async def app(scope, receive, send):
        asyncio.get_running_loop().call_soon(scope[CLOSER_KEY].close, 1012, "service restart")
        asyncio.get_running_loop().call_soon(scope[CLOSER_KEY].close, 1000, "never mind")
        received.append(await receive())
        await send({"type": "websocket.close"})

    await served(app, wire)
    assert wire.sent == [{"type": "websocket.close", "code": 1012, "reason": "service restart"}]
    assert received == [{"type": "websocket.disconnect", "code": 1012, "reason": "service restart"}]


async def test_a_receive_after_the_close_waits_for_the_client(wire):
    received = []

    async def app(scope, receive, send):
        scope[CLOSER_KEY].close(1012, "")
        await receive()
        wire.incoming.put_nowait({"type": "websocket.disconnect", "code": 1012})
        received.append(await receive())

    await served(app, wire)
    assert received == [{"type": "websocket.disconnect", "code": 1012}]


async def test_a_message_is_not_lost_when_a_receive_is_cancelled(wire):
    received = []

    async def app(scope, receive, send):
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        waiting.cancel()
        wire.incoming.put_nowait({"type": "websocket.receive", "text": '42["kept"]'})
        received.append(await receive())

    await served(app, wire)
    assert received[0]["text"] == '42["kept"]'


async def test_a_close_at_the_mark_lets_out_what_was_sent_before_it(wire):
    """However slowly the client reads: the mark passes through the same queue."""
    slow = asyncio.Event()

    async def app(scope, receive, send):
        closer = scope[CLOSER_KEY]

        async def writer():
            await slow.wait()
            await send({"type": "websocket.send", "bytes": None, "text": "the last result"})
            await send({"type": "websocket.send", "bytes": None, "text": MARK})

        writing = asyncio.ensure_future(writer())
        closer.close_at_mark(1012, "restart")
        receiving = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        assert wire.sent == []
        slow.set()
        assert (await receiving)["code"] == 1012
        await writing

    await served(app, wire)
    assert [message.get("text", message.get("code")) for message in wire.sent] == ["the last result", 1012]


async def test_a_mark_means_nothing_without_a_planned_close(wire):
    async def app(scope, receive, send):
        await send({"type": "websocket.send", "text": MARK})
        await send({"type": "websocket.send", "text": "on"})

    await served(app, wire)
    assert wire.sent == [{"type": "websocket.send", "text": "on"}]


async def test_an_application_that_breaks_ends_its_socket_and_no_more(wire):
    closers: list[EngineCloser] = []

    async def app(scope, receive, send):
        closers.append(scope[CLOSER_KEY])
        raise ValueError("not a packet")

    await served(app, wire)
    assert wire.sent == [{"type": "websocket.close", "code": 1011}]
    assert closers[0].gone.done()


@pytest.mark.parametrize("kind", ["http", "lifespan"])
async def test_other_scopes_pass_through_untouched(kind, wire):
    scope = {"type": kind}
    seen = []

    async def app(*args):
        seen.extend(args)

    await served(app, wire, scope)
    assert seen[0] is scope
    assert seen[1:] == [wire.receive, wire.send]


def frame(text: str) -> dict:
    return {"type": "websocket.send", "bytes": None, "text": text}


def came(text: str) -> dict:
    return {"type": "websocket.receive", "text": text}


LIMITS = SocketLimits.model_construct(max_unread_bytes=800)


async def test_output_that_is_not_read_ends_the_connection(wire):
    """The server in front takes everything at once; only answers to pings tell what was read."""

    async def app(scope, receive, send):
        for _ in range(9):
            await send(frame("x" * 100))
        assert (await receive())["code"] == 1008

    await served(app, wire, limits=LIMITS)
    assert wire.sent[-1] == {"type": "websocket.close", "code": 1008, "reason": "unread output above 800 bytes"}
    assert sum(len(message["text"]) for message in wire.sent[:-1] if message["text"] != "2") == 800


async def test_a_client_that_reads_may_be_sent_any_amount(wire):
    read = []

    async def app(scope, receive, send):
        for _ in range(100):
            await send(frame("x" * 100))
            wire.incoming.put_nowait(came("3"))
            wire.incoming.put_nowait(came('42["on"]'))
            read.append((await receive())["text"])

    await served(app, wire, limits=LIMITS)
    assert read == ['42["on"]'] * 100, "answers to probes are not for Engine.IO"
    assert [message["text"][:1] for message in wire.sent] == ["x", "2"] * 100


async def test_the_answer_to_the_heartbeat_is_for_engine_io(wire):
    received = []

    async def app(scope, receive, send):
        await send(frame("2"))
        wire.incoming.put_nowait(came("3"))
        received.append(await receive())

    await served(app, wire, limits=LIMITS)
    assert received == [came("3")]


async def test_a_write_that_does_not_end_ends_the_connection(wire):
    stuck = asyncio.Event()
    normal = wire.send

    async def send_or_hang(message):
        if message.get("text"):
            await stuck.wait()
        await normal(message)

    wire.send = send_or_hang

    async def app(scope, receive, send):
        await send(frame("x"))
        assert (await receive())["type"] == "websocket.disconnect"

    await served(app, wire, limits=SocketLimits(send_timeout_s=0.01))
    assert wire.sent == [{"type": "websocket.close", "code": 1008, "reason": "a write did not complete within 0.01 s"}]


async def test_a_close_does_not_wait_for_a_write_that_is_stuck(wire):
    stuck = asyncio.Event()
    normal = wire.send

    async def send_or_hang(message):
        if message.get("text"):
            stuck.set()
            await asyncio.Event().wait()
        await normal(message)

    wire.send = send_or_hang

    async def app(scope, receive, send):
        writing = asyncio.ensure_future(send(frame("x")))
        await stuck.wait()
        scope[CLOSER_KEY].close(1012, "restart")
        assert (await receive())["code"] == 1012
        await writing

    await served(app, wire, limits=SocketLimits(send_timeout_s=TIMEOUT_S * 10))
    assert wire.sent == [{"type": "websocket.close", "code": 1012, "reason": "restart"}]


@pytest.mark.parametrize(("size_bytes", "marks"), [(LARGE_BYTES, 1), (LARGE_BYTES - 1, 0)])
async def test_what_engine_io_sees_last_is_not_large(wire, size_bytes, marks):
    """It keeps its last packet for longer than the connection."""
    wire.incoming.put_nowait({"type": "websocket.receive", "bytes": bytes(size_bytes)})
    wire.incoming.put_nowait({"type": "websocket.disconnect", "code": 1001})
    received = []

    async def app(scope, receive, send):
        received.extend([await receive() for _ in range(marks + 2)])

    await served(app, wire)
    assert [message.get("text") for message in received[1:-1]] == [MARK] * marks
    assert received[-1]["type"] == "websocket.disconnect"


# --- any other application of WebSockets ---------------------------------------------------------------------------


async def test_what_is_said_on_a_plain_websocket_is_nobody_s_business(wire):
    async def echo(scope, receive, send):
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})

    said = ["6", "3", "1", "not Engine.IO", "2"]
    for text in said:
        wire.incoming.put_nowait({"type": "websocket.receive", "text": text})
    wire.incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})
    await asyncio.wait_for(ClosableSockets(echo)(SOCKET, wire.receive, wire.send), TIMEOUT_S)

    assert [message.get("text") for message in wire.sent[1:]] == said


async def test_a_plain_websocket_that_does_not_read_is_closed(wire):
    stuck = asyncio.Event()

    async def send(message):
        if message["type"] == "websocket.send":
            await stuck.wait()
        await wire.send(message)

    async def pushy(scope, receive, send):
        await send({"type": "websocket.send", "text": "never read"})
        assert (await receive())["type"] == "websocket.disconnect"

    limits = SocketLimits(send_timeout_s=0.05)
    await asyncio.wait_for(ClosableSockets(pushy, limits)(SOCKET, wire.receive, send), TIMEOUT_S)

    assert wire.sent == [{"type": "websocket.close", "code": 1008, "reason": "a write did not complete within 0.05 s"}]
