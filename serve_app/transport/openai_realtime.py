"""The door of OpenAI's clients for live transcription: `/v1/realtime?intent=transcription`."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from starlette.responses import JSONResponse
from starlette.websockets import WebSocket

from deployments.contracts.values import AsrCapabilities
from deployments.errors import StageError
from serve_app.access import AccessDenied, Principal, credentials
from serve_app.protocol import WireError, fast_json
from serve_app.protocol.openai import InvalidRequest
from serve_app.protocol.openai_realtime import (
    LEAST_COMMIT_MS,
    Input,
    changes_of,
    error_event,
    item,
    new_id,
    session_object,
    sound_of,
    told,
)
from serve_app.transcription import (
    Completed,
    Event,
    Final,
    Interim,
    Overdue,
    SpeechEnded,
    SpeechStarted,
    Statistics,
    TranscriptionSettings,
)
from serve_app.transcription.settings import LEAST_ENDPOINTING_MS
from serve_app.transport.callers import caller_of
from serve_app.transport.openai_requests import INVALID, SERVER, Refusal, refusal_of
from serve_app.transport.outbox import Outbox, until_one_ends
from serve_app.transport.transcriber import Transcriber, Transcribers
from serve_app.transport.websocket import GOING_AWAY, SERVICE_RESTART, Receive, Scope, Send

PATH = "/v1/realtime"
DOOR = "openai_realtime"
BETA_HEADER, BETA_PROTOCOL = "realtime=v1", "openai-beta.realtime-v1"
_TRANSCRIPTION = "conversation.item.input_audio_transcription"


class RealtimeDoor:
    """Serves the path.

    Args:
        sessions: of this ingress replica.
    """

    def __init__(self, sessions: Transcribers) -> None:
        self._sessions = sessions

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
            principal = self._sessions.enter(DOOR, caller_of(socket), found)
        except AccessDenied as refused:
            await socket.send_denial_response(refusal_of(refused).response(session_id))
            return
        try:
            refused_by = await self._refusal(socket, principal, session_id)
            if refused_by is not None:
                await socket.send_denial_response(refused_by)
                return
            await socket.accept(found.subprotocol)
            abilities = await self._sessions.abilities()
            await _Conversation(socket, self._sessions, principal, session_id, abilities, beta=_is_beta(socket)).serve()
        finally:
            self._sessions.close(session_id)
            self._sessions.leave(principal)

    async def _refusal(self, socket: WebSocket, principal: Principal, session_id: str) -> JSONResponse | None:
        """Why no session is opened; None: one is."""
        try:
            query = parse_qs(socket.scope["query_string"].decode("latin-1"), max_num_fields=100)
            if query.get("intent") != ["transcription"]:
                message = "only transcription sessions are served here: connect with ?intent=transcription"
                raise InvalidRequest(message, "intent")  # noqa: TRY301 - all refusals go one way
            self._sessions.check(principal, session_id)
            await self._sessions.abilities()
            self._sessions.check(principal, session_id)
        except Exception as raised:  # noqa: BLE001 - the outermost shell of the handshake
            return refusal_of(raised).response(session_id)
        return None


def _is_beta(socket: WebSocket) -> bool:
    return socket.headers.get("openai-beta", "") == BETA_HEADER or BETA_PROTOCOL in socket.scope.get("subprotocols", ())


@dataclass(slots=True)
class _Item:
    """An utterance, from its first word, or the commit of it, to its transcript."""

    item_id: str
    start_ms: int
    shown: str = ""
    """Of it, in deltas."""
    texts: list[str] = field(default_factory=list)
    """Finals of it that have come."""
    failure: StageError | None = None
    committed: bool = False
    flushed: bool = False
    """The client ended it: the final that says that it was flushed is the last of it."""
    dropped: bool = False
    """Cleared: nobody wants its transcript."""


class _Conversation:
    """One open socket."""

    def __init__(
        self,
        socket: WebSocket,
        sessions: Transcribers,
        principal: Principal,
        session_id: str,
        abilities: AsrCapabilities,
        *,
        beta: bool,
    ) -> None:
        self._socket = socket
        self._sessions = sessions
        self._principal = principal
        self._session_id = session_id
        self._abilities = abilities
        self._beta = beta
        self._outbox = Outbox(socket)
        self._input = Input()
        self._expires_at = int(time.time() + sessions.limits.max_session_s)
        self._transcriber: Transcriber | None = None
        self._items: deque[_Item] = deque()
        """Without a transcript yet, in order."""
        self._previous: str | None = None
        """The item that was committed last."""
        self._committed_ms = 0
        self._begun = asyncio.Event()
        """Sound has come."""
        self._endings: asyncio.Queue[Overdue | Completed] = asyncio.Queue()
        self._handlers: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "session.update": self._update,
            "transcription_session.update": self._update,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
        }

    async def serve(self) -> None:
        """Until the client is gone, or the session is over."""
        self._put_session("created")
        await until_one_ends(self._read(), self._outbox.write(), self._finish())

    async def _finish(self) -> None:
        """Close once the session says so, or where none begins in time."""
        limit_s = self._sessions.limits.idle_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                await self._begun.wait()
        except TimeoutError:
            self._endings.put_nowait(Overdue("idle", limit_s))
            self._endings.put_nowait(Completed(Statistics()))
        overdue: Overdue | None = None
        while not isinstance(ending := await self._endings.get(), Completed):
            overdue = ending
            self._put_error(f"the session is over: {ending.why} for {ending.limit_s:g} s", "session_expired")
            if self._transcriber is not None:
                self._transcriber.end()
        await self._outbox.flushed()
        await self._socket.close(SERVICE_RESTART if overdue is None else GOING_AWAY)

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
        try:
            if event["type"] == "input_audio_buffer.append":
                await self._open().feed(sound_of(event))
            else:
                self._handle(event)
        except InvalidRequest as error:
            self._put_error(str(error), "invalid_value", error.param, event.get("event_id"))
        except WireError as error:  # as many sessions are open as may be, or the server shuts down
            self._outbox.put(error_event(error.message, SERVER, str(error.code), None, event.get("event_id")))

    def _handle(self, event: Mapping[str, Any]) -> None:
        handle = self._handlers.get(event["type"])
        if handle is None:
            allowed = ", ".join(("input_audio_buffer.append", *self._handlers))
            raise InvalidRequest(f"type={event['type'][:60]!r} is none here; allowed: {allowed}", "type")
        handle(event)
        if self._transcriber is not None:
            self._transcriber.message()

    # --- what the client says -----------------------------------------------------------------------------------

    def _update(self, event: Mapping[str, Any]) -> None:
        changed = self._input.updated(changes_of(event))
        heard, language = self._abilities.languages, changed.base_language
        if heard is not None and language is not None and language not in heard:
            message = f"language={language[:40]!r} is not heard here; allowed: {', '.join(sorted(heard))}"
            raise InvalidRequest(message, "session.audio.input.transcription.language")
        if self._transcriber is not None and changed != self._input:
            raise InvalidRequest("a session can't be changed once sound has come; open another one", "session")
        self._beta = event["type"] == "transcription_session.update"
        self._input = changed
        self._put_session("updated")

    def _commit(self, _event: Mapping[str, Any]) -> None:
        transcriber = self._open()
        new_ms = transcriber.received_ms - self._committed_ms
        if new_ms < LEAST_COMMIT_MS:
            message = f"buffer too small: {new_ms} ms of sound, at least {LEAST_COMMIT_MS} ms are committed"
            raise InvalidRequest(message, "input_audio_buffer")
        committed = self._current() or self._begin(self._committed_ms)
        committed.flushed = True
        self._put_committed(committed)
        self._committed_ms = transcriber.received_ms
        transcriber.flush()

    def _clear(self, _event: Mapping[str, Any]) -> None:
        transcriber = self._open()
        if transcriber.received_ms > self._committed_ms:
            dropped = self._current() or self._begin(self._committed_ms)
            dropped.dropped = dropped.committed = dropped.flushed = True
            self._committed_ms = transcriber.received_ms
            transcriber.flush()
        self._outbox.put(told("input_audio_buffer.cleared"))

    def _open(self) -> Transcriber:
        """The session, which begins with the first sound."""
        if self._transcriber is None:
            self._sessions.check(self._principal, self._session_id)
            heard, pause_ms = self._abilities.languages, self._input.pause_ms
            default = "en" if heard is None or "en" in heard else min(heard)
            settings = TranscriptionSettings(
                language=self._input.base_language or default,
                hints=self._input.hints,
                endpointing_ms=None if pause_ms is None else max(LEAST_ENDPOINTING_MS, pause_ms),
            )
            self._transcriber = self._sessions.open(
                DOOR, self._session_id, self._principal, settings, self._input.format.audio_format, self._tell
            )
            self._begun.set()
        return self._transcriber

    # --- what the session tells ---------------------------------------------------------------------------------

    def _tell(self, event: Event) -> None:
        match event:
            case SpeechStarted(at_ms) if self._input.turn_detection is not None:
                begun = self._begin(at_ms)
                self._outbox.put(told("input_audio_buffer.speech_started", item_id=begun.item_id, audio_start_ms=at_ms))
            case SpeechEnded(at_ms) if self._input.turn_detection is not None:
                ended = self._current() or (self._items[-1] if self._items else self._begin(at_ms))
                self._outbox.put(told("input_audio_buffer.speech_stopped", item_id=ended.item_id, audio_end_ms=at_ms))
                if not ended.committed:  # by the client
                    self._put_committed(ended)
            case Interim(committed=committed, start_ms=start_ms):
                self._put_delta(self._current() or self._begin(start_ms), committed)
            case Final():
                self._settle(event)
            case Completed():
                for left in list(self._items):
                    self._put_transcript(left, self._committed_ms)
                self._endings.put_nowait(event)
            case Overdue():
                self._endings.put_nowait(event)

    def _settle(self, final: Final) -> None:
        """A final belongs to the first item that waits, unless that begins later: then it is of silence."""
        waiting = self._items[0] if self._items else None
        if waiting is None or waiting.start_ms >= final.end_ms:
            if not final.text and final.failure is None:
                return
            waiting = self._begin(final.start_ms, first=True)
        waiting.texts.append(final.text)
        waiting.failure = waiting.failure or final.failure
        by_commit = waiting.flushed or self._input.turn_detection is None
        if not by_commit or (final.flushed and waiting.committed):
            self._put_transcript(waiting, final.end_ms)

    def _put_transcript(self, settled: _Item, end_ms: int) -> None:
        self._items.remove(settled)
        if settled.dropped:
            return
        if not settled.committed:
            self._put_committed(settled)
        named = {"item_id": settled.item_id, "content_index": 0}
        failure = settled.failure
        if failure is not None:
            error = {"type": "transcription_error", "code": failure.code, "message": failure.message, "param": None}
            self._outbox.put(told(f"{_TRANSCRIPTION}.failed", **named, error=error))
            return
        usage = {"type": "duration", "seconds": max(0, end_ms - settled.start_ms) / 1000}
        transcript = " ".join(filter(None, settled.texts))
        self._outbox.put(told(f"{_TRANSCRIPTION}.completed", **named, transcript=transcript, usage=usage))

    def _put_delta(self, current: _Item, committed: str) -> None:
        """What the committed words add; they are never revised, and an item that holds a final already shows that."""
        if current.texts or current.dropped or not committed.startswith(current.shown):
            return
        new, current.shown = committed[len(current.shown) :], committed
        if new:
            named = {"item_id": current.item_id, "content_index": 0}
            self._outbox.put(told(f"{_TRANSCRIPTION}.delta", **named, delta=new))

    def _put_committed(self, ended: _Item) -> None:
        ended.committed = True
        named = {"item_id": ended.item_id, "previous_item_id": self._previous}
        self._outbox.put(told("input_audio_buffer.committed", **named))
        content = {"previous_item_id": self._previous, "item": item(ended.item_id, None)}
        for kind in ("created",) if self._beta else ("added", "done"):
            self._outbox.put(told(f"conversation.item.{kind}", **content))
        self._previous = ended.item_id

    def _put_session(self, what: str) -> None:
        kind = f"{'transcription_' if self._beta else ''}session.{what}"
        session = session_object(self._session_id, self._expires_at, self._input, beta=self._beta)
        self._outbox.put(told(kind, session=session))

    def _put_error(self, message: str, code: str, param: str | None = None, about: object = None) -> None:
        self._outbox.put(error_event(message, INVALID, code, param, about))

    def _current(self) -> _Item | None:
        """The item that is being said."""
        return next((one for one in self._items if not one.committed), None)

    def _begin(self, start_ms: int, *, first: bool = False) -> _Item:
        begun = _Item(new_id("item"), start_ms)
        if first:
            self._items.appendleft(begun)
        else:
            self._items.append(begun)
        return begun
