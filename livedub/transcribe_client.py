"""TranscribeClient: one live transcription over connections that may break. Owns task and clock."""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Self
from uuid import uuid4

from pydantic import ValidationError

from livedub.change_signal import ChangeSignal
from livedub.errors import DubError, StreamFailed
from livedub.link import Link
from livedub.outgoing import CHUNK_BYTES, Outgoing
from livedub.timeouts import Timeouts
from livedub.transcript_totals import TranscriptTotals, placed, placed_update
from serve_app.protocol import (
    AudioAck,
    AudioChunk,
    AudioEnd,
    AudioKeepAlive,
    AudioPause,
    AudioReady,
    AudioResume,
    AudioStart,
    ClientEvent,
    ErrorCode,
    ErrorEvent,
    TranscriptComplete,
    TranscriptFinal,
    TranscriptionConfig,
    TranscriptUpdate,
)

_log = logging.getLogger("livedub.client")
MAX_WAITING_BYTES = 4 * CHUNK_BYTES
"""That were given to `send` and found no room."""
MAX_UNREAD = 256
"""Finals that the program has not read; above, `send` waits."""
_SIGNS_IN_IDLE_TIME = 3
"""Signs of life before the server would take a silent client for gone."""


class TranscribeClient:
    """Captions one live audio.

    `async with TranscribeClient(url, config=…) as client:` connects and disconnects; in between, one task sends and
    another reads `events()`. A lost connection comes back by itself, and of raw audio nothing is lost: what has no
    final yet is sent again. A program that sends without reading is stopped at 256 unread finals.

    Args:
        url: http(s)://host:port of the server; or several, tried in turn.
        config: what is spoken, how it sounds, into what it is to be translated.
        stream_id: the session's name; made up when missing.
        token: API key or JWT, where the server wants one.
        timeouts: every time limit.

    Raises:
        ValueError: a value the protocol doesn't allow.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        config: TranscriptionConfig | None = None,
        stream_id: str | None = None,
        token: str | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self._timeouts = timeouts or Timeouts()
        self._start = AudioStart(
            stream_id=stream_id or f"captions-{uuid4().hex}", config=config or TranscriptionConfig()
        )
        self.stream_id = str(self._start.stream_id)
        self.reconnects = 0
        urls = [url] if isinstance(url, str) else url
        if not urls:
            raise ValueError("TranscribeClient needs the URL of a server")
        self._changed = ChangeSignal()
        self._link = Link(AudioReady, urls, token, self._timeouts, self._on_event, self._changed.beat)
        self._outgoing = Outgoing(self._start.config)
        self._totals = TranscriptTotals()
        self._orders: deque[ClientEvent] = deque()
        self._finals: deque[TranscriptFinal] = deque()
        self._update: TranscriptUpdate | None = None
        self._paused = self._ending = self._told_end = self._closed = False
        self._complete: TranscriptComplete | None = None
        self._failure: DubError | None = None
        self._sign_s = 0.0
        """From one sign of life to the next."""
        self._heard_at = self._sent_at = time.monotonic()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self) -> AudioReady:
        """Connect and open the session, in one try at each URL.

        Raises:
            ConnectFailed: no connection, or no `audio:ready` in time.
            InitRefused: the server doesn't take this configuration.
        """
        ready = await self._link.open(self._next_start())
        self._opened(ready)
        self._task = asyncio.create_task(self._run(), name=f"transcribe-client {self.stream_id}")
        return ready

    async def send(self, audio: bytes) -> None:
        """Send audio as soon as the server has room; in `opus`, one packet.

        Raises:
            ValueError: raw audio that holds no whole number of samples.
            StreamFailed: the session is over, or no room was found in time.
        """
        self._outgoing.check(audio)

        def room() -> bool:
            return self._outgoing.unsent_bytes < MAX_WAITING_BYTES and len(self._finals) < MAX_UNREAD

        if not await self._until(room, self._timeouts.stall_s):
            raise StreamFailed(f"No audio could be sent for {self._timeouts.stall_s:g} s; are the finals read?")
        if self._ending:
            raise StreamFailed("The session has been ended: open another one for more audio")
        self._outgoing.add(audio)
        self._changed.beat()

    async def events(self) -> AsyncIterator[TranscriptUpdate | TranscriptFinal]:
        """What is being said, and each final, in order. Ends after `end` or `close`, when all are handed out.

        Times count from the first audio that was sent, whatever connections were lost. Of updates the newest alone is
        handed out.

        Raises:
            DubError: the session failed; finals that came before are handed out first.
        """
        while True:
            if self._finals:
                yield self._finals.popleft()
                self._changed.beat()
            elif self._update is not None:
                update, self._update = self._update, None
                yield update
            elif self._closed or self._complete is not None:
                return
            else:
                self._check()
                await self._changed.wait(self._timeouts.stall_s)

    async def pause(self) -> None:
        """A final for what was sent, once all of it has left; the server hears nothing until `resume`.

        Raises:
            StreamFailed: the server has no room for what was sent.
        """
        if not await self._until(lambda: not self._outgoing.unsent_bytes, self._timeouts.stall_s):
            raise StreamFailed(f"What was sent could not leave within {self._timeouts.stall_s:g} s")
        self._paused = True
        self._order(AudioPause())

    async def resume(self) -> None:
        """Go on after `pause`."""
        self._paused = False
        self._order(AudioResume())

    async def end(self) -> TranscriptComplete:
        """End the session, wait for all finals, and return the server's summary; of all connections, if several.

        What a pause holds back is sent first.

        Raises:
            StreamFailed: nothing more came in time.
        """
        if self._paused:
            await self.resume()
        self._ending = True
        self._changed.beat()
        while not await self._until(lambda: self._complete is not None, self._timeouts.stall_s):
            if time.monotonic() - self._heard_at >= self._timeouts.stall_s:
                raise StreamFailed(f"The server has said nothing for {self._timeouts.stall_s:g} s")
        if self._complete is None:  # which `_until` has made sure of
            raise StreamFailed("The session is not open")
        return self._totals.complete(self._complete, self.reconnects)

    async def close(self) -> None:
        """Disconnect. A dead network is no error."""
        if self._closed:
            return
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._link.close()
        self._changed.beat()

    # --- the one task: the only sender -------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while self._failure is None and self._complete is None:
                if self._link.lost is not None:
                    if not self._outgoing.can_be_resent:
                        why = f"{self._start.config.format} can't go on in the middle; raw audio can"
                        raise StreamFailed(f"The connection was lost ({self._link.lost}), and {why}")
                    self.reconnects += 1
                    self._opened(await self._link.reopen(self._next_start))
                if not await self._send_what_may_be() and self._link.lost is None:
                    await self._changed.wait(self._sign_s)
        except DubError as failure:
            self._failure = self._failure or failure
        finally:
            self._changed.beat()

    async def _send_what_may_be(self) -> bool:
        """Whether there was anything; if so, more may be possible by now."""
        sent = False
        while self._orders:  # before chunks, which the server refuses until it has resumed
            await self._link.emit(self._orders.popleft())
            sent = True
        while not (self._paused or self._orders or self._link.lost) and (chunk := self._outgoing.next()) is not None:
            await self._link.emit(AudioChunk(data=chunk))
            sent = True
        if self._ending and not self._told_end and not self._outgoing.unsent_bytes:
            self._told_end = sent = True
            await self._link.emit(AudioEnd())
        if sent:
            self._sent_at = time.monotonic()
            self._changed.beat()
        elif time.monotonic() - self._sent_at >= self._sign_s:
            self._sent_at = time.monotonic()
            await self._link.emit(AudioKeepAlive())
        return sent

    def _next_start(self) -> AudioStart:
        return self._start.model_copy(update={"reconnections": self.reconnects})

    def _opened(self, ready: AudioReady) -> None:
        self._outgoing.connected(ready)
        self._totals.opened(ready)
        self._orders.clear()
        if self._paused:
            self._orders.append(AudioPause())
        self._told_end = False
        self._update = None
        self._sign_s = ready.idle_timeout_s / _SIGNS_IN_IDLE_TIME
        self._sent_at = self._heard_at = time.monotonic()
        self._changed.beat()

    def _order(self, event: ClientEvent) -> None:
        self._orders.append(event)
        self._changed.beat()

    async def _until(self, condition: Callable[[], bool], limit_s: float) -> bool:
        deadline_s = time.monotonic() + limit_s
        while True:
            self._check()
            if condition():
                return True
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return False
            await self._changed.wait(left_s)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed or self._task is None:
            raise StreamFailed("The session is not open")
        if self._task.done() and not self._task.cancelled() and (bug := self._task.exception()) is not None:
            raise bug

    # --- what the server says ----------------------------------------------------------------------------------

    def _on_event(self, name: str, payload: object) -> None:
        self._heard_at = time.monotonic()
        try:
            match name:
                case AudioAck.EVENT:
                    self._outgoing.taken(AudioAck.model_validate(payload, strict=False).taken_bytes)
                case TranscriptUpdate.EVENT:
                    update = TranscriptUpdate.model_validate(payload, strict=False)
                    self._totals.update()
                    self._update = placed_update(update, self._outgoing.offset_ms)
                case TranscriptFinal.EVENT:
                    self._hear_final(TranscriptFinal.model_validate(payload, strict=False))
                case TranscriptComplete.EVENT:
                    self._hear_complete(TranscriptComplete.model_validate(payload, strict=False))
                case ErrorEvent.EVENT:
                    self._hear_error(ErrorEvent.model_validate(payload, strict=False))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(map(str, first["loc"])) or "payload"
            self._failure = StreamFailed(f"The server's {name} doesn't follow the protocol: {field}: {first['msg']}")
        self._changed.beat()

    def _hear_final(self, final: TranscriptFinal) -> None:
        told = placed(final, self._outgoing.offset_ms)
        self._outgoing.covered(final.end_ms)
        self._totals.final(told)
        self._update = None
        self._finals.append(told)

    def _hear_complete(self, complete: TranscriptComplete) -> None:
        match complete.reason:
            case "ended":
                self._complete = complete
            case "audio_failed":
                self._failure = self._failure or StreamFailed("The audio can't be decoded", ErrorCode.INVALID_AUDIO)
            case reason:
                if self._told_end and not self._outgoing.unheard:
                    self._complete = complete
                else:
                    self._link.drop(f"the server ended the session: {reason}")

    def _hear_error(self, error: ErrorEvent) -> None:
        said = f"{error.code}: {error.message}"
        if error.severity == "warning":
            _log.warning("the server warns: %s", said)
        elif error.retryable or error.code == ErrorCode.STREAM_NOT_FOUND:
            self._link.drop(said)
        else:
            self._failure = StreamFailed(f"The server ended the session: {said}", error.code)
