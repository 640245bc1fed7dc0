"""What live streams and recordings of Deepgram's clients share: who comes in, what is asked, how one is refused."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse

from deployments.logs import get_logger
from serve_app.access import AccessDenied, Credentials, Principal
from serve_app.protocol import ErrorCode, WireError
from serve_app.protocol.deepgram import InvalidQuery, ListenQuery, parse_query
from serve_app.transport.callers import caller_of
from serve_app.transport.transcriber import Transcribers

log = get_logger(__name__)
DOOR = "deepgram"
INVALID_QUERY = (400, "INVALID_QUERY_PARAMETER")
UNAVAILABLE = (503, "SERVICE_UNAVAILABLE")
BUG = (500, "INTERNAL")
_INVALID_KEY = (401, "INVALID_AUTH")
_STATUS = {
    ErrorCode.AUTH_FAILED: (403, "INSUFFICIENT_PERMISSIONS"),
    ErrorCode.RATE_LIMITED: (429, "TOO_MANY_REQUESTS"),
    ErrorCode.QUEUE_FULL: UNAVAILABLE,
    ErrorCode.SERVER_DRAINING: UNAVAILABLE,
}


class Refusal(Exception):
    """A request that is not served.

    Args:
        status: HTTP's.
        code: Deepgram's category.
        message: what was sent and what is allowed.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def response(self, request_id: str) -> JSONResponse:
        """As Deepgram's clients read it."""
        message = self.message.encode("ascii", "replace").decode()
        body = {
            "category": self.code,
            "message": message,
            "details": message,
            "err_code": self.code,
            "err_msg": message,
            "request_id": request_id,
        }
        return JSONResponse(body, self.status, {"dg-request-id": request_id, "dg-error": " ".join(message.split())})


@dataclass(frozen=True, slots=True)
class Agreed:
    """A request that may be served."""

    query: ListenQuery
    model: str
    """What will hear it."""


def enter(sessions: Transcribers, connection: HTTPConnection, found: Credentials) -> Principal:
    """Let a connection in.

    Raises:
        Refusal: for its origin, its key or token, or because it has too many connections.
    """
    try:
        return sessions.enter(DOOR, caller_of(connection), found)
    except AccessDenied as refused:
        if refused.reason == "token":
            raise Refusal(*_INVALID_KEY, "Invalid credentials.") from None
        raise Refusal(*_STATUS[refused.error.code], str(refused)) from None


async def negotiated(
    sessions: Transcribers, connection: HTTPConnection, session_id: str, principal: Principal
) -> Agreed:
    """What is asked for, if it can be had.

    Raises:
        Refusal: a parameter is wrong, the language isn't heard, or no more may be open.
    """
    try:
        query = parse_query(connection.scope["query_string"].decode("latin-1"))
        query.audio_format()
    except InvalidQuery as error:
        raise Refusal(*INVALID_QUERY, str(error)) from None
    try:
        abilities = await sessions.admitted(principal, session_id, sessions.abilities)
    except WireError as error:
        raise Refusal(*_STATUS.get(error.code, BUG), error.message) from None
    except Exception:
        log.exception("transcription_not_opened", stream_id=session_id, door=DOOR)
        raise Refusal(*BUG, "the server hit a bug on this request") from None
    if not abilities.hears(query.base_language):
        allowed = ", ".join(sorted(abilities.languages or ()))
        message = f"language={query.language[:40]!r} is not heard by {abilities.model}, which hears: {allowed}"
        raise Refusal(*INVALID_QUERY, message)
    return Agreed(query, abilities.model)


def created() -> str:
    """Now, as Deepgram writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def live_metadata(session_id: str, model: str) -> dict[str, Any]:
    """Of each message of a live stream."""
    return {"request_id": session_id, "model_uuid": model_id(model), "model_info": model_info(model)}


def model_id(model: str) -> str:
    """A UUID that is always the same one for a model."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, model))


def model_info(model: str) -> dict[str, str]:
    """What is told of a model."""
    return {"name": model, "version": "1", "arch": model.partition("-")[0]}
