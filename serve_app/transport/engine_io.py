"""What Engine.IO and Socket.IO need of a WebSocket besides: packets that can be read, marks, pings that are answered.

Engine.IO sends `websocket.close` without a code, may send after the client has left, and breaks over packets that it
can't read. A close with 1012 (service restart) makes Socket.IO clients come back by themselves, while an ordinary
Socket.IO disconnect makes them stay away.
"""

import asyncio

from deployments.logs import get_logger
from serve_app.transport.flow_control import Delivery
from serve_app.transport.websocket import (
    LIMIT_REACHED,
    NORMAL_CLOSURE,
    PROTOCOL_ERROR,
    AsgiApp,
    ClosableSockets,
    Closer,
    Link,
    Message,
    Receive,
    Send,
    SocketLimits,
)

log = get_logger(__name__)
ENGINE_CLOSE = "1"
PING = "2"
PONG = "3"
MESSAGE = "4"
DISCONNECT = "41"
"""Socket.IO's own end of the main namespace."""
MARK = "6"
"""An Engine.IO packet without meaning (noop). It passes through the same queue as everything that is sent."""
PATHS = ("/socket.io", "/ws/sts")
"""Where it is served."""
LARGE_BYTES = 64 * 1024
"""Of a client's message, whose memory is then worth a MARK at the end."""


class EngineCloser(Closer):
    """Ends one WebSocket of Engine.IO, also behind what has been sent."""

    def __init__(self, limits: SocketLimits | None = None) -> None:
        super().__init__(limits)
        self.delivery = Delivery(self.limits.max_unread_bytes)
        self._planned: tuple[int, str] | None = None
        self._marks = 0
        self._marked = asyncio.Event()

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


class EngineLink(Link):
    """A WebSocket of Engine.IO."""

    closer_type = EngineCloser

    def __init__(self, closer: EngineCloser, receive: Receive, send: Send) -> None:
        super().__init__(closer, receive, send)
        self._passed_large = False
        """Whether the last message that Engine.IO saw was one."""
        self._disconnect: Message | None = None

    async def receive(self) -> Message:
        """The client's next message that Engine.IO must see, or a disconnect once the server has asked to close.

        At its end Engine.IO leaves its last packet in a cycle, where it stays until Python's collector comes, maybe
        hours later. So that this is not a large one, a MARK takes its place before the disconnect.
        """
        if self._disconnect is not None:
            return self._disconnect
        message = await super().receive()
        if message["type"] == "websocket.receive":
            self._passed_large = _size_bytes(message) >= LARGE_BYTES
        elif message["type"] == "websocket.disconnect" and self._passed_large:
            self._disconnect = message
            return {"type": "websocket.receive", "text": MARK}
        return message

    def takes(self, message: Message) -> bool:
        """Whether Engine.IO is to see a message; asks to close where it could not read it."""
        if message["type"] != "websocket.receive":
            return True
        text = message.get("text")
        if text == PONG:
            return not self.closer.delivery.ponged()
        if text == ENGINE_CLOSE:
            self.closer.close(NORMAL_CLOSURE, "")
        elif text is not None and not (text[:1] == MESSAGE and text[1:2] in tuple("0123456")):
            self.closer.close(PROTOCOL_ERROR, "not an Engine.IO packet that a client may send")
        return super().takes(message)

    async def gives(self, message: Message) -> None:
        """Send a packet; a MARK goes no further, and what a client has not read is counted by its pongs."""
        if message.get("text") == MARK:
            self.closer.mark()
            return
        if message["type"] == "websocket.accept":
            self.closer.expect("CONNECT")
        delivery = self.closer.delivery
        delivery.sent(_size_bytes(message))
        if not self.closer.weigh():
            return
        if message.get("text") == PING:
            delivery.pinged(probe=False)
        elif message.get("text") == DISCONNECT:
            self.closer.expect("close")
        await self.write(message)
        if delivery.probe_due and not self.closer.asked:
            delivery.pinged(probe=True)
            await self.write({"type": "websocket.send", "bytes": None, "text": PING})


def engine_sockets(app: AsgiApp, limits: SocketLimits | None = None) -> ClosableSockets:
    """An Engine.IO server whose WebSockets end as they should."""
    return ClosableSockets(app, limits, EngineLink)


def _size_bytes(message: Message) -> int:
    """Of what a message carries."""
    return len(message.get("text") or message.get("bytes") or "")
