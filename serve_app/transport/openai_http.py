"""The doors of OpenAI's clients by HTTP: `/v1/audio/…` and `/v1/models`."""

import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, BinaryIO

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from deployments.contracts.values import FragmentRef, TranslateRequest
from serve_app.access import AccessDenied, Principal, credentials
from serve_app.protocol import fast_json
from serve_app.protocol.openai import (
    SPEECH_MODELS,
    TRANSCRIPTION_MODELS,
    Heard,
    InvalidRequest,
    SpeechBody,
    TranscriptionForm,
    TranslationForm,
    chosen_voice,
    delta,
    done,
    form_fields,
    model,
    rendered,
    speech_delta,
    speech_done,
)
from serve_app.scheduling.fair_queue import Priority
from serve_app.stream.negotiation import ModelCapabilities
from serve_app.transcription import TranscriptionSettings
from serve_app.transport.callers import caller_of
from serve_app.transport.openai_requests import INVALID, SERVER, FileForm, Refusal, json_body, refusal_of
from serve_app.transport.recordings import hear
from serve_app.transport.speaking import as_wav, encoded, said
from serve_app.transport.transcriber import AskInTurn, Transcribers
from serve_app.transport.uploads import bounded, in_time, unless_gone
from serve_app.transport.websocket import AsgiApp, Receive, Scope, Send

DOOR = "openai"
EVENTS = "text/event-stream"
TRANSLATION_BUDGET_MS = 30_000
CONTEXT_CHARACTERS = 400
"""Of what was said before, for the translator."""
MEDIA_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
Handler = Callable[[Request, str, Principal], Awaitable[Response | None]]
"""Answers one request, by its id, for whom it is; None: the client has gone."""


class OpenAIDoor:
    """Serves the paths.

    Args:
        sessions: of this ingress replica.
        abilities: what the models can do; waits for them to come up.
        ask: the models, in turn.
    """

    def __init__(
        self, sessions: Transcribers, abilities: Callable[[], Awaitable[ModelCapabilities]], ask: AskInTurn
    ) -> None:
        self._sessions = sessions
        self._abilities = abilities
        self._ask = ask
        self._speeches = 0
        self._since = int(time.time())

    @property
    def routes(self) -> dict[str, AsgiApp]:
        """Paths and what answers them."""
        return {
            "/v1/audio/transcriptions": _Endpoint(self._sessions, "POST", self._transcribe),
            "/v1/audio/translations": _Endpoint(self._sessions, "POST", self._translate),
            "/v1/audio/speech": _Endpoint(self._sessions, "POST", self._speak),
            "/v1/models": _Endpoint(self._sessions, "GET", self._models),
            "/v1/models/{model:path}": _Endpoint(self._sessions, "GET", self._model),
        }

    async def _models(self, _request: Request, _request_id: str, _principal: Principal) -> Response:
        return JSONResponse({"object": "list", "data": [model(name, self._since) for name in await self._names()]})

    async def _model(self, request: Request, _request_id: str, _principal: Principal) -> Response:
        name, names = request.path_params["model"], await self._names()
        if name not in names:
            message = f"the model {name[:100]!r} is not here; models: {', '.join(names)}"
            raise Refusal(404, INVALID, message, param="model", code="model_not_found")
        return JSONResponse(model(name, self._since))

    async def _names(self) -> list[str]:
        abilities = await self._abilities()
        return list(dict.fromkeys((abilities.asr.model, *TRANSCRIPTION_MODELS, abilities.tts.model, *SPEECH_MODELS)))

    async def _transcribe(self, request: Request, request_id: str, principal: Principal) -> Response | None:
        abilities = await self._admitted(principal, request_id)
        async with FileForm(request) as sent:
            form = TranscriptionForm.parsed(form_fields(sent.fields))
            language = _language(form, abilities)
            stretches = self._heard(sent.file, request_id, principal, form, language)
            if form.stream:
                return await _streamed(stretches, request, sent)
            return await unless_gone(request, _whole(form, stretches, language, "transcribe"))

    async def _translate(self, request: Request, request_id: str, principal: Principal) -> Response | None:
        abilities = await self._admitted(principal, request_id)
        async with FileForm(request) as sent:
            form = TranslationForm.parsed(form_fields(sent.fields))
            language, target = _language(form, abilities), form.target_language
            stretches = self._heard(sent.file, request_id, principal, form, language)
            if language != target:
                _check_pair(language, target, abilities)
                stretches = self._translated(stretches, request_id, language, target)
            return await unless_gone(request, _whole(form, stretches, target, "translate"))

    async def _speak(self, request: Request, request_id: str, principal: Principal) -> Response | None:
        abilities = await self._admitted(principal, request_id)
        body = SpeechBody.parsed(await json_body(request))
        voice = chosen_voice(body, abilities.tts.voices, abilities.tts.default_voices)
        most = self._sessions.limits.max_sessions
        if self._speeches >= most:
            raise Refusal(503, SERVER, f"{most} texts are being spoken, which is this server's limit")
        sound = self._counted(said(self._ask, request_id, body.input, voice, body.speed))
        begun = await unless_gone(request, anext(sound))  # what fails at once fails with a status
        if begun is None:
            return None
        made = _made(_after(begun, sound), body.response_format)
        if body.stream_format == "sse":
            return StreamingResponse(_speech_events(made), media_type=EVENTS)
        return StreamingResponse(made, media_type=MEDIA_TYPES[body.response_format])

    async def _admitted(self, principal: Principal, request_id: str) -> ModelCapabilities:
        """What the models can do, for one that may come in."""
        return await self._sessions.admitted(principal, request_id, self._abilities)

    async def _heard(
        self, file: BinaryIO, request_id: str, principal: Principal, form: TranscriptionForm, language: str
    ) -> AsyncIterator[Heard]:
        settings = TranscriptionSettings.of_recording(language, form.hints)
        async for final in hear(self._sessions, DOOR, request_id, principal, settings, file):
            yield Heard(final.start_ms, final.end_ms, final.text, final.words)

    async def _translated(
        self, stretches: AsyncIterator[Heard], request_id: str, source: str, target: str
    ) -> AsyncIterator[Heard]:
        number, before = 0, ""
        async for one in stretches:
            text = ""
            if one.text:
                ref = FragmentRef(request_id, str(number), number)
                asked = TranslateRequest(ref, one.text, source, target, (), before, TRANSLATION_BUDGET_MS)
                text = (await self._ask(asked, Priority.BACKGROUND)).text
                number, before = number + 1, f"{before} {one.text}"[-CONTEXT_CHARACTERS:]
            yield Heard(one.start_ms, one.end_ms, text, spans=tuple((word.start_ms, word.end_ms) for word in one.words))

    async def _counted(self, sound: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        self._speeches += 1
        try:
            async for data in sound:
                yield data
        finally:
            self._speeches -= 1


class _Endpoint:
    """Serves one path.

    Args:
        sessions: of this ingress replica, who let callers in.
        method: that is taken.
        handler: answers.
    """

    def __init__(self, sessions: Transcribers, method: str, handler: Handler) -> None:
        self._sessions = sessions
        self._method = method
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. However that ends, its place is free again."""
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        request_id = f"req_{uuid.uuid4().hex}"
        request = Request(scope, bounded(receive, self._sessions.limits.max_upload_bytes))
        if request.method != self._method:
            message = f"{request.method} is not taken on this path; allowed: {self._method}"
            await Refusal(405, INVALID, message).response(request_id)(scope, receive, send)
            return
        try:
            principal = self._sessions.enter(DOOR, caller_of(request), credentials(request.headers))
        except AccessDenied as refused:
            await refusal_of(refused).response(request_id)(scope, receive, send)
            return
        try:
            answer = await _answered(self._handler, request, request_id, principal)
            if answer is not None:
                answer.headers["x-request-id"] = request_id
                with suppress(TimeoutError):  # the client reads nothing any more
                    await answer(scope, receive, in_time(send))
        finally:
            self._sessions.leave(principal)


async def _answered(handler: Handler, request: Request, request_id: str, principal: Principal) -> Response | None:
    try:
        return await handler(request, request_id, principal)
    except Exception as raised:  # noqa: BLE001 - the outermost shell of a request
        return refusal_of(raised).response(request_id)


def _language(form: TranscriptionForm, abilities: ModelCapabilities) -> str:
    language = form.base_language or abilities.asr.default_language
    if not abilities.asr.hears(language):
        allowed = ", ".join(sorted(abilities.asr.languages or ()))
        message = f"language={language[:40]!r} is not heard by {abilities.asr.model}, which hears: {allowed}"
        raise InvalidRequest(message, "language")
    return language


def _check_pair(source: str, target: str, abilities: ModelCapabilities) -> None:
    pairs = abilities.translation.pairs
    if pairs is not None and (source, target) not in pairs:
        allowed = ", ".join(sorted(f"{one}→{other}" for one, other in pairs)) or "none"
        message = f"to_language={target[:40]!r}: {source}→{target[:40]} is not translated here; allowed: {allowed}"
        raise InvalidRequest(message, "to_language")


async def _whole(form: TranscriptionForm, stretches: AsyncIterator[Heard], language: str, task: str) -> Response:
    heard = [one async for one in stretches]
    answer = rendered(form, heard, language, heard[-1].end_ms if heard else 0, task)
    return PlainTextResponse(answer) if isinstance(answer, str) else JSONResponse(answer)


async def _streamed(stretches: AsyncIterator[Heard], request: Request, sent: FileForm) -> Response | None:
    """Events as stretches are heard; what fails before the first one fails with a status."""
    begun = await unless_gone(request, anext(stretches, _NOTHING))
    if begun is None:
        return None
    sent.kept = True

    async def events() -> AsyncIterator[bytes]:
        texts: list[str] = []
        end_ms = 0
        try:
            async for one in _after(begun, stretches):
                end_ms = one.end_ms
                if one.text:
                    yield _event(delta(f" {one.text}" if texts else one.text))
                    texts.append(one.text)
            yield _event(done(" ".join(texts), end_ms))
        except Exception as raised:  # noqa: BLE001 - the answer has begun: its last event says why it ends
            yield _event(refusal_of(raised).body)
        finally:
            await sent.close()

    return StreamingResponse(events(), media_type=EVENTS)


_NOTHING = Heard(0, 0, "")


async def _made(sound: AsyncIterator[bytes], container: str) -> AsyncGenerator[bytes, None]:
    """Speech in a format, as far as it can be begun before its end is there."""
    if container == "wav":
        yield await as_wav(sound)
        return
    async for data in sound if container == "pcm" else encoded(sound, container):
        yield data


async def _speech_events(made: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        async for data in made:
            yield _event(speech_delta(data))
        yield _event(speech_done())
    except Exception as raised:  # noqa: BLE001 - the answer has begun: its last event says why it ends
        yield _event(refusal_of(raised).body)


def _event(value: dict[str, Any]) -> bytes:
    return f"data: {fast_json.dumps(value)}\n\n".encode()


async def _after(begun: Any, rest: AsyncIterator[Any]) -> AsyncIterator[Any]:
    yield begun
    async for one in rest:
        yield one
