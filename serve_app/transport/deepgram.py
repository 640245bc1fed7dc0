"""The door that Deepgram's clients know: `/v1/listen`, as a WebSocket; `deepgram_recorded` has it as a POST."""

import asyncio
import hashlib
import uuid
from collections.abc import Callable
from typing import Any

from starlette.websockets import WebSocket

from deployments.errors import StageError
from serve_app.access import Principal, credentials
from serve_app.protocol import fast_json
from serve_app.protocol.deepgram import (
    IDLE_TIMEOUT_S,
    NO_FRAME,
    NOT_DECODABLE,
    ListenQuery,
    results,
)
from serve_app.transcription import (
    AudioFailed,
    Completed,
    Event,
    Final,
    Interim,
    Overdue,
    SpeechStarted,
    TranscriptionSettings,
    UtteranceEnd,
)
from serve_app.transcription.settings import LEAST_ENDPOINTING_MS
from serve_app.transport.deepgram_entry import DOOR, Refusal, created, enter, live_metadata, negotiated
from serve_app.transport.deepgram_recorded import RecordedDoor
from serve_app.transport.outbox import Outbox, until_one_ends
from serve_app.transport.transcriber import Transcriber, Transcribers
from serve_app.transport.websocket import (
    INTERNAL_ERROR,
    LIMIT_REACHED,
    NORMAL_CLOSURE,
    SERVICE_RESTART,
    Receive,
    Scope,
    Send,
)

PATH = "/v1/listen"


class DeepgramDoor:
    """Serves the path.

    Args:
        sessions: of this ingress replica.
    """

    def __init__(self, sessions: Transcribers) -> None:
        self._sessions = sessions
        self._recorded = RecordedDoor(sessions)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "websocket":
            await self._recorded(scope, receive, send)
            return
        socket = WebSocket(scope, receive, send)
        session_id = str(uuid.uuid4())
        found = credentials(socket.headers, scope.get("subprotocols", ()))
        try:
            principal = enter(self._sessions, socket, found)
            await self._serve(socket, session_id, principal, found.subprotocol)
        except Refusal as refusal:
            await _refuse(socket, session_id, refusal)

    async def _serve(self, socket: WebSocket, session_id: str, principal: Principal, subprotocol: str | None) -> None:
        """Give one that was let in a session. However that ends, its places are free again."""
        try:
            agreed = await negotiated(self._sessions, socket, session_id, principal)
            query = agreed.query
            pause_ms = query.endpointing
            settings = TranscriptionSettings(
                language=query.base_language,
                hints=query.hints,
                interims=query.interim_results,
                endpointing_ms=None if pause_ms is None else max(LEAST_ENDPOINTING_MS, pause_ms),
                utterance_end_ms=query.utterance_end_ms,
            )
            outbox = _Outbox(socket, query, live_metadata(session_id, agreed.model))
            transcriber = self._sessions.open(  # right behind its check: while it is accepted, others come and go
                DOOR, session_id, principal, settings, query.audio_format(), outbox.tell, idle_timeout_s=IDLE_TIMEOUT_S
            )
            await socket.accept(subprotocol, [(b"dg-request-id", session_id.encode())])
            await _Conversation(socket, transcriber, outbox).serve()
        finally:
            self._sessions.close(session_id)
            self._sessions.leave(principal)


class _Outbox(Outbox):
    """What goes to one client, in Deepgram's words."""

    def __init__(self, socket: WebSocket, query: ListenQuery, metadata: dict[str, Any]) -> None:
        super().__init__(socket)
        self.endings: asyncio.Queue[Overdue | Completed] = asyncio.Queue()
        """Why the conversation has to end, and that all is said."""
        self.failure: StageError | None = None
        """Why no more audio could be decoded."""
        self._query = query
        self._metadata = metadata
        self._unfinished = False
        """Whether the last final with words left its utterance open."""

    def tell(self, event: Event) -> None:
        """Put an event into Deepgram's words, where it has some."""
        match event:
            case Interim():
                self._results(event, words=(), confidence=0.0, is_final=False)
            case Final():
                said = bool(event.text) or self._unfinished
                self._unfinished = said and not event.utterance_over
                if event.failure is not None:
                    self._error(event.failure)
                self._results(
                    event,
                    words=event.words,
                    confidence=event.confidence,
                    is_final=True,
                    speech_final=said and event.utterance_over,
                    from_finalize=event.flushed,
                )
            case SpeechStarted(at_ms) if self._query.vad_events:
                self.put({"type": "SpeechStarted", "channel": [0, 1], "timestamp": at_ms / 1000})
            case UtteranceEnd(last_ms):
                self.put({"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": last_ms / 1000})
            case AudioFailed(failure):
                self.failure = failure
                self._error(failure)
            case Overdue() | Completed():
                self.endings.put_nowait(event)

    def _error(self, failure: StageError) -> None:
        description = f"{failure.code}: {failure.message}"
        self.put({"type": "Error", "variant": failure.code, "description": description})

    def _results(self, event: Interim | Final, **fields: Any) -> None:
        told = {"speech_final": False, "from_finalize": False, **fields}
        self.put(
            results(self._query, self._metadata, start_ms=event.start_ms, end_ms=event.end_ms, text=event.text, **told)
        )


class _Conversation:
    """One open socket."""

    def __init__(self, socket: WebSocket, transcriber: Transcriber, outbox: _Outbox) -> None:
        self._socket = socket
        self._transcriber = transcriber
        self._outbox = outbox
        self._sha256 = hashlib.sha256()
        self._asked_to_end = False
        self._handlers: dict[str, Callable[[dict[str, Any]], None]] = {
            "KeepAlive": lambda _: None,
            "Finalize": lambda _: transcriber.flush(),
            "CloseStream": lambda _: self._end(),
            "Configure": self._configure,
        }

    async def serve(self) -> None:
        """Until the client is done, gone or silent for too long."""
        await until_one_ends(self._read(), self._outbox.write(), self._finish())

    async def _finish(self) -> None:
        """Close once the session says so."""
        while not isinstance(ending := await self._outbox.endings.get(), Completed):
            if ending.why == "idle":
                await self._socket.close(INTERNAL_ERROR, NO_FRAME)
                return
            self._transcriber.end()
        await self._bye()

    def _end(self) -> None:
        self._asked_to_end = True
        self._transcriber.end()

    async def _bye(self) -> None:
        """Say goodbye; a client that did not ask for it may come again."""
        self._outbox.put(self._metadata())
        await self._outbox.flushed()
        if self._outbox.failure is not None:
            await self._socket.close(LIMIT_REACHED, NOT_DECODABLE)
        else:
            await self._socket.close(NORMAL_CLOSURE if self._asked_to_end else SERVICE_RESTART)

    def _metadata(self) -> dict[str, Any]:
        return {
            "type": "Metadata",
            "transaction_key": "deprecated",
            "request_id": self._transcriber.session_id,
            "sha256": self._sha256.hexdigest(),
            "created": created(),
            "duration": self._transcriber.received_ms / 1000,
            "channels": 1,
        }

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            data = message.get("bytes")
            if data is None:
                self._command(message.get("text") or "")
            elif not data:  # what older clients send for CloseStream
                self._end()
            elif not self._transcriber.ended:
                self._sha256.update(data)
                await self._transcriber.feed(data)
            await self._outbox.room()

    def _command(self, text: str) -> None:
        self._transcriber.message()
        try:
            command = fast_json.loads(text)
            handle = self._handlers[command["type"]]
        except (ValueError, TypeError, KeyError, RecursionError):
            allowed = ", ".join(self._handlers)
            self._outbox.put(
                {
                    "type": "Error",
                    "variant": "SchemaError",
                    "description": f"could not be read as a message; types that are: {allowed}",
                    "message": text[:200],
                }
            )
            return
        handle(command)

    def _configure(self, command: dict[str, Any]) -> None:
        what = "KEYTERMS" if "keyterms" in command else "FEATURES"
        self._outbox.put(
            {
                "type": "ConfigureFailure",
                "request_id": self._transcriber.session_id,
                "code": f"CONFIGURE_{what}_NOT_SUPPORTED",
                "description": "name it in the query when the stream is opened",
            }
        )


async def _refuse(socket: WebSocket, session_id: str, refusal: Refusal) -> None:
    """Answer the upgrade with a status, which clients show; browsers see a failed connection."""
    await socket.send_denial_response(refusal.response(session_id))
