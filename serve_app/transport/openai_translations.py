"""The door of OpenAI's clients for live dubbing: `/v1/realtime/translations`.

Sound comes in without a pause; what is said in it leaves as speech in another language, phrase by phrase, in order. A
phrase ends with a short pause, or where it gets long. While one is spoken, the next is translated.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from starlette.websockets import WebSocket

from deployments.contracts.values import SAID_RATE_HZ, AudioFormat
from deployments.errors import StageError
from serve_app.access import Principal
from serve_app.protocol.openai import InvalidRequest, base
from serve_app.protocol.openai_realtime import sound_of, told
from serve_app.stream.negotiation import ModelCapabilities
from serve_app.transcription import Completed, Event, Final, Overdue, TranscriptionSettings
from serve_app.transcription.captions import Translated
from serve_app.transcription.playback import Playback
from serve_app.transport.openai_socket import Query, RealtimeDoor, RealtimeSession
from serve_app.transport.registry import now_s
from serve_app.transport.speaking import said
from serve_app.transport.transcriber import Ask, Transcriber, Transcribers
from serve_app.transport.translating import Translating

PATH = "/v1/realtime/translations"
DOOR = "openai_translations"
FORMAT = AudioFormat("pcm_s16le", SAID_RATE_HZ, 1)
"""Of what comes in and of what leaves."""
ENDPOINTING_MS = 300
"""A pause as short as may be: what is said leaves as soon as a clause is over."""
MAX_UTTERANCE_MS = 8000
DELTA_BYTES = SAID_RATE_HZ // 5 * 2
"""Of sound in one event, a fifth of a second."""
MAX_WAITING = 8
"""Phrases that wait for their voice; above, nothing more is read from the client."""
Phrase = tuple[Final, asyncio.Task[Translated] | None]


class TranslationsDoor(RealtimeDoor):
    """Serves the path.

    Args:
        sessions: of this ingress replica.
        abilities: what the models can do; waits for them to come up.
        ask: the models, in turn.
    """

    DOOR = DOOR

    def __init__(self, sessions: Transcribers, abilities: Callable[[], Awaitable[ModelCapabilities]], ask: Ask) -> None:
        super().__init__(sessions)
        self._abilities = abilities
        self._ask = ask

    def _check(self, query: Query) -> None:
        """Any model may be named."""

    async def _session(self, socket: WebSocket, principal: Principal, session_id: str) -> RealtimeSession:
        abilities = await self._abilities()
        return _Translation(socket, self._sessions, principal, session_id, abilities, self._ask)


class _Translation(RealtimeSession):
    """One open socket.

    Args:
        socket: accepted.
        sessions: of this ingress replica.
        principal: whose it is.
        session_id: its name.
        abilities: what the models can do.
        ask: the models, in turn.
    """

    def __init__(
        self,
        socket: WebSocket,
        sessions: Transcribers,
        principal: Principal,
        session_id: str,
        abilities: ModelCapabilities,
        ask: Ask,
    ) -> None:
        super().__init__(socket, sessions, principal, session_id)
        self._abilities = abilities
        self._ask = ask
        self._source = abilities.asr.default_language
        self._target = next((target for target in self._targets() if target != self._source), "")
        self._tells_source = False
        self._translating: Translating | None = None
        self._phrases: asyncio.Queue[Phrase] = asyncio.Queue()
        self._translations: set[asyncio.Task[Translated]] = set()
        self._playback = Playback()
        self._spoke = {"input": False, "output": False}
        self._handlers = {
            "session.update": self._update,
            "session.input_audio_buffer.append": self._append,
            "session.close": self._close,
        }

    def _greet(self) -> None:
        self._put_session("created")

    def _jobs(self) -> tuple[Coroutine[Any, Any, None], ...]:
        return (self._speak(),)

    async def serve(self) -> None:
        """Until the client is gone, or the session is over."""
        try:
            await super().serve()
        finally:
            for task in self._translations:
                task.cancel()

    async def _said_all(self) -> None:
        await self._phrases.join()
        self._outbox.put(told("session.closed"))
        await super()._said_all()

    # --- what the client says -----------------------------------------------------------------------------------

    async def _append(self, event: Mapping[str, Any]) -> None:
        sound = sound_of(event)
        await self._open().feed(sound)
        while self._phrases.qsize() > MAX_WAITING:
            await self._phrases.join()

    async def _close(self, _event: Mapping[str, Any]) -> None:
        self._asked_to_end = True
        self._open().end()

    async def _update(self, event: Mapping[str, Any]) -> None:
        audio = _object(_object(event, "session"), "session.audio", "audio")
        output, heard = (_object(audio, f"session.audio.{name}", name) for name in ("output", "input"))
        source, target = self._source, self._target
        transcription = heard.get("transcription")
        if isinstance(transcription, dict) and transcription.get("language"):
            source = base(str(transcription["language"]))
        if output.get("language") is not None:
            target = base(str(output["language"]))
        self._check_pair(source, target)
        if self._transcriber is not None and (source, target) != (self._source, self._target):
            raise InvalidRequest("languages can't be changed once sound has come; open another session", "session")
        self._source, self._target = source, target
        if "transcription" in heard:
            self._tells_source = transcription is not None
        self._put_session("updated")

    def _check_pair(self, source: str, target: str) -> None:
        pairs, heard = self._abilities.translation.pairs, self._abilities.asr.languages
        if self._abilities.asr.hears(source) and target in self._targets(source):
            return
        known = heard if heard is not None else {one for one, _ in pairs or ()} or {source}
        allowed = sorted(f"{one}→{other}" for one in known for other in self._targets(one) if one != other)
        message = f"{source[:20]}→{target[:20]} is not dubbed here; allowed: {', '.join(allowed) or 'none'}"
        raise InvalidRequest(message, "session.audio.output.language")

    def _targets(self, source: str | None = None) -> list[str]:
        """Languages that a source can be translated into and that have a voice."""
        source = source or self._source
        pairs, voices = self._abilities.translation.pairs, self._abilities.tts.default_voices
        spoken = sorted(voices) if "*" not in voices else sorted({target for _, target in pairs or ()} | set(voices))
        return [one for one in spoken if one != "*" and (pairs is None or (source, one) in pairs)]

    def _begin_session(self) -> Transcriber:
        self._check_pair(self._source, self._target)
        settings = TranscriptionSettings(language=self._source, interims=False, endpointing_ms=ENDPOINTING_MS)
        self._translating = Translating(self._ask, self._session_id, settings, [self._target])
        return self._sessions.open(
            DOOR,
            self._session_id,
            self._principal,
            settings,
            FORMAT,
            self._tell,
            max_utterance_ms=MAX_UTTERANCE_MS,
        )

    # --- what the session tells ---------------------------------------------------------------------------------

    def _tell(self, event: Event) -> None:
        match event:
            case Final() if event.text or event.failure is not None:
                self._put_words("input", event.text, event.end_ms)
                translation = self._translating.start(event.text) if self._translating else None
                if translation is not None:
                    self._translations.add(translation)
                    translation.add_done_callback(self._translations.discard)
                self._phrases.put_nowait((event, translation))
            case Overdue() | Completed():
                self._endings.put_nowait(event)

    async def _speak(self) -> None:
        """Say what comes, in order; one that fails is told, and the next is said."""
        while True:
            final, translation = await self._phrases.get()
            try:
                if final.failure is not None:
                    self._put_failure(final.failure)
                elif translation is not None:
                    await self._dub(final, await translation)
            finally:
                self._phrases.task_done()

    async def _dub(self, final: Final, translated: Translated) -> None:
        for failure in translated.failures.values():
            self._put_failure(failure)
        for text in translated.texts.values():
            self._put_words("output", text, final.end_ms)
            rate = self._playback.rate(now_s())
            if rate is None:
                self._put_error("a phrase was left out: the voice is too far behind", "voice_too_late")
                continue
            try:
                async for data in said(self._ask, self._session_id, text, self._voice(), rate):
                    self._put_sound(data, final.end_ms)
            except StageError as failure:
                self._put_failure(failure)

    def _voice(self) -> str:
        voices = self._abilities.tts.default_voices
        return voices.get(self._target) or voices["*"]

    def _put_sound(self, data: bytes, elapsed_ms: int) -> None:
        self._playback.sent(len(data) / 2 / SAID_RATE_HZ, now_s())
        for at in range(0, len(data), DELTA_BYTES):
            delta = base64.b64encode(data[at : at + DELTA_BYTES]).decode("ascii")
            shape = {"sample_rate": SAID_RATE_HZ, "channels": 1, "format": "pcm16"}
            self._outbox.put(told("session.output_audio.delta", delta=delta, **shape, elapsed_ms=elapsed_ms))

    def _put_words(self, which: str, text: str, elapsed_ms: int) -> None:
        """Deltas follow each other as they are: a space that is needed is part of one."""
        if not text or (which == "input" and not self._tells_source):
            return
        delta = f" {text}" if self._spoke[which] else text
        self._spoke[which] = True
        self._outbox.put(told(f"session.{which}_transcript.delta", delta=delta, elapsed_ms=elapsed_ms))

    def _put_failure(self, failure: StageError) -> None:
        self._put_error(failure.message, str(failure.code))

    def _put_session(self, what: str) -> None:
        transcription = {"model": self._abilities.asr.model, "language": self._source} if self._tells_source else None
        shape = {"type": "audio/pcm", "rate": SAID_RATE_HZ}
        session = {
            "id": self._session_id,
            "object": "realtime.translation_session",
            "type": "translation",
            "model": self._abilities.translation.model,
            "expires_at": self._expires_at,
            "audio": {
                "input": {"format": shape, "transcription": transcription, "noise_reduction": None},
                "output": {"format": shape, "language": self._target},
            },
        }
        self._outbox.put(told(f"session.{what}", session=session))


def _object(within: Mapping[str, Any], path: str, name: str | None = None) -> Mapping[str, Any]:
    """A part of an update, empty where it is absent; raises InvalidRequest where it is no object."""
    found = within.get(name or path, {})
    if not isinstance(found, dict):
        raise InvalidRequest(f"{path} is no object", path)
    return found
