"""How requests of OpenAI's clients are read, and how they are refused."""

from typing import Any, BinaryIO, Self

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from deployments.errors import FragmentTooLarge, InvalidAudio, InvalidText, StageError, SynthesisFailed
from deployments.logs import get_logger
from serve_app.access import AccessDenied
from serve_app.protocol import ErrorCode, WireError, fast_json
from serve_app.protocol.openai import InvalidRequest, error
from serve_app.transport.uploads import UploadRefused

log = get_logger(__name__)
INVALID, SERVER = "invalid_request_error", "server_error"
"""Kinds of errors."""
MAX_FIELDS, MAX_FIELD_BYTES = 200, 64 * 1024
MAX_JSON_BYTES = 256 * 1024
RETRY_AFTER_S = 1
_STATUS = {
    ErrorCode.AUTH_FAILED: (403, "permission_error"),
    ErrorCode.RATE_LIMITED: (429, "rate_limit_error"),
}


class Refusal(Exception):
    """A request that is not served.

    Args:
        status: HTTP's.
        kind: OpenAI's type of the error.
        message: what was sent and what is allowed.
        param: the field that is wrong.
        code: names the error.
    """

    def __init__(self, status: int, kind: str, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.body = status, error(message, kind, param, code)

    def response(self, request_id: str) -> JSONResponse:
        """As OpenAI's clients read it."""
        again = {"retry-after": str(RETRY_AFTER_S)} if self.status in (429, 503) else {}
        return JSONResponse(self.body, self.status, {"x-request-id": request_id, **again})


def refusal_of(raised: Exception) -> Refusal:
    """What a client is told of anything that went wrong."""
    match raised:
        case Refusal():
            return raised
        case InvalidRequest():
            return Refusal(400, INVALID, str(raised), raised.param)
        case UploadRefused():
            return Refusal(raised.status, INVALID, str(raised), "file")
        case AccessDenied(reason="token"):
            return Refusal(401, INVALID, "incorrect API key provided", code="invalid_api_key")
        case AccessDenied():
            return Refusal(*_STATUS[raised.error.code], str(raised), code=str(raised.error.code))
        case WireError():
            return Refusal(*_STATUS.get(raised.code, (503, SERVER)), raised.message, code=str(raised.code))
        case InvalidAudio() | FragmentTooLarge():
            return Refusal(400, INVALID, raised.message, "file", raised.code)
        case InvalidText() | SynthesisFailed():
            return Refusal(400, INVALID, raised.message, "input", raised.code)
        case StageError():
            return Refusal(503 if raised.retryable else 500, SERVER, raised.message, code=raised.code)
        case _:
            log.error("request_failed", exc_info=raised)
            return Refusal(500, SERVER, "the server hit a bug on this request")


class FileForm:
    """A form with a file, read within its bounds; all of it is gone when the block is left.

    Args:
        request: whose body is bounded.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._form = FormData()
        self.file: BinaryIO
        self.fields: list[tuple[str, str]] = []
        """All besides the file."""
        self.kept = False
        """Whether somebody else closes it."""

    async def __aenter__(self) -> Self:
        """Read it.

        Raises:
            InvalidRequest: it is no such form.
            UploadRefused: it is too large, or does not go on.
        """
        if not self._request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise InvalidRequest("send multipart/form-data with a part `file`", "file")
        try:
            self._form = await self._request.form(max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES)
        except HTTPException as raised:
            raise InvalidRequest(f"the form can't be read: {raised.detail}") from None
        upload = self._form.get("file")
        if not isinstance(upload, UploadFile) or not upload.size:
            await self.close()
            what = "is empty" if isinstance(upload, UploadFile) else "is missing"
            raise InvalidRequest(f"file {what}: send the bytes of an audio or video file as a file", "file")
        self.file = upload.file
        self.fields = [(name, value) for name, value in self._form.multi_items() if isinstance(value, str)]
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self.kept:
            await self.close()

    async def close(self) -> None:
        """Nothing of it is needed any more."""
        await self._form.close()


async def json_body(request: Request) -> dict[str, Any]:
    """The object that a request brings.

    Raises:
        InvalidRequest: it is none.
        UploadRefused: it is too large, or does not go on.
    """
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > MAX_JSON_BYTES:
            raise UploadRefused(413, f"the body has more than {MAX_JSON_BYTES} bytes, which is the most")
    try:
        body = fast_json.loads(bytes(data))
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise InvalidRequest("the body is no JSON object")
    return body
