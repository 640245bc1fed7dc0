"""One live transcription on a Socket.IO connection: chunks in, captions out, both in order and bounded.

Chunks wait in an inbox, so that no event handler waits for a model; what is acknowledged tells a client how much of
that has been taken. Finals leave in order, each once its translations are there; updates give way to them.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Literal
from uuid import uuid4

from deployments.contracts.values import RAW_BYTES, VOICE_FRAME_MS, A, ListenRequest, Request, VoiceActivity
from deployments.errors import InternalFault
from deployments.logs import get_logger
from serve_app.protocol import (
    AudioAck,
    AudioEcho,
    AudioStart,
    ErrorCode,
    WireError,
    error_event,
)
from serve_app.protocol.transcription import ACK_BYTES, WINDOW_BYTES
from serve_app.stream.values import SERVICE_RESTART, Close
from serve_app.transcription import AudioFailed, Completed, Event, Final, Interim, Overdue, Statistics
from serve_app.transcription.captions import Captions, Reason, Translated
from serve_app.transcription.negotiation import settings_of
from serve_app.transport.connection import Connection
from serve_app.transport.registry import now_s
from serve_app.transport.transcriber import Ask, Transcribers
from serve_app.transport.translating import Translating

log = get_logger(__name__)
DOOR = "socket_io"
MAX_INBOX_BYTES = 2 * WINDOW_BYTES
"""Of chunks that wait; a client that keeps to the window never comes near."""
MAX_INBOX_ITEMS = 32 * 1024
"""Of the same and of what else has its place among them, however small they are."""
MAX_TRANSLATING = 8
"""Finals that wait for their translations; above, no more audio is taken."""
Said = tuple[Interim | Final | Completed, asyncio.Task[Translated] | None]


class Captioning:
    """One session. Its end takes it off the connection.

    Args:
        connection: that carries it.
        stream_id: its name.
        start: what was asked for, and can be had.
        sessions: of this ingress replica.
        ask: the models.
    """

    def __init__(
        self, connection: Connection, stream_id: str, start: AudioStart, sessions: Transcribers, ask: Ask
    ) -> None:
        self.stream_id = stream_id
        self.session_id = f"{stream_id}-{uuid4().hex}"
        self._connection = connection
        self._config = start.config
        self._echoes = start.mode == "echo"
        self._sessions = sessions
        self._began = now_s()
        settings = settings_of(start.config)
        self._translating = Translating(ask, self.session_id, settings, start.config.translate_to)
        self._captions = Captions(stream_id, start, sessions.limits.max_transcript_characters)
        self._inbox: asyncio.Queue[bytes | Callable[[], None]] = asyncio.Queue()
        self._waiting_bytes = self._taken_bytes = self._acked_bytes = 0
        self._told: asyncio.Queue[Said] = asyncio.Queue()
        self._in_translation: set[asyncio.Task[Translated]] = set()
        self._paused = False
        self._ended: Reason | None = None
        """Why no more chunks are taken."""
        self._going = ""
        """Why the connection ends behind it."""
        self._transcriber = sessions.open(
            DOOR, self.session_id, connection.principal, settings, start.config.audio_format, self._tell,
            ask=_hears_nothing if self._echoes else None,
        )  # fmt: skip
        self._jobs = [asyncio.create_task(self._guarded(job)) for job in (self._feed(), self._speak())]

    # --- what comes from the client -----------------------------------------------------------------------------

    def take(self, data: bytes) -> None:
        """A chunk; an empty one is a sign of life.

        Raises:
            WireError: it is not taken, and the session goes on.
        """
        try:
            self._check(len(data))
        except WireError:
            self._captions.refusals += 1
            raise
        self._captions.chunks_received += 1
        self._captions.bytes_received += len(data)
        if not data:
            self.message()
            return
        self._waiting_bytes += len(data)
        self._inbox.put_nowait(data)

    def _check(self, size_bytes: int) -> None:
        if self._ended is not None:
            raise WireError(ErrorCode.STREAM_NOT_FOUND, f"the transcription {self.stream_id!r} has ended")
        if self._paused:
            raise WireError(ErrorCode.STREAM_PAUSED, "the transcription is paused; send audio:resume first")
        frame_bytes = self._config.frame_bytes
        if size_bytes % frame_bytes:
            raise WireError(
                ErrorCode.INVALID_FRAGMENT,
                f"a chunk of {size_bytes} bytes holds no whole number of samples, which take {frame_bytes} bytes each",
                {"field": "data", "size_bytes": size_bytes, "frame_bytes": frame_bytes},
            )
        self._check_room(size_bytes)

    def _check_room(self, size_bytes: int) -> None:
        waiting = self._inbox.qsize()
        if self._waiting_bytes + size_bytes > MAX_INBOX_BYTES or waiting >= MAX_INBOX_ITEMS:
            raise WireError(
                ErrorCode.BACKPRESSURE_EXCEEDED,
                f"{self._waiting_bytes} bytes in {waiting} chunks wait to be taken; keep to {WINDOW_BYTES} bytes "
                "without an audio:ack",
                {"waiting_bytes": self._waiting_bytes, "waiting_chunks": waiting, "limit_bytes": MAX_INBOX_BYTES},
            )

    def message(self) -> None:
        """The client is still there."""
        self._transcriber.message()

    def pause(self) -> None:
        """Finals for what has come; nothing new until `resume`.

        Raises:
            WireError: more waits to be taken than may.
        """
        self._check_room(0)
        self._paused = True
        self._inbox.put_nowait(self._transcriber.flush)

    def resume(self) -> None:
        """Chunks come again."""
        self._paused = False
        self.message()

    def end(self, reason: Reason = "ended") -> None:
        """No more chunks come."""
        if self._ended is None:
            self._ended = reason
            self._inbox.put_nowait(self._transcriber.end)

    # --- what comes from the connection -------------------------------------------------------------------------

    def send_away(self, reason: str) -> None:
        """Finals for what has come; then the client is to connect elsewhere."""
        self._going = reason
        message = "this server is going; what was sent gets its finals, then connect and start again"
        self._post_error(ErrorCode.SERVER_DRAINING, message, severity="warning")
        self.end("draining")

    def leave(self) -> None:
        """The connection is gone."""
        self._sessions.close(self.session_id)
        for task in (*self._jobs, *self._in_translation):
            task.cancel()

    # --- what the session tells ---------------------------------------------------------------------------------

    def _tell(self, event: Event) -> None:
        match event:
            case Interim():
                if not self._in_translation:  # else a final waits, before which no later word may be shown
                    self._told.put_nowait((event, None))
            case Final(text=text):
                translating = self._translating.start(text)
                if translating is not None:
                    self._in_translation.add(translating)
                self._told.put_nowait((event, translating))
            case AudioFailed(failure):
                self._ended = "audio_failed"
                self._post_error(ErrorCode(failure.code), failure.message)
            case Overdue(why):
                asyncio.get_running_loop().call_soon(self.end, why)
            case Completed():
                self._told.put_nowait((event, None))

    async def _guarded(self, job: Coroutine[Any, Any, None]) -> None:
        try:
            await job
        except Exception:
            log.exception("captioning_failed", stream_id=self.session_id)
            self._ended = "failed"
            self._post_error(ErrorCode.INTERNAL, "the server hit a bug on this transcription")
            self._complete(Statistics())

    async def _feed(self) -> None:
        """Hand on what comes, as fast as it is taken."""
        while True:
            item = await self._inbox.get()
            if not isinstance(item, bytes):
                item()
                continue
            while len(self._in_translation) > MAX_TRANSLATING:
                await self._told.join()
            if not self._transcriber.ended:
                await self._transcriber.feed(item)
                self._captions.chunks_forwarded += 1
            self._waiting_bytes -= len(item)
            self._taken_bytes += len(item)
            if self._echoes:
                self._connection.post(AudioEcho(stream_id=self.stream_id, data=item))
            if self._taken_bytes - self._acked_bytes >= ACK_BYTES:
                self._acked_bytes = self._taken_bytes
                self._connection.post(AudioAck(stream_id=self.stream_id, taken_bytes=self._taken_bytes))

    async def _speak(self) -> None:
        """Post what is told, in order."""
        while True:
            event, translating = await self._told.get()
            match event:
                case Interim():
                    self._connection.post(self._captions.update(event))
                case Final():
                    translated = None if translating is None else await translating
                    self._connection.post(self._captions.final(event, translated))
                    if translating is not None:
                        self._in_translation.discard(translating)
                case Completed(statistics):
                    self._complete(statistics)
                    return
            self._told.task_done()

    def _complete(self, counts: Statistics) -> None:
        """The one end of a session."""
        if self._connection.guest is self:
            self._connection.guest = None
        self.leave()
        duration_ms = round((now_s() - self._began) * 1000)
        self._connection.post(self._captions.complete(self.session_id, self._ended or "draining", counts, duration_ms))
        if self._going:
            self._connection.post(Close(0, SERVICE_RESTART, self._going))

    def _post_error(
        self, code: ErrorCode, message: str, severity: Literal["warning", "error", "fatal"] = "error"
    ) -> None:
        self._connection.post(error_event(code, message, severity=severity, stream_id=self.stream_id))


async def _hears_nothing(request: Request[A]) -> A:
    """In the models' place where chunks are echoed: no voice is in anything."""
    if not isinstance(request, ListenRequest):
        raise InternalFault(request.STAGE, "no voice was heard that could be recognised")
    audio = request.audio
    frame_bytes = RAW_BYTES[audio.format.container] * audio.format.channels
    duration_ms = len(audio.data) // frame_bytes * 1000 // audio.format.sample_rate_hz
    return VoiceActivity((0.0,) * (duration_ms // VOICE_FRAME_MS + 1), 0)  # type: ignore[return-value]
