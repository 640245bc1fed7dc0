"""What stands around Serve's proxy: a client that doesn't read holds up neither a close nor memory."""

import asyncio
import contextlib
import socket as sockets

import pytest
import uvicorn
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from serve_app.proxying import PromptSockets, middlewares

SOCKET = {"type": "websocket", "path": "/"}
ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close", "code": 1008, "reason": "unread output"}
TIMEOUT_S = 5.0
SOON_S, NEVER_S = 0.05, 60.0


def text(content: str) -> dict:
    return {"type": "websocket.send", "text": content}


class Wire:
    """The server in front: writes are taken while `open` is set."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[dict] = asyncio.Queue()
        self.sent: list[dict] = []
        self.open = asyncio.Event()
        self.open.set()
        self.error: Exception | None = None

    async def receive(self) -> dict:
        return await self.incoming.get()

    async def send(self, message: dict) -> None:
        await self.open.wait()
        if self.error is not None:
            raise self.error
        self.sent.append(message)


async def served(app, wire: Wire, close_timeout_s: float = NEVER_S, **options) -> None:
    before = asyncio.all_tasks()
    prompt = PromptSockets(app, close_timeout_s, **options)
    await asyncio.wait_for(prompt(SOCKET, wire.receive, wire.send), TIMEOUT_S)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() <= before, "a connection that is over leaves no task behind"


async def test_messages_leave_in_their_order_and_the_close_behind_them():
    wire = Wire()
    told = [ACCEPT, *(text(str(number)) for number in range(20)), CLOSE]

    async def app(scope, receive, send):
        for message in told:
            await send(message)

    await served(app, wire)
    assert wire.sent == told


async def test_what_the_client_says_comes_through():
    wire = Wire()
    said = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hi"}]
    heard = []

    async def app(scope, receive, send):
        heard.extend([await receive(), await receive()])

    for message in said:
        wire.incoming.put_nowait(message)
    await served(app, wire)
    assert heard == said


async def test_a_close_behind_a_stuck_write_ends_the_connection_in_time():
    wire = Wire()
    wire.open.clear()

    async def app(scope, receive, send):
        await send(text("never read"))
        await send(CLOSE)

    await served(app, wire, SOON_S)
    assert wire.sent == []


async def test_once_the_application_has_closed_it_hears_no_message_any_more():
    wire = Wire()
    wire.open.clear()
    heard = []

    async def app(scope, receive, send):
        await send(text("never read"))
        await send(CLOSE)
        for number in range(100):
            wire.incoming.put_nowait({"type": "websocket.receive", "text": str(number)})
        wire.incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})
        heard.append(await receive())

    await served(app, wire, SOON_S)
    assert [message["type"] for message in heard] == ["websocket.disconnect"]


async def test_nothing_is_read_while_a_close_waits_to_be_out():
    wire = Wire()
    wire.open.clear()

    async def app(scope, receive, send):
        await send(text("never read"))
        await send(CLOSE)
        for number in range(100):
            wire.incoming.put_nowait({"type": "websocket.receive", "text": str(number)})
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(receive(), SOON_S / 5)
        assert wire.incoming.qsize() == 99

    await served(app, wire, SOON_S)


async def test_too_much_that_waits_makes_the_application_wait():
    wire = Wire()
    wire.open.clear()
    taken = []

    async def app(scope, receive, send):
        for number in range(5):
            await send(text("x" * 40))
            taken.append(number)

    serving = asyncio.create_task(served(app, wire, max_held_bytes=100))
    for _ in range(20):
        await asyncio.sleep(0)
    assert taken == [0, 1, 2]
    wire.open.set()
    await serving
    assert len(wire.sent) == 5


async def test_the_application_hears_that_the_client_is_gone():
    wire = Wire()
    wire.error = BrokenPipeError()

    async def app(scope, receive, send):
        await send(text("x"))
        await asyncio.sleep(0)
        with pytest.raises(BrokenPipeError):
            await send(text("y"))

    await served(app, wire)


async def test_an_application_that_fails_takes_its_writer_along():
    wire = Wire()
    wire.open.clear()

    async def app(scope, receive, send):
        await send(text("x"))
        raise ValueError("the application's own")

    with pytest.raises(ValueError, match="own"):
        await served(app, wire)


async def test_http_passes_untouched():
    passed = []

    async def app(scope, receive, send):
        passed.extend([scope, receive, send])

    wire = Wire()
    receive, send = wire.receive, wire.send
    await PromptSockets(app)({"type": "http"}, receive, send)
    assert passed == [{"type": "http"}, receive, send]


@contextlib.asynccontextmanager
async def listening(app):
    """Under uvicorn, as Serve's proxy is."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", ws_per_message_deflate=False))
    with sockets.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = server.force_exit = True
            await asyncio.wait_for(serving, TIMEOUT_S)


@pytest.mark.parametrize("unread", [2, 20], ids=["with the close on its way", "with the close held up"])
async def test_a_client_that_does_not_read_is_cut_off_by_the_real_server(unread):
    """An orderly end of a TCP connection would wait for the client to read what was sent before it."""

    async def app(scope, receive, send):
        await receive()
        await send(ACCEPT)
        for _ in range(unread):
            await send({"type": "websocket.send", "bytes": bytes(1024 * 1024)})
        await send(CLOSE)

    async def talk(client) -> None:
        while True:
            await client.send(bytes(65_536))

    (middleware,) = middlewares()
    assert middleware.cls is PromptSockets
    async with listening(PromptSockets(app, SOON_S)) as port:
        async with connect(f"ws://127.0.0.1:{port}/", ping_interval=None, close_timeout=0) as client:
            client.transport.pause_reading()
            with pytest.raises(ConnectionClosed) as closed:
                await asyncio.wait_for(talk(client), TIMEOUT_S)
        assert closed.value.rcvd is None, "cut off, not told"


async def test_a_client_that_reads_gets_everything_and_the_reason():
    async def app(scope, receive, send):
        await receive()
        await send(ACCEPT)
        for number in range(50):
            await send(text(str(number)))
        await send(CLOSE)

    async with listening(PromptSockets(app)) as port, connect(f"ws://127.0.0.1:{port}/") as client:
        got = [await asyncio.wait_for(client.recv(), TIMEOUT_S) for _ in range(50)]
        assert got == [str(number) for number in range(50)]
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(client.recv(), TIMEOUT_S)
        assert closed.value.rcvd.code == 1008
        assert closed.value.rcvd.reason == "unread output"
