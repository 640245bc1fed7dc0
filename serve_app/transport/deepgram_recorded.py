"""The door of Deepgram's clients for recordings: `/v1/listen` by POST."""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from io import FileIO
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from deployments.errors import FragmentTooLarge, InvalidAudio, StageError
from deployments.logs import get_logger
from serve_app.access import Principal, credentials
from serve_app.protocol import fast_json
from serve_app.protocol.deepgram import RAW_ENCODINGS, ListenQuery, recording
from serve_app.transcription import Final, TranscriptionSettings
from serve_app.transport.deepgram_entry import (
    BUG,
    DOOR,
    INVALID_QUERY,
    UNAVAILABLE,
    Agreed,
    Refusal,
    created,
    enter,
    model_id,
    model_info,
    negotiated,
)
from serve_app.transport.fetching import NotReached, fetched
from serve_app.transport.recordings import hear
from serve_app.transport.transcriber import Transcribers
from serve_app.transport.uploads import UploadRefused, stored, unless_gone
from serve_app.transport.websocket import Receive, Scope, Send

log = get_logger(__name__)
MAX_URL_BODY_BYTES = 16 * 1024


class RecordedDoor:
    """Serves the path by HTTP.

    Args:
        sessions: of this ingress replica.
    """

    def __init__(self, sessions: Transcribers) -> None:
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope, receive)
        request_id = str(uuid.uuid4())
        try:
            answer: Response | None = await self._answered(request, request_id)
        except Refusal as refusal:
            answer = refusal.response(request_id)
        if answer is not None:
            await answer(scope, receive, send)

    async def _answered(self, request: Request, request_id: str) -> Response | None:
        """None: the client has gone."""
        if request.method != "POST":
            message = "send a WebSocket upgrade for a live stream, or POST a recording, to this path"
            raise Refusal(426, "BAD_REQUEST", message)
        principal = enter(self._sessions, request, credentials(request.headers))
        try:
            agreed = await negotiated(self._sessions, request, request_id, principal)
            _check(agreed.query)
            return await self._heard(request, request_id, principal, agreed)
        except UploadRefused as error:
            raise Refusal(error.status, "BAD_REQUEST", str(error)) from None
        except NotReached as error:
            raise Refusal(400, "REMOTE_CONTENT_ERROR", f"url: {error}") from None
        except (InvalidAudio, FragmentTooLarge) as error:
            raise Refusal(400, "BAD_REQUEST", f"failed to process audio: {error.message}") from None
        except StageError as error:
            raise Refusal(*(UNAVAILABLE if error.retryable else BUG), f"{error.code}: {error.message}") from None
        finally:
            self._sessions.leave(principal)

    async def _heard(self, request: Request, request_id: str, principal: Principal, agreed: Agreed) -> Response | None:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
            url = await self._url(request)
            async with fetched(url, private=self._sessions.limits.fetch == "any") as body:
                return await self._of_body(request, body, request_id, principal, agreed)
        return await self._of_body(request, request.stream(), request_id, principal, agreed)

    async def _of_body(
        self, request: Request, body: AsyncIterator[bytes], request_id: str, principal: Principal, agreed: Agreed
    ) -> Response | None:
        async with stored(body, self._sessions.limits.max_upload_bytes) as file:
            return await unless_gone(request, self._transcribed(file, request_id, principal, agreed))

    async def _transcribed(self, file: FileIO, request_id: str, principal: Principal, agreed: Agreed) -> Response:
        digest = await asyncio.to_thread(hashlib.file_digest, file, "sha256")
        query = agreed.query
        settings = TranscriptionSettings.of_recording(query.base_language, query.hints)
        finals = [final async for final in hear(self._sessions, DOOR, request_id, principal, settings, file)]
        metadata = {
            "transaction_key": "deprecated",
            "request_id": request_id,
            "sha256": digest.hexdigest(),
            "created": created(),
            "duration": finals[-1].end_ms / 1000 if finals else 0.0,
            "channels": 1,
            "models": [model_id(agreed.model)],
            "model_info": {model_id(agreed.model): model_info(agreed.model)},
        }
        return JSONResponse(_answer(query, metadata, finals), headers={"dg-request-id": request_id})

    async def _url(self, request: Request) -> str:
        """What a body names that is no recording."""
        if self._sessions.limits.fetch == "off":
            message = "this server fetches no URLs (transcription.fetch is off); send the recording's bytes"
            raise Refusal(400, "BAD_REQUEST", message)
        async with stored(request.stream(), MAX_URL_BODY_BYTES) as file:
            data = file.read()
        try:
            url = fast_json.loads(data)["url"]
        except (ValueError, TypeError, KeyError, RecursionError):
            url = None
        if not isinstance(url, str):
            raise Refusal(400, "INVALID_JSON", 'the body is no JSON object such as {"url": "https://…"}')
        return url


def _check(query: ListenQuery) -> None:
    if query.callback is not None:
        raise Refusal(*INVALID_QUERY, "callback is not supported; the answer comes as the response")
    if query.encoding in RAW_ENCODINGS:
        message = f"encoding={query.encoding}: a recording has to come in a container, such as WAV"
        raise Refusal(*INVALID_QUERY, message)


def _answer(query: ListenQuery, metadata: dict[str, Any], finals: list[Final]) -> dict[str, Any]:
    spoken = [final for final in finals if final.text]
    total_ms = sum(final.end_ms - final.start_ms for final in spoken)
    confidence = sum(final.confidence * (final.end_ms - final.start_ms) for final in spoken) / max(1, total_ms)
    words = [word for final in spoken for word in final.words]
    return recording(query, metadata, [final.text for final in spoken], words, confidence)
