"""What runs inside Serve's proxy: an end to WebSockets whose clients don't read.

The proxy passes messages on and has no timeout of its own. Behind a client that doesn't read, a write never ends, the
ingress's close waits behind that write, and what the client goes on sending piles up unread. So messages are taken from
Serve at once, at most as much as the ingress's cap lets out; a close is seen when it comes; from then on nothing is
read; and what isn't out soon after is dropped with its connection.

Serve's proxies call `middlewares` where RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH names it.
"""

import asyncio
from collections import deque

from starlette.middleware import Middleware
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from serve_app.transport.websocket import AsgiApp, Message, Receive, Scope, Send

CLOSE_TIMEOUT_S = 5.0
"""From the ingress's close to the end of the connection, with all that was to be sent before it."""
MAX_HELD_BYTES = 64 * 1024 * 1024
"""For one WebSocket; above, Serve has to wait. The ingress's own cap is meant to come first."""


def middlewares() -> list[Middleware]:
    """What Serve is to put around its proxy."""
    return [Middleware(PromptSockets)]


class PromptSockets:
    """ASGI middleware of an ASGI server, outermost: WebSockets end soon after the application says so."""

    def __init__(
        self, app: AsgiApp, close_timeout_s: float = CLOSE_TIMEOUT_S, max_held_bytes: int = MAX_HELD_BYTES
    ) -> None:
        self._app = app
        self._close_timeout_s = close_timeout_s
        self._max_held_bytes = max_held_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        line = _Line(receive, send, self._close_timeout_s, self._max_held_bytes)
        try:
            await self._app(scope, line.receive, line.send)
            await line.finish()
        finally:
            await line.drop()


class _Line:
    """One WebSocket between Serve and the server in front of it."""

    def __init__(self, receive: Receive, send: Send, close_timeout_s: float, max_held_bytes: int) -> None:
        self._receive = receive
        self._send = send
        self._close_timeout_s = close_timeout_s
        self._max_held_bytes = max_held_bytes
        self._held: deque[Message] = deque()
        self._held_bytes = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._ended = asyncio.Event()
        """Nothing more goes out."""
        self._closing: asyncio.TimerHandle | None = None
        self._writer = asyncio.create_task(self._write(), name="websocket writer")
        self._writer.add_done_callback(self._written)

    async def receive(self) -> Message:
        """The client's next message; once the application has closed, only how the connection ended."""
        message = await self._receive()
        if self._closing is not None:
            await self._ended.wait()
            while message["type"] != "websocket.disconnect":
                message = await self._receive()
        return message

    async def send(self, message: Message) -> None:
        """Take a message; waits only when too much is held.

        Raises:
            OSError: the client is gone, or whatever else the server in front raised.
        """
        await self._room.wait()
        if self._writer.done():
            if not self._writer.cancelled():
                self._writer.result()  # raises what ended it
            return
        self._held.append(message)
        self._held_bytes += _size_bytes(message)
        if self._held_bytes > self._max_held_bytes:
            self._room.clear()
        self._news.set()
        if message["type"] == "websocket.close":
            self._close()

    async def finish(self) -> None:
        """The application is done: wait until all is out, the time for a close at most."""
        self._close()
        self._news.set()
        await self._ended.wait()

    async def drop(self) -> None:
        """Nobody serves the connection any more; the server in front has until the time for a close is over."""
        self._close()
        self._writer.cancel()
        await asyncio.wait([self._writer])

    def _close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().call_later(self._close_timeout_s, self._abort)

    async def _write(self) -> None:
        while not (self._closing is not None and not self._held):
            self._news.clear()
            while self._held:
                message = self._held.popleft()
                await self._send(message)
                self._held_bytes -= _size_bytes(message)
                if self._held_bytes <= self._max_held_bytes:
                    self._room.set()
            if self._closing is None:
                await self._news.wait()

    def _written(self, writer: "asyncio.Task[None]") -> None:
        self._held.clear()
        self._room.set()
        self._ended.set()
        if not writer.cancelled():
            writer.exception()  # raised by `send`, where there is one to come

    def _abort(self) -> None:
        """Give up what isn't out: an orderly end, also the server's own, would wait for the client to read it."""
        self._writer.cancel()
        protocol = getattr(self._send, "__self__", None)
        if isinstance(protocol, WebSocketsSansIOProtocol):
            protocol.transport.abort()


def _size_bytes(message: Message) -> int:
    return len(message.get("bytes") or message.get("text") or "")
