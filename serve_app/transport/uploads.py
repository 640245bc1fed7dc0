"""Bodies of requests that are files, and answers that come in pieces: bounded in size and in waiting."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import asynccontextmanager
from io import FileIO
from typing import Any, TypeVar

from starlette.requests import Request

from serve_app.transport.websocket import Message, Receive, Send

T = TypeVar("T")

SILENT_LIMIT_S = 30.0
"""Without a byte of a body, or without one of an answer being read; above, its client is taken for gone."""
WRITE_BYTES = 1024 * 1024
"""That are gathered before they are written, in a thread."""


class UploadRefused(Exception):
    """A body that is not taken.

    Args:
        status: HTTP's.
        message: what was sent and what is allowed.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@asynccontextmanager
async def stored(body: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[FileIO]:
    """A body as a file without a name, at its beginning; it is gone when the block is left.

    Raises:
        UploadRefused: 400 for an empty one, 408 for one that does not go on, 413 for one that is too large, 507 where
            the disk is full.
    """
    with tempfile.TemporaryFile(buffering=0) as file:
        size, gathered = 0, bytearray()
        try:
            async for data in _in_time(body):
                size += len(data)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                gathered += data
                if len(gathered) >= WRITE_BYTES:
                    await asyncio.to_thread(_write, file, bytes(gathered))
                    gathered.clear()
            if size == 0:
                raise UploadRefused(400, "the body is empty; send the bytes of an audio or video file")
            await asyncio.to_thread(_write, file, bytes(gathered))
        except OSError as error:
            raise UploadRefused(507, f"the body can't be stored: {error.strerror}") from None
        file.seek(0)
        yield file


def _write(file: FileIO, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


async def _in_time(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    while True:
        try:
            yield await _soon(anext(body))
        except StopAsyncIteration:
            return


async def _soon(coming: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(SILENT_LIMIT_S):
            return await coming
    except TimeoutError:
        raise UploadRefused(408, f"nothing more of the body came for {SILENT_LIMIT_S:g} s") from None


def bounded(receive: Receive, max_bytes: int) -> Receive:
    """What receives a body, for whoever reads it by itself, such as the parser of forms: no more than so much, in time.

    It raises UploadRefused, 408 or 413, as `stored` does.
    """
    size, whole = 0, False

    async def received() -> Message:
        nonlocal size, whole
        if whole:
            return await receive()
        message = await _soon(receive())
        size += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        if size > max_bytes:
            raise _too_large(max_bytes)
        return message

    return received


def _too_large(max_bytes: int) -> UploadRefused:
    return UploadRefused(413, f"the body has more than {max_bytes} bytes, which is the most")


def in_time(send: Send) -> Send:
    """What sends an answer, for one that comes in pieces: a client that reads none of it for too long is given up."""

    async def sent(message: Message) -> None:
        async with asyncio.timeout(SILENT_LIMIT_S):
            await send(message)

    return sent


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """What comes of work on a request whose body has been read; None: its client has gone, and the work stopped."""
    working = asyncio.create_task(work)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.wait((working, gone))


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
