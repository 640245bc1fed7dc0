"""The Socket.IO server as this service runs it: strict about packets, and closing where the library only logs.

Socket.IO's own server closes a connection over a packet that it can't read or that comes at the wrong time;
python-socketio logs a traceback and goes on waiting. The same app serves the service and its conformance tests.

Protocol: Connecting.
"""

import math
import re
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import socketio
from engineio.packet import NOOP, Packet

from deployments.logs import get_logger
from serve_app.protocol import MAX_MESSAGE_BYTES, fast_json
from serve_app.transport.engine_io import EngineCloser
from serve_app.transport.websocket import CLOSER_KEY, LIMIT_REACHED, PROTOCOL_ERROR

log = get_logger(__name__)
MAX_ATTACHMENTS = 16
FRAMING_BYTES = 1024 * 1024
"""Engine.IO takes this much more than the WebSocket server, so that the latter's clean refusal (1009) comes first."""
CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR, BINARY_EVENT, BINARY_ACK = "0123456"
HEAD = re.compile(r"([0-6])(?:([0-9]{1,10})-)?(?:(/[^,?]*)(?:\?[^,]*)?(?:,|$))?")
"""Type, number of attachments, namespace."""
ANSWER = re.compile(r"[0-9]+\[")
"""How what follows the head of an acknowledgement begins: its id and its arguments."""


class BadPacketError(ValueError):
    """A packet that the protocol doesn't allow here; the message is the close reason."""


def socket_io_server(*, ping_interval_s: float, ping_timeout_s: float) -> socketio.AsyncServer:
    """The Socket.IO server, to be served under `ClosableSockets`; handlers are the caller's."""
    sio = socketio.AsyncServer(
        async_mode="asgi",
        transports=["websocket"],
        # Clients are told full seconds, rounded down. With this grace it is the next full one, and none gives up early.
        ping_interval=(ping_interval_s, math.ceil(ping_interval_s) - ping_interval_s),
        ping_timeout=ping_timeout_s,
        max_http_buffer_size=MAX_MESSAGE_BYTES + FRAMING_BYTES,
        http_compression=False,
        cors_allowed_origins="*",
        async_handlers=False,
        json=fast_json,
    )
    _Gate(sio)
    return sio


class _Gate:
    """Stands before the library's handling of messages, for all connections of a server."""

    def __init__(self, sio: socketio.AsyncServer) -> None:
        self._sio = sio
        self._handle: Callable[[str, Any], Awaitable[None]] = sio.eio.handlers["message"]
        self._leave: Callable[[str, str], Awaitable[None]] = sio.eio.handlers["disconnect"]
        self._attachments: dict[str, tuple[int, int]] = {}
        """By connection: how many are still to come, and how many bytes they may have together."""
        self._patient: set[str] = set()
        """Connections whose pings wait for attachments."""
        sio.eio.on("message", self.message)
        sio.eio.on("disconnect", self.disconnect)

    async def disconnect(self, eio_sid: str, reason: str) -> None:
        """The connection is gone."""
        self._attachments.pop(eio_sid, None)
        self._patient.discard(eio_sid)
        await self._leave(eio_sid, reason)

    async def message(self, eio_sid: str, data: object) -> None:
        """One Engine.IO message: text, or the bytes of an attachment."""
        environ = self._sio.environ.get(eio_sid)
        if environ is None:
            return
        closer: EngineCloser = environ["asgi.scope"][CLOSER_KEY]
        if closer.asked:
            return
        try:
            if await self._admits(eio_sid, closer, data):
                await self._handle(eio_sid, data)
                if isinstance(data, str) and data[:1] == CONNECT and not self._connected(eio_sid):
                    await self._turn_away(eio_sid, closer)
        except BadPacketError as error:
            self._refuse(eio_sid, closer, str(error))
            return
        except Exception as error:  # noqa: BLE001 - whatever the library trips over is in the packet
            self._refuse(eio_sid, closer, f"malformed packet ({type(error).__name__})")
            return
        if not isinstance(data, str):
            return
        if data[:1] == CONNECT and self._connected(eio_sid):
            closer.met()
        elif data[:1] == DISCONNECT and not self._connected(eio_sid):
            closer.expect("CONNECT")

    async def _turn_away(self, eio_sid: str, closer: EngineCloser) -> None:
        """The connect handler refused: close behind the reason, which has been sent."""
        closer.close_at_mark(LIMIT_REACHED, "connection refused")
        await self._sio.eio.send_packet(eio_sid, Packet(NOOP))

    def _refuse(self, eio_sid: str, closer: EngineCloser, reason: str) -> None:
        log.warning("packet_refused", eio_sid=eio_sid, reason=reason)
        closer.close(PROTOCOL_ERROR, reason)

    async def _admits(self, eio_sid: str, closer: EngineCloser, data: object) -> bool:
        """Whether the library is to have it.

        Raises:
            BadPacketError: the connection is to be closed.
        """
        if isinstance(data, bytes):
            self._attach(eio_sid, closer, len(data))
            return True
        if not isinstance(data, str) or (head := HEAD.match(data)) is None:
            raise BadPacketError("not a Socket.IO packet")
        if eio_sid in self._attachments:
            raise BadPacketError("a packet where a binary attachment was announced")
        kind, attachments, namespace = head.groups()
        connected = self._namespace_sid(eio_sid, namespace or "/") is not None
        if kind == CONNECT and not connected:
            return await self._knows(eio_sid, namespace or "/")
        if kind in (CONNECT, CONNECT_ERROR) or not connected:
            raise BadPacketError("a packet for a namespace in the wrong state")
        if (kind in (BINARY_EVENT, BINARY_ACK)) != (attachments is not None):
            raise BadPacketError("attachments announced by the wrong kind of packet")
        if kind in (ACK, BINARY_ACK) and ANSWER.match(data, head.end()) is None:
            raise BadPacketError("an acknowledgement without id or arguments")
        if attachments is not None:
            if not 1 <= int(attachments) <= MAX_ATTACHMENTS:
                raise BadPacketError(f"{attachments} attachments; allowed: 1 to {MAX_ATTACHMENTS}")
            self._attachments[eio_sid] = int(attachments), MAX_MESSAGE_BYTES
            closer.expect("attachment", closer.limits.attachment_timeout_s)
            self._wait_for_pongs(eio_sid)
        return True

    def _wait_for_pongs(self, eio_sid: str) -> None:
        """Let an answer to a ping come behind an attachment: nothing overtakes a message on a slow uplink."""
        if eio_sid in self._patient:
            return
        self._patient.add(eio_sid)
        socket = self._sio.eio.sockets[eio_sid]
        # A socket that held itself would keep what it never sent until Python's collector comes.
        check, there = type(socket).check_ping_timeout, weakref.ref(socket)

        async def check_unless_attachments_come() -> bool:
            socket = there()
            return socket is None or eio_sid in self._attachments or bool(await check(socket))

        socket.check_ping_timeout = check_unless_attachments_come

    def _attach(self, eio_sid: str, closer: EngineCloser, size_bytes: int) -> None:
        due, room_bytes = self._attachments.pop(eio_sid, (0, 0))
        if not due:
            raise BadPacketError("a binary attachment that was not announced")
        if size_bytes > room_bytes:
            raise BadPacketError(f"attachments of one event above {MAX_MESSAGE_BYTES} bytes")
        if due > 1:
            self._attachments[eio_sid] = due - 1, room_bytes - size_bytes
            closer.expect("attachment", closer.limits.attachment_timeout_s)
            return
        closer.met()
        socket = self._sio.eio.sockets[eio_sid]
        if socket.last_ping:  # the answer, if one is due, comes right behind
            socket.last_ping = time.time()

    async def _knows(self, eio_sid: str, namespace: str) -> bool:
        """Whether a namespace exists; the client is told if not."""
        if namespace in self._sio.handlers:
            return True
        await self._sio.eio.send(eio_sid, f'{CONNECT_ERROR}{namespace},{{"message":"Invalid namespace"}}')
        return False

    def _namespace_sid(self, eio_sid: str, namespace: str) -> str | None:
        sid: str | None = self._sio.manager.sid_from_eio_sid(eio_sid, namespace)
        return sid if sid is not None and self._sio.manager.is_connected(sid, namespace) else None

    def _connected(self, eio_sid: str) -> bool:
        """Whether it is connected to any namespace."""
        return any(self._namespace_sid(eio_sid, namespace) is not None for namespace in self._sio.handlers)


__all__ = ["FRAMING_BYTES", "MAX_ATTACHMENTS", "socket_io_server"]
