"""Between the ASGI server and Engine.IO: how a WebSocket ends, and what it may cost until then.

Engine.IO sends `websocket.close` without a code, which Ray Serve's proxy doesn't take, may send after the client has
left, and breaks over packets that it can't read. This wrapper mends all three, and lets the server end a socket with a
code of its own: 1012 (service restart) makes Socket.IO clients come back by themselves, while an ordinary Socket.IO
disconnect makes them stay away. It also ends what would cost memory or a place for nothing: output that is not read,
writes that don't end, clients that never say what they want.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from deployments.logs import get_logger
from serve_app.delivery import Delivery

log = get_logger(__name__)
Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

CLOSER_KEY = "livedub.closer"
NORMAL_CLOSURE = 1000
PROTOCOL_ERROR = 1002
LIMIT_REACHED = 1008
INTERNAL_ERROR = 1011
ENGINE_CLOSE = "1"
PING = "2"
PONG = "3"
MESSAGE = "4"
DISCONNECT = "41"
"""Socket.IO's own end of the main namespace."""
MARK = "6"
"""An Engine.IO packet without meaning (noop). It passes through the same queue as everything that is sent."""
LARGE_BYTES = 64 * 1024
"""Of a client's message, whose memory is then worth a MARK at the end."""


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """What one WebSocket may cost."""

    max_unread_bytes: int = 32 * 1024 * 1024
    """Output that the client has not read, to which what is kept for resends gives way; above, the connection ends."""
    send_timeout_s: float = 10.0
    """For one write."""
    connect_timeout_s: float = 5.0
    """From the WebSocket's start to the Socket.IO CONNECT, and from a binary event to its last attachment."""
    idle_timeout_s: float = 60.0
    """Without a packet from the client or work in flight, where no stream is open; pongs are no packets here."""
    stream_idle_timeout_s: float = 600.0
    """The same where a stream is open, paused or not: live channels have gaps."""
    max_session_s: float = 0.0
    """The longest that a connection lasts before its client is sent elsewhere; 0: for ever."""


class Closer:
    """Ends one WebSocket from the server's side."""

    def __init__(self, limits: SocketLimits | None = None) -> None:
        self.limits = limits or SocketLimits()
        self.delivery = Delivery(self.limits.max_unread_bytes)
        self.heard_at = asyncio.get_running_loop().time()
        """When the client last sent anything but a pong, on the event loop's clock."""
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once nobody serves the WebSocket any more."""
        self._asked = asyncio.get_running_loop().create_future()
        self._planned: tuple[int, str] | None = None
        self._marks = 0
        self._marked = asyncio.Event()
        self._expecting: asyncio.TimerHandle | None = None

    @property
    def asked(self) -> bool:
        """Whether the WebSocket is to be closed, or was."""
        return self._asked.done()

    def close(self, code: int, reason: str) -> None:
        """Close with this code now. Only the first call counts."""
        if not self._asked.done():
            self._asked.set_result({"type": "websocket.close", "code": code, "reason": reason})

    def close_at_mark(self, code: int, reason: str) -> None:
        """Close with this code when the next MARK comes out, which is behind all that was sent before it."""
        self._planned = (code, reason)

    def mark(self) -> None:
        """A MARK came out."""
        self._marks += 1
        self._marked.set()
        if self._planned is not None:
            self.close(*self._planned)

    @property
    def marks(self) -> int:
        """MARKs that have come out."""
        return self._marks

    async def passed(self, marks: int) -> None:
        """Wait until so many MARKs have come out."""
        while self._marks < marks:
            self._marked.clear()
            await self._marked.wait()

    def weigh(self) -> bool:
        """Close if too much is unread. Returns whether more may be sent."""
        if self.delivery.over and not self.asked:
            cap_bytes = self.limits.max_unread_bytes
            log.warning("client_does_not_read", unread_bytes=self.delivery.unread_bytes, max_unread_bytes=cap_bytes)
            self.close(LIMIT_REACHED, f"unread output above {cap_bytes} bytes")
        return not self.asked

    def expect(self, what: str) -> None:
        """Close unless `met` is called before the time for it is over."""
        self.met()
        limit_s = self.limits.connect_timeout_s
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


class ClosableSockets:
    """ASGI middleware that gives every WebSocket scope a `Closer` under CLOSER_KEY."""

    def __init__(self, app: AsgiApp, limits: SocketLimits | None = None) -> None:
        self._app = app
        self._limits = limits or SocketLimits()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        closer = Closer(self._limits)
        link = _Link(closer, receive, send)
        try:
            await self._app({**scope, CLOSER_KEY: closer}, link.receive, link.send)
        except Exception:
            log.exception("socket_broken")
            await link.send({"type": "websocket.close", "code": INTERNAL_ERROR})
        finally:
            link.abandon()
            closer.gone.set_result(None)
            await link.closed()


class _Link:
    """The two directions of one WebSocket and whether it is still there."""

    def __init__(self, closer: Closer, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._gone = False
        self._closer = closer
        self._limits = closer.limits
        self._incoming: asyncio.Future[Message] | None = None
        self._passed_large = False
        """Whether the last message that Engine.IO saw was one."""
        self._disconnect: Message | None = None
        self._closing = asyncio.ensure_future(closer.wait())
        self._saying_goodbye: asyncio.Future[None] | None = None
        self._sending: asyncio.Timeout | None = None

    async def receive(self) -> Message:
        """The client's next message that Engine.IO must see, or a disconnect once the server has asked to close.

        At its end Engine.IO leaves its last packet in a cycle, where it stays until Python's collector comes, maybe
        hours later. So that this is not a large one, a MARK takes its place before the disconnect.
        """
        if self._disconnect is not None:
            return self._disconnect
        message = await self._next()
        if message["type"] == "websocket.receive":
            self._passed_large = _size_bytes(message) >= LARGE_BYTES
        elif message["type"] == "websocket.disconnect" and self._passed_large:
            self._disconnect = message
            return {"type": "websocket.receive", "text": MARK}
        return message

    async def _next(self) -> Message:
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
            if self._passes(message):
                return message

    def _passes(self, message: Message) -> bool:
        """Whether Engine.IO is to see a message; asks to close where it could not read it."""
        if message["type"] != "websocket.receive":
            return True
        text = message.get("text")
        if text == PONG:
            return not self._closer.delivery.ponged()
        self._closer.heard_at = asyncio.get_running_loop().time()
        if text == ENGINE_CLOSE:
            self._closer.close(NORMAL_CLOSURE, "")
        elif text is not None and not (text[:1] == MESSAGE and text[1:2] in tuple("0123456")):
            self._closer.close(PROTOCOL_ERROR, "not an Engine.IO packet that a client may send")
        return not self._closer.asked

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
            return
        if self._gone or self._closer.asked:
            return
        if message.get("text") == MARK:
            self._closer.mark()
            return
        if message["type"] == "websocket.accept":
            self._closer.expect("CONNECT")
        delivery = self._closer.delivery
        delivery.sent(_size_bytes(message))
        if not self._closer.weigh():
            return
        if message.get("text") == PING:
            delivery.pinged(probe=False)
        elif message.get("text") == DISCONNECT:
            self._closer.expect("close")
        await self._write(message)
        if delivery.probe_due and not self._closer.asked:
            delivery.pinged(probe=True)
            await self._write({"type": "websocket.send", "bytes": None, "text": PING})

    async def _write(self, message: Message) -> None:
        limit_s = self._limits.send_timeout_s
        try:
            async with asyncio.timeout(limit_s) as self._sending:
                await self._send(message)
        except TimeoutError:
            self._closer.close(LIMIT_REACHED, f"a write did not complete within {limit_s:g} s")
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
        self._closer.met()
        self._closing.cancel()
        if self._incoming is not None:
            self._incoming.cancel()


def _size_bytes(message: Message) -> int:
    return len(message.get("text") or message.get("bytes") or "")
