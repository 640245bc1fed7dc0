"""Between the ASGI server and Socket.IO: how a WebSocket ends.

Engine.IO sends `websocket.close` without a code, which Ray Serve's proxy doesn't take, and may send after the client
has left. This wrapper mends both, and lets the server end a socket with a code of its own: 1012 (service restart) makes
Socket.IO clients come back by themselves, while an ordinary Socket.IO disconnect makes them stay away.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, TypeAlias

from deployments.logs import get_logger

log = get_logger(__name__)
Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

CLOSER_KEY = "livedub.closer"
NORMAL_CLOSURE = 1000
INTERNAL_ERROR = 1011
MARK = "6"
"""An Engine.IO packet without meaning (noop). It passes through the same queue as everything that is sent."""


class Closer:
    """Ends one WebSocket from the server's side."""

    def __init__(self) -> None:
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once nobody serves the WebSocket any more."""
        self._asked = asyncio.get_running_loop().create_future()
        self._planned: tuple[int, str] | None = None

    def close(self, code: int, reason: str) -> None:
        """Close with this code now. Only the first call counts."""
        if not self._asked.done():
            self._asked.set_result({"type": "websocket.close", "code": code, "reason": reason})

    def close_at_mark(self, code: int, reason: str) -> None:
        """Close with this code when the next MARK comes out, which is behind all that was sent before it."""
        self._planned = (code, reason)

    def mark(self) -> None:
        """A MARK came out."""
        if self._planned is not None:
            self.close(*self._planned)

    async def wait(self) -> Message:
        """The close message, once asked for."""
        message: Message = await asyncio.shield(self._asked)
        return message


class ClosableSockets:
    """ASGI middleware that gives every WebSocket scope a `Closer` under CLOSER_KEY."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        closer = Closer()
        link = _Link(closer, receive, send)
        try:
            await self._app({**scope, CLOSER_KEY: closer}, link.receive, link.send)
        except Exception:  # Engine.IO breaks over packets that it can't read
            log.exception("socket_broken")
            await link.send({"type": "websocket.close", "code": INTERNAL_ERROR})
        finally:
            link.abandon()
            closer.gone.set_result(None)


class _Link:
    """The two directions of one WebSocket and whether it is still there."""

    def __init__(self, closer: Closer, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._gone = False
        self._closer = closer
        self._incoming: asyncio.Future[Message] | None = None
        self._closing = asyncio.ensure_future(closer.wait())

    async def receive(self) -> Message:
        """The client's next message, or a disconnect once the server has asked to close."""
        if self._incoming is None:
            self._incoming = asyncio.ensure_future(self._receive())
        await asyncio.wait({self._incoming, self._closing}, return_when=asyncio.FIRST_COMPLETED)
        if self._closing.done() and not self._gone:
            close = self._closing.result()
            await self.send(close)
            return {"type": "websocket.disconnect", "code": close["code"], "reason": close["reason"]}
        message = await self._incoming
        self._incoming = None
        if message["type"] == "websocket.disconnect":
            self._gone = True
        return message

    async def send(self, message: Message) -> None:
        """Pass on, unless the client has left; a close gets a code."""
        if self._gone:
            return
        if message.get("text") == MARK:
            self._closer.mark()
            return
        if message["type"] == "websocket.close":
            self._gone = True
            message = {"type": "websocket.close", "code": message.get("code") or NORMAL_CLOSURE} | {
                key: value for key, value in message.items() if key == "reason" and value
            }
        with suppress(OSError):
            await self._send(message)

    def abandon(self) -> None:
        """The application is done with the connection."""
        self._gone = True
        self._closing.cancel()
        if self._incoming is not None:
            self._incoming.cancel()
