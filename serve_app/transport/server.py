"""The Socket.IO shell: decodes what workers send and calls their sessions.

Decides nothing. Events of one connection are handled one after the other, in the order in which they came; nothing in
a handler waits for a model.
"""

import asyncio
import hashlib
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import socketio
from engineio.packet import NOOP, Packet

from deployments.contracts.values import AudioFormat, EncodedAudio
from deployments.logs import get_logger
from serve_app.access import Access, AccessDenied, Caller, Principal
from serve_app.protocol import (
    MAX_FRAGMENT_BYTES,
    ErrorCode,
    FragmentAck,
    FragmentData,
    Machine,
    ServerEvent,
    StreamEnd,
    StreamInit,
    StreamPause,
    StreamResume,
    WireError,
    error_event,
    parse,
)
from serve_app.protocol.wire import MAX_INTEGER
from serve_app.scheduling.admission import Admission
from serve_app.stream.negotiation import ModelCapabilities, negotiate
from serve_app.stream.session import Session
from serve_app.stream.values import SERVICE_RESTART, Close, Emit, Fragment, StreamLimits
from serve_app.transport.connection import Connection
from serve_app.transport.engine_io import EngineCloser
from serve_app.transport.packets import socket_io_server
from serve_app.transport.registry import HERE, Dub, Observer, Opening, Streams, now_s
from serve_app.transport.websocket import CLOSER_KEY

log = get_logger(__name__)
NANOSECONDS_PER_MS = 1_000_000
NAMESPACE = "/"
MAX_ID_CHARACTERS = 256


Handler = Callable[[Connection, object], Awaitable[None]]
"""Takes an event of a connection; raises WireError where it is refused."""
Opened = Callable[[str, str], Awaitable[None]]
"""Told the ids of stream and session; waits until the opening has its number, and not long."""


async def _nobody(stream_id: str, session_id: str) -> None:
    """There is no other replica to tell."""


class SocketServer:
    """All connections and streams of one ingress replica.

    Args:
        dub: the pipeline.
        abilities: what the models can do; may wait for them to come up.
        limits: thresholds in force right now.
        observer: metrics.
        opened: told every stream that opens, so that other ingress replicas let go of it.
        access: who may connect; None: anybody.
        machine: what it can do.
        ping_interval_s: between two pings.
        ping_timeout_s: for the pong.
        max_fragment_bytes: largest decoded fragment.
    """

    def __init__(
        self,
        dub: Dub,
        abilities: Callable[[], Awaitable[ModelCapabilities]],
        limits: Callable[[], StreamLimits],
        observer: Observer,
        opened: Opened = _nobody,
        *,
        access: Access | None = None,
        machine: Callable[[], Machine] = Machine,
        ping_interval_s: float = 25,
        ping_timeout_s: float = 10,
        max_fragment_bytes: int = MAX_FRAGMENT_BYTES,
    ) -> None:
        self._abilities = abilities
        self._limits = limits
        self._opened = opened
        self._max_fragment_bytes = max_fragment_bytes
        self._connections: dict[str, Connection] = {}
        self._streams = Streams(dub, observer)
        self._observer = observer
        self._access = access or Access()
        self._machine = machine
        self._disconnecting: set[asyncio.Future[None]] = set()
        self.draining = False
        self._handlers: dict[str, Handler] = {
            StreamInit.EVENT: self._init,
            FragmentData.EVENT: self._fragment,
            FragmentAck.EVENT: self._acknowledged,
            StreamPause.EVENT: self._pause,
            StreamResume.EVENT: self._resume,
            StreamEnd.EVENT: self._end,
        }
        self._sio = socket_io_server(ping_interval_s=ping_interval_s, ping_timeout_s=ping_timeout_s)
        self._sio.on("connect", self._on_connect)
        self._sio.on("disconnect", self._on_disconnect)
        self._sio.on("*", self._on_event)
        self.app = socketio.ASGIApp(self._sio, socketio_path="")

    @property
    def admission(self) -> Admission:
        """What forecasts whether a fragment is done in time."""
        return self._streams.admission

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return len(self._streams)

    def principals(self) -> list[Principal]:
        """Whose the open streams are."""
        return self._streams.principals()

    def serve(self, handlers: Mapping[str, Handler]) -> None:
        """Take events of another kind, too."""
        self._handlers |= handlers

    def apply_limits(self) -> None:
        """Thresholds have changed: running streams get them too."""
        for session in self._streams:
            session.limit(self._limits())

    def drain(self) -> None:
        """Take no new stream; let each one finish what is in flight, then send its worker elsewhere."""
        self.draining = True
        for connection in list(self._connections.values()):
            self._send_away(connection, "server draining")

    def _send_away(self, connection: Connection, reason: str) -> None:
        if connection.guest is not None:
            connection.guest.send_away(reason)
        elif connection.session is None:
            connection.post(Close(0, SERVICE_RESTART, reason))
        else:
            self._streams.perform(connection, connection.session.drain(now_s()))

    # --- Socket.IO events ---------------------------------------------------------------------------------------

    async def _on_connect(self, sid: str, *data: Any) -> None:
        if sid in self._connections:  # an event that a client calls `connect` comes here too, with whatever it holds
            await self._on_event("connect", sid, *data)
            return
        environ: dict[str, Any] = data[0]
        peer, _ = environ["asgi.scope"].get("client") or ("", 0)
        caller = Caller(peer, environ.get("HTTP_ORIGIN"), environ.get("HTTP_X_FORWARDED_FOR"))
        try:
            principal = self._access.enter(caller, data[1] if len(data) > 1 else None, time.time())
        except AccessDenied as refused:
            self._observer.refused(refused.reason)
            log.warning("connection_refused", reason=refused.reason, code=refused.error.code, error=str(refused))
            raise socketio.exceptions.ConnectionRefusedError(str(refused), refused.wire()) from None

        async def send(event: ServerEvent, binary: bool) -> None:
            await self._sio.emit(event.EVENT, event.to_wire(binary=binary), to=sid)

        async def flush() -> None:
            await self._sio.eio.send_packet(self._sio.manager.eio_sid_from_sid(sid, NAMESPACE), Packet(NOOP))

        headers = {name: environ.get(f"HTTP_{name}") for name in ("X_STREAM_ID", "X_WORKER_ID")}
        closer: EngineCloser = environ["asgi.scope"][CLOSER_KEY]
        connection = Connection(
            sid,
            headers["X_STREAM_ID"],
            headers["X_WORKER_ID"],
            closer=closer,
            send=send,
            flush=flush,
            dismiss=lambda: self._sio.disconnect(sid),
            retire=lambda: self._send_away(connection, "session maximum reached"),
            principal=principal,
        )
        self._connections[sid] = connection
        closer.gone.add_done_callback(lambda _: self._lost(sid))
        log.info("connected", sid=sid, stream_id=connection.stream_id, worker_id=connection.worker_id)
        if self.draining:
            connection.post(Close(0, SERVICE_RESTART, "server draining"))

    async def _on_disconnect(self, sid: str, *data: Any) -> None:
        if self._sio.manager.is_connected(sid, NAMESPACE):  # an event that a client calls `disconnect`
            await self._on_event("disconnect", sid, *data)
            return
        connection = self._connections.pop(sid, None)
        if connection is None:
            return
        self._access.leave(connection.principal, now_s())
        session = connection.session
        if session is not None:
            log.info("disconnected", sid=sid, stream_id=session.settings.stream_id, reason=data[0] if data else None)
            self._streams.forget(connection)
            self._streams.perform(connection, session.disconnect(now_s()))
        await connection.abandon()

    def _lost(self, sid: str) -> None:
        """The WebSocket has ended; Socket.IO mostly knows, except where it broke over what the client sent."""
        if sid in self._connections:
            disconnecting = asyncio.ensure_future(self._sio.disconnect(sid))
            self._disconnecting.add(disconnecting)  # the event loop alone would not keep it
            disconnecting.add_done_callback(self._disconnecting.discard)

    async def _on_event(self, name: object, sid: str, *data: object) -> None:
        event = str(name)
        connection = self._connections.get(sid)
        if connection is None:
            return
        payload = data[0] if data else None
        try:
            await self._dispatch(connection, event, payload)
        except WireError as error:
            self._refuse(connection, error, payload)
        except Exception:
            log.exception("event_failed", sid=sid, event_name=event[:64])
            connection.post(error_event(ErrorCode.INTERNAL, "the server hit a bug on this event; it was not taken"))

    async def _dispatch(self, connection: Connection, event: str, payload: object) -> None:
        handle = self._handlers.get(event)
        if handle is None:
            message = f"unknown event {event[:64]!r}; allowed: {', '.join(self._handlers)}"
            raise WireError(ErrorCode.MALFORMED_DATA, message, {"event": event[:64]})
        await handle(connection, payload)

    async def _pause(self, connection: Connection, payload: object) -> None:
        session = _session(connection, parse(StreamPause, payload).stream_id)
        self._streams.perform(connection, session.pause())

    async def _resume(self, connection: Connection, payload: object) -> None:
        session = _session(connection, parse(StreamResume, payload).stream_id)
        self._streams.perform(connection, session.resume())

    async def _end(self, connection: Connection, payload: object) -> None:
        session = _session(connection, parse(StreamEnd, payload).stream_id)
        self._streams.perform(connection, session.end(now_s()))

    async def _acknowledged(self, _connection: Connection, payload: object) -> None:
        parse(FragmentAck, payload)

    async def _init(self, connection: Connection, payload: object) -> None:
        self._check_draining()
        if isinstance(payload, dict):
            defaults = {"stream_id": connection.stream_id, "worker_id": connection.worker_id}
            payload = {**{name: value for name, value in defaults.items() if value}, **payload}
        init = parse(StreamInit, payload)
        if connection.guest is not None:
            raise WireError(ErrorCode.INVALID_CONFIG, "this connection carries a transcription; end it first")
        current = connection.session
        if current is not None and self._streams.live(connection) and current.settings.stream_id != init.stream_id:
            message = f"stream_id: this connection carries {current.settings.stream_id!r}; end it first"
            raise WireError(ErrorCode.INVALID_CONFIG, message, {"field": "stream_id", "sent": init.stream_id})
        abilities = await self._abilities()
        if self._connections.get(connection.sid) is not connection:
            return
        self._check_draining()
        principal = connection.principal
        self._access.check_stream(
            principal, init.stream_id, self._streams.beside(connection, init.stream_id), time.time()
        )
        self._streams.check_takeover(connection, init.stream_id)
        settings = negotiate(
            init, abilities, self._limits(), session_id=uuid.uuid4().hex, wall_offset_s=time.time() - now_s()
        )
        session = Session(settings, self._limits(), self._streams.admission)
        self._streams.register(connection, session)
        connection.stay()
        await self._opened(settings.stream_id, settings.session_id)
        if connection.session is not session or not self._streams.live(connection):
            return
        log.info(
            "stream_opened",
            stream_id=settings.stream_id,
            worker_id=settings.worker_id,
            session_id=settings.session_id,
            pair=f"{settings.source_language}-{settings.target_language}",
            voice=settings.voice,
        )
        machine = self._machine()
        own = {"live_streams": machine.live_streams, "measured": machine.measured}
        capabilities = abilities.wire.model_copy(update={"max_fragment_bytes": self._max_fragment_bytes, **own})
        self._streams.perform(connection, session.open(capabilities))

    def _check_draining(self) -> None:
        if self.draining:
            message = "this server is shutting down; reconnect and open the stream again"
            raise WireError(ErrorCode.SERVER_DRAINING, message)

    def epoch(self, stream_id: str) -> int:
        """The largest number that an opening of this stream is known to have."""
        return self._streams.epoch(stream_id)

    def settle(self, stream_id: str, session_id: str, others: Iterable[int]) -> Opening | None:
        """A stream that opened here takes its number, once the others have told theirs; None: it has ended."""
        return self._streams.settle(stream_id, session_id, others)

    def let_go(self, opening: Opening) -> bool:
        """A stream has opened on some ingress replica: an older one of its name here was left by its worker.

        Returns:
            False when the older one is another subject's, and stays.
        """
        return self._streams.let_go(opening)

    def expel(self, opening: Opening) -> None:
        """End a stream that opened here: another ingress replica keeps one that another subject opened before."""
        self._streams.expel(opening)

    async def _fragment(self, connection: Connection, payload: object) -> None:
        data = parse(FragmentData, payload)
        session = _session(connection, data.stream_id)
        audio = data.audio.payload(self._max_fragment_bytes)
        self._access.check_rate(connection.principal, len(audio), now_s())
        connection.binary = data.audio.data is not None
        pts_ns = data.metadata.pts_ns if data.metadata else None
        fragment = Fragment(
            fragment_id=data.fragment_id,
            sequence_number=data.sequence_number,
            audio=EncodedAudio(audio, AudioFormat(data.audio.format, data.audio.sample_rate_hz, data.audio.channels)),
            declared_duration_ms=data.audio.duration_ms,
            digest=hashlib.sha256(audio).digest(),
            pts_ms=None if pts_ns is None else pts_ns // NANOSECONDS_PER_MS,
        )
        self._streams.perform(connection, session.accept(fragment, now_s()))

    def _refuse(self, connection: Connection, error: WireError, payload: object) -> None:
        """Turn down a message; where it names a fragment of the stream, its number must not be waited for."""
        fragment_id, stream_id, number = _named(payload)
        log.warning(
            "message_refused",
            sid=connection.sid,
            stream_id=stream_id,
            fragment_id=fragment_id,
            sequence_number=number,
            stage=HERE,
            code=error.code,
            field=error.details.get("field"),  # not the message, which quotes what was sent
        )
        session = connection.session
        if session is not None and stream_id == session.settings.stream_id:
            effects = session.refuse(
                error.code,
                error.message,
                now_s(),
                fragment_id=fragment_id,
                sequence_number=number,
                details=error.details,
            )
            self._streams.perform(connection, effects)
            return
        if stream_id is None and connection.guest is not None:
            stream_id = connection.guest.stream_id
        event = error_event(
            error.code,
            error.message,
            stream_id=stream_id,
            fragment_id=fragment_id,
            sequence_number=number,
            details=error.details,
        )
        self._streams.perform(connection, [Emit(event)])


def _session(connection: Connection, stream_id: str) -> Session:
    """The connection's session.

    Raises:
        WireError: STREAM_NOT_FOUND when there is none or it is another stream's.
    """
    session = connection.session
    if session is not None and session.settings.stream_id == stream_id:
        return session
    carried = "no stream" if session is None else f"stream {session.settings.stream_id!r}"
    message = f"stream {stream_id!r} is not open on this connection, it carries {carried}; send stream:init first"
    raise WireError(ErrorCode.STREAM_NOT_FOUND, message, {"field": "stream_id", "sent": stream_id})


def _named(payload: object) -> tuple[str | None, str | None, int | None]:
    """The fragment_id, stream_id and sequence_number that a refused message names, as far as they are usable."""
    if not isinstance(payload, dict):
        return None, None, None
    fragment_id, stream_id = payload.get("fragment_id"), payload.get("stream_id")
    number = payload.get("sequence_number")
    return (
        _text(fragment_id),
        _text(stream_id),
        number if type(number) is int and 0 <= number <= MAX_INTEGER else None,
    )


def _text(value: object) -> str | None:
    """An id that can be sent back: a string without lone surrogates, cut to an id's length."""
    return value.encode(errors="replace").decode()[:MAX_ID_CHARACTERS] if isinstance(value, str) else None
