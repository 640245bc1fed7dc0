"""The door of OpenAI's clients for live transcription: `/v1/realtime?intent=transcription`."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.websockets import WebSocket

from deployments.contracts.values import AsrCapabilities
from deployments.errors import StageError
from serve_app.access import Principal
from serve_app.protocol.openai import InvalidRequest
from serve_app.protocol.openai_realtime import (
    LEAST_COMMIT_MS,
    Input,
    changes_of,
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
    TranscriptionSettings,
)
from serve_app.transcription.settings import LEAST_ENDPOINTING_MS
from serve_app.transport.openai_socket import Query, RealtimeDoor, RealtimeSession
from serve_app.transport.transcriber import Transcriber, Transcribers

PATH = "/v1/realtime"
DOOR = "openai_realtime"
BETA_HEADER, BETA_PROTOCOL = "realtime=v1", "openai-beta.realtime-v1"
_TRANSCRIPTION = "conversation.item.input_audio_transcription"


class TranscriptionDoor(RealtimeDoor):
    """Serves the path."""

    DOOR = DOOR

    def _check(self, query: Query) -> None:
        if query.get("intent") != ["transcription"]:
            message = "only transcription sessions are served here: connect with ?intent=transcription"
            raise InvalidRequest(message, "intent")

    async def _session(self, socket: WebSocket, principal: Principal, session_id: str) -> RealtimeSession:
        abilities = await self._sessions.abilities()
        return _Transcription(socket, self._sessions, principal, session_id, abilities)


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


class _Transcription(RealtimeSession):
    """One open socket.

    Args:
        socket: accepted.
        sessions: of this ingress replica.
        principal: whose it is.
        session_id: its name.
        abilities: what recognition can do.
    """

    def __init__(
        self,
        socket: WebSocket,
        sessions: Transcribers,
        principal: Principal,
        session_id: str,
        abilities: AsrCapabilities,
    ) -> None:
        super().__init__(socket, sessions, principal, session_id)
        self._abilities = abilities
        protocols = socket.scope.get("subprotocols", ())
        self._beta = socket.headers.get("openai-beta", "") == BETA_HEADER or BETA_PROTOCOL in protocols
        self._input = Input()
        self._items: deque[_Item] = deque()
        """Without a transcript yet, in order."""
        self._previous: str | None = None
        """The item that was committed last."""
        self._committed_ms = 0
        self._handlers = {
            "input_audio_buffer.append": self._append,
            "session.update": self._update,
            "transcription_session.update": self._update,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
        }

    def _greet(self) -> None:
        self._put_session("created")

    # --- what the client says -----------------------------------------------------------------------------------

    async def _append(self, event: Mapping[str, Any]) -> None:
        sound = sound_of(event)
        await self._open().feed(sound)

    async def _update(self, event: Mapping[str, Any]) -> None:
        changed = self._input.updated(changes_of(event))
        language = changed.base_language
        if language is not None and not self._abilities.hears(language):
            allowed = ", ".join(sorted(self._abilities.languages or ()))
            message = f"language={language[:40]!r} is not heard here; allowed: {allowed}"
            raise InvalidRequest(message, "session.audio.input.transcription.language")
        if self._transcriber is not None and changed != self._input:
            raise InvalidRequest("a session can't be changed once sound has come; open another one", "session")
        self._beta = event["type"] == "transcription_session.update"
        self._input = changed
        self._put_session("updated")

    async def _commit(self, _event: Mapping[str, Any]) -> None:
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

    async def _clear(self, _event: Mapping[str, Any]) -> None:
        transcriber = self._open()
        if transcriber.received_ms > self._committed_ms:
            dropped = self._current() or self._begin(self._committed_ms)
            dropped.dropped = dropped.committed = dropped.flushed = True
            self._committed_ms = transcriber.received_ms
            transcriber.flush()
        self._outbox.put(told("input_audio_buffer.cleared"))

    def _begin_session(self) -> Transcriber:
        pause_ms = self._input.pause_ms
        settings = TranscriptionSettings(
            language=self._input.base_language or self._abilities.default_language,
            hints=self._input.hints,
            endpointing_ms=None if pause_ms is None else max(LEAST_ENDPOINTING_MS, pause_ms),
        )
        audio_format = self._input.format.audio_format
        return self._sessions.open(DOOR, self._session_id, self._principal, settings, audio_format, self._tell)

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
