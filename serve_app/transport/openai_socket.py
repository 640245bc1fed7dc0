"""What all realtime sessions of OpenAI's clients share: how one comes in, is refused, is told something, and ends."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import parse_qs

from starlette.responses import JSONResponse
from starlette.websockets import WebSocket

from serve_app.access import AccessDenied, Principal, credentials
from serve_app.protocol import WireError, fast_json
from serve_app.protocol.openai import InvalidRequest
from serve_app.protocol.openai_realtime import error_event, new_id
from serve_app.transcription import Completed, Overdue, Statistics
from serve_app.transport.callers import caller_of
from serve_app.transport.openai_requests import INVALID, SERVER, Refusal, refusal_of
from serve_app.transport.outbox import Outbox, until_one_ends
from serve_app.transport.transcriber import Transcriber, Transcribers
from serve_app.transport.websocket import GOING_AWAY, NORMAL_CLOSURE, SERVICE_RESTART, Receive, Scope, Send

Query = Mapping[str, list[str]]
Handler = Callable[[Mapping[str, Any]], Awaitable[None]]


class RealtimeSession(ABC):
    """One open socket.

    Args:
        socket: accepted.
        sessions: of this ingress replica.
        principal: whose it is.
        session_id: its name.
    """

    def __init__(self, socket: WebSocket, sessions: Transcribers, principal: Principal, session_id: str) -> None:
        self._socket = socket
        self._sessions = sessions
        self._principal = principal
        self._session_id = session_id
        self._outbox = Outbox(socket)
        self._expires_at = int(time.time() + sessions.limits.max_session_s)
        self._transcriber: Transcriber | None = None
        self._begun = asyncio.Event()
        """Sound has come."""
        self._endings: asyncio.Queue[Overdue | Completed] = asyncio.Queue()
        self._asked_to_end = False
        self._handlers: dict[str, Handler] = {}
        """What is done about each type of event."""

    @abstractmethod
    def _begin_session(self) -> Transcriber:
        """Open the session, which its first sound does."""

    @abstractmethod
    def _greet(self) -> None:
        """Tell what the session is."""

    async def _said_all(self) -> None:
        """Wait until all is sent that follows from what was heard."""
        await self._outbox.flushed()

    def _jobs(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """What else goes on while the socket is open."""
        return ()

    async def serve(self) -> None:
        """Until the client is gone, or the session is over."""
        self._greet()
        await until_one_ends(self._read(), self._outbox.write(), self._finish(), *self._jobs())

    async def _finish(self) -> None:
        """Close once the session says so, or where none begins in time."""
        limit_s = self._sessions.limits.idle_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                await self._begun.wait()
        except TimeoutError:
            self._endings.put_nowait(Overdue("idle", limit_s))
            self._endings.put_nowait(Completed(Statistics()))
        overdue = False
        while not isinstance(ending := await self._endings.get(), Completed):
            overdue = True
            self._put_error(f"the session is over: {ending.why} for {ending.limit_s:g} s", "session_expired")
            if self._transcriber is not None:
                self._transcriber.end()
        await self._said_all()
        code = NORMAL_CLOSURE if self._asked_to_end else GOING_AWAY if overdue else SERVICE_RESTART
        await self._socket.close(code)

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            await self._take(message.get("text") or "")
            await self._outbox.room()

    async def _take(self, text: str) -> None:
        try:
            event = fast_json.loads(text)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict) or not isinstance(event.get("type"), str):
            self._put_error("the message is no JSON object with a type", "invalid_json")
            return
        about = event.get("event_id")
        try:
            handle = self._handlers.get(event["type"])
            if handle is None:
                allowed = ", ".join(self._handlers)
                message = f"type={event['type'][:60]!r} is none here; allowed: {allowed}"
                raise InvalidRequest(message, "type")  # noqa: TRY301 - all refusals go one way
            await handle(event)
            if self._transcriber is not None:
                self._transcriber.message()
        except InvalidRequest as error:
            self._put_error(str(error), "invalid_value", error.param, about)
        except WireError as error:  # as many sessions are open as may be, or the server shuts down
            self._outbox.put(error_event(error.message, SERVER, str(error.code), None, about))

    def _open(self) -> Transcriber:
        """The session, which begins with the first sound.

        Raises:
            WireError: there is no place for it.
        """
        if self._transcriber is None:
            self._sessions.check(self._principal, self._session_id)
            self._transcriber = self._begin_session()
            self._begun.set()
        return self._transcriber

    def _put_error(self, message: str, code: str, param: str | None = None, about: object = None) -> None:
        self._outbox.put(error_event(message, INVALID, code, param, about))


class RealtimeDoor(ABC):
    """Serves one path.

    Args:
        sessions: of this ingress replica.
    """

    DOOR: str
    """Its name in metrics and logs."""

    def __init__(self, sessions: Transcribers) -> None:
        self._sessions = sessions

    @abstractmethod
    def _check(self, query: Query) -> None:
        """Raises InvalidRequest for what is not served."""

    @abstractmethod
    async def _session(self, socket: WebSocket, principal: Principal, session_id: str) -> RealtimeSession:
        """One that was let in; waits for the models to come up."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        session_id = new_id("sess")
        if scope["type"] != "websocket":
            message = "send a WebSocket upgrade to this path"
            await Refusal(426, INVALID, message).response(session_id)(scope, receive, send)
            return
        socket = WebSocket(scope, receive, send)
        found = credentials(socket.headers, scope.get("subprotocols", ()))
        try:
            principal = self._sessions.enter(self.DOOR, caller_of(socket), found)
        except AccessDenied as refused:
            await socket.send_denial_response(refusal_of(refused).response(session_id))
            return
        try:
            session = await self._admitted(socket, principal, session_id)
            if isinstance(session, JSONResponse):
                await socket.send_denial_response(session)
                return
            await socket.accept(found.subprotocol)
            await session.serve()
        finally:
            self._sessions.close(session_id)
            self._sessions.leave(principal)

    async def _admitted(
        self, socket: WebSocket, principal: Principal, session_id: str
    ) -> RealtimeSession | JSONResponse:
        """A session, or why there is none."""
        try:
            self._check(parse_qs(socket.scope["query_string"].decode("latin-1"), max_num_fields=100))
            return await self._sessions.admitted(
                principal, session_id, lambda: self._session(socket, principal, session_id)
            )
        except Exception as raised:  # noqa: BLE001 - the outermost shell of the handshake
            return refusal_of(raised).response(session_id)
