"""Our own door for live transcription: the events of clients that send audio over Socket.IO to be captioned."""

from collections.abc import Awaitable, Callable, Mapping
from uuid import uuid4

from serve_app.protocol import (
    MAX_CHUNK_BYTES,
    AudioChunk,
    AudioEnd,
    AudioKeepAlive,
    AudioPause,
    AudioReady,
    AudioResume,
    AudioStart,
    ErrorCode,
    WireError,
    parse,
)
from serve_app.stream.lifecycle import State
from serve_app.stream.negotiation import ModelCapabilities
from serve_app.transcription.negotiation import check_languages
from serve_app.transport.captioning import Captioning
from serve_app.transport.connection import Connection
from serve_app.transport.transcriber import Ask, Transcribers


class TranscriptionEvents:
    """What a Socket.IO server does with these events; `handlers` are to be put into its table.

    Args:
        sessions: of this ingress replica.
        abilities: what the models can do; may wait for them to come up.
        ask: the models.
    """

    def __init__(self, sessions: Transcribers, abilities: Callable[[], Awaitable[ModelCapabilities]], ask: Ask) -> None:
        self._sessions = sessions
        self._abilities = abilities
        self._ask = ask
        self.handlers: Mapping[str, Callable[[Connection, object], Awaitable[None]]] = {
            AudioStart.EVENT: self._start,
            AudioChunk.EVENT: self._chunk,
            AudioPause.EVENT: self._pause,
            AudioResume.EVENT: self._resume,
            AudioKeepAlive.EVENT: self._keep_alive,
            AudioEnd.EVENT: self._end,
        }

    async def _start(self, connection: Connection, payload: object) -> None:
        start = parse(AudioStart, payload)
        session = connection.session
        if connection.guest is not None or (session is not None and session.state is not State.CLOSED):
            message = "this connection carries a stream or a transcription already; end it first"
            raise WireError(ErrorCode.INVALID_CONFIG, message)
        stream_id = start.stream_id or connection.stream_id or f"captions-{uuid4().hex}"
        asr_model, translation_model = "", None
        if start.mode == "transcribe":
            abilities = await self._abilities()
            if connection.gone:
                return
            check_languages(start.config, abilities.asr, abilities.translation)
            asr_model, translation_model = abilities.asr.model, abilities.translation.model
        self._sessions.check(connection.principal, stream_id)
        guest = Captioning(connection, stream_id, start, self._sessions, self._ask)
        connection.guest = guest
        connection.stay()
        limits = self._sessions.limits
        connection.post(
            AudioReady(
                stream_id=stream_id,
                session_id=guest.session_id,
                idle_timeout_s=limits.idle_timeout_s,
                max_session_s=limits.max_session_s,
                max_transcript_characters=limits.max_transcript_characters,
                asr_model=asr_model,
                translation_model=translation_model,
            )
        )

    async def _chunk(self, connection: Connection, payload: object) -> None:
        chunk = parse(AudioChunk, payload)
        session = _carried(connection)
        data = chunk.payload(MAX_CHUNK_BYTES)
        connection.binary = chunk.data is not None
        session.take(data)

    async def _pause(self, connection: Connection, payload: object) -> None:
        parse(AudioPause, payload)
        _carried(connection).pause()

    async def _resume(self, connection: Connection, payload: object) -> None:
        parse(AudioResume, payload)
        _carried(connection).resume()

    async def _keep_alive(self, connection: Connection, payload: object) -> None:
        parse(AudioKeepAlive, payload)
        _carried(connection).message()

    async def _end(self, connection: Connection, payload: object) -> None:
        parse(AudioEnd, payload)
        _carried(connection).end()


def _carried(connection: Connection) -> Captioning:
    """The connection's session.

    Raises:
        WireError: STREAM_NOT_FOUND when there is none.
    """
    if not isinstance(connection.guest, Captioning):
        message = "no transcription is open on this connection, or it has ended; send audio:start first"
        raise WireError(ErrorCode.STREAM_NOT_FOUND, message)
    return connection.guest
