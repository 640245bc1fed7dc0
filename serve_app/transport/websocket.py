"""Between the ASGI server and any application of WebSockets: how one ends, and what it may cost until then.

It closes with a code, which Ray Serve's proxy needs, sends nothing behind a close, and lets the server end a socket
with a code of its own. It also ends what would cost memory or a place for nothing: output that is not read, writes that
don't end, clients that never say what they want. What is said on the socket is not known here.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from deployments.logs import get_logger
from serve_app.protocol import MAX_MESSAGE_BYTES

log = get_logger(__name__)
Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

CLOSER_KEY = "livedub.closer"
NORMAL_CLOSURE = 1000
GOING_AWAY = 1001
PROTOCOL_ERROR = 1002
LIMIT_REACHED = 1008
INTERNAL_ERROR = 1011
SERVICE_RESTART = 1012
"""Clients that come back by themselves do so after it."""


class SocketLimits(BaseModel):
    """What one WebSocket may cost."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_unread_bytes: int = Field(default=2 * MAX_MESSAGE_BYTES, ge=64 * 1024)
    """Output that the client has not read, to which what is kept for resends gives way; above, the connection ends."""
    send_timeout_s: float = Field(default=10.0, gt=0, le=300)
    """For one write."""
    connect_timeout_s: float = Field(default=5.0, gt=0, le=300)
    """From the WebSocket's start to the Socket.IO CONNECT."""
    attachment_timeout_s: float = Field(default=30.0, gt=0, le=300)
    """From a binary event to its attachment, and from each to the next: what a slow uplink has for one."""
    idle_timeout_s: float = Field(default=60.0, gt=0)
    """Without a packet from the client or work in flight, where no stream is open; pongs are no packets here."""
    stream_idle_timeout_s: float = Field(default=600.0, gt=0)
    """The same where a stream is open, paused or not: live channels have gaps."""
    max_session_s: float = Field(default=0.0, ge=0)
    """The longest that a connection lasts before its client is sent elsewhere; 0: for ever."""


class Closer:
    """Ends one WebSocket from the server's side."""

    def __init__(self, limits: SocketLimits | None = None) -> None:
        self.limits = limits or SocketLimits()
        self.heard_at = asyncio.get_running_loop().time()
        """When the client last sent anything but a pong, on the event loop's clock."""
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once nobody serves the WebSocket any more."""
        self._asked = asyncio.get_running_loop().create_future()
        self._expecting: asyncio.TimerHandle | None = None

    @property
    def asked(self) -> bool:
        """Whether the WebSocket is to be closed, or was."""
        return self._asked.done()

    def close(self, code: int, reason: str) -> None:
        """Close with this code now. Only the first call counts."""
        if not self._asked.done():
            self._asked.set_result({"type": "websocket.close", "code": code, "reason": reason})

    def expect(self, what: str, limit_s: float | None = None) -> None:
        """Close unless `met` is called before the time for it is over, by default that for a CONNECT."""
        self.met()
        limit_s = limit_s if limit_s is not None else self.limits.connect_timeout_s
        reason = f"no {what} within {limit_s:g} s"
        self._expecting = asyncio.get_running_loop().call_later(limit_s, self.close, LIMIT_REACHED, reason)

    def met(self) -> None:
        """What was expected has come, or doesn't matter any more."""
        if self._expecting is not None:
            self._expecting.cancel()
            self._expecting = None

    async def wait(self) -> Message:
        """The close message, once asked for."""
        message: Message = await asyncio.shield(self._asked)
        return message


class Link:
    """The two directions of one WebSocket and whether it is still there.

    What an application's protocol needs besides, it adds by overriding `takes` and `gives`.

    Args:
        closer: its end.
        receive: from the client.
        send: to the client.
    """

    closer_type: type[Closer] = Closer

    def __init__(self, closer: Any, receive: Receive, send: Send) -> None:
        self.closer = closer
        self._receive = receive
        self._send = send
        self._gone = False
        self._limits: SocketLimits = closer.limits
        self._incoming: asyncio.Future[Message] | None = None
        self._closing = asyncio.ensure_future(closer.wait())
        self._saying_goodbye: asyncio.Future[None] | None = None
        self._sending: asyncio.Timeout | None = None

    def takes(self, message: Message) -> bool:
        """Whether the application is to see a message of the client; asks to close where it could not read it."""
        if message["type"] == "websocket.receive":
            self.closer.heard_at = asyncio.get_running_loop().time()
        return not self.closer.asked

    async def gives(self, message: Message) -> None:
        """Send a message of the application; it waits for the client to read, a write's time at most."""
        await self.write(message)

    async def receive(self) -> Message:
        """The client's next message that the application must see, or a disconnect once the server asked to close."""
        while True:
            if self._incoming is None:
                self._incoming = asyncio.ensure_future(self._receive())
            await asyncio.wait({self._incoming, self._closing}, return_when=asyncio.FIRST_COMPLETED)
            if self._closing.done() and not self._gone:
                return self._close(self._closing.result())
            message = await self._incoming
            self._incoming = None
            if message["type"] == "websocket.disconnect":
                self._gone = True
                return message
            if self.takes(message):
                return message

    def _close(self, close: Message) -> Message:
        """Give up the write that may be stuck, say goodbye beside it, and let the application clean up at once."""
        if self._sending is not None:
            self._sending.reschedule(asyncio.get_running_loop().time())
        self._saying_goodbye = asyncio.ensure_future(self.send(close))
        self._gone = True
        return {"type": "websocket.disconnect", "code": close["code"], "reason": close["reason"]}

    async def send(self, message: Message) -> None:
        """Pass on, unless the client has left; a close gets a code."""
        if message["type"] == "websocket.close":
            await self._send_close(message)
        elif not self._gone and not self.closer.asked:
            await self.gives(message)

    async def write(self, message: Message) -> None:
        """Hand a message to the client, within its time."""
        limit_s = self._limits.send_timeout_s
        try:
            async with asyncio.timeout(limit_s) as self._sending:
                await self._send(message)
        except TimeoutError:
            self.closer.close(LIMIT_REACHED, f"a write did not complete within {limit_s:g} s")
        except OSError:
            pass  # the disconnect comes by the other direction
        finally:
            self._sending = None

    async def _send_close(self, message: Message) -> None:
        if self._gone and self._saying_goodbye is not asyncio.current_task():
            return
        self._gone = True
        message = {"type": "websocket.close", "code": message.get("code") or NORMAL_CLOSURE} | {
            key: value for key, value in message.items() if key == "reason" and value
        }
        with suppress(OSError, RuntimeError):  # RuntimeError: the server in front has ended it by itself
            async with asyncio.timeout(self._limits.send_timeout_s):
                await self._send(message)

    async def closed(self) -> None:
        """Wait for the close to be out, its own time at most."""
        if self._saying_goodbye is not None:
            await self._saying_goodbye

    def abandon(self) -> None:
        """The application is done with the connection."""
        self._gone = True
        self.closer.met()
        self._closing.cancel()
        if self._incoming is not None:
            self._incoming.cancel()


class ClosableSockets:
    """ASGI middleware that gives every WebSocket scope a `Closer` under CLOSER_KEY.

    Args:
        app: serves them.
        limits: of each.
        link: how its protocol is kept to.
    """

    def __init__(self, app: AsgiApp, limits: SocketLimits | None = None, link: type[Link] = Link) -> None:
        self._app = app
        self._limits = limits or SocketLimits()
        self._link = link

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        closer = self._link.closer_type(self._limits)
        link = self._link(closer, receive, send)
        try:
            await self._app({**scope, CLOSER_KEY: closer}, link.receive, link.send)
        except Exception:
            log.exception("socket_broken")
            await link.send({"type": "websocket.close", "code": INTERNAL_ERROR})
        finally:
            link.abandon()
            closer.gone.set_result(None)
            await link.closed()
