"""Texts on their way to a listener: said piece by piece, so that the first is heard while the next is spoken."""

import asyncio
import io
import wave
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress

from deployments.contracts.values import SAID_RATE_HZ, FragmentRef, SayRequest, Sound
from deployments.media.stream_encoder import StreamEncoder
from deployments.tts.sentences import pieces
from serve_app.transport.transcriber import Ask

PIECE_CHARACTERS = 200
"""At most; a sentence or a few."""
AHEAD = 2
"""Pieces that are spoken or wait to be, while one is heard."""
SAY_BUDGET_MS = 30_000
"""For one piece."""
PAUSE = bytes(SAID_RATE_HZ * 150 // 1000 * 2)
"""Between two pieces, besides the quiet at their ends."""
_SAMPLE_BYTES = 2


async def said(ask: Ask, request_id: str, text: str, voice: str, rate: float) -> AsyncGenerator[bytes, None]:
    """A text's sound, in order: 16 bit integers, little endian, mono, `SAID_RATE_HZ`.

    Args:
        ask: the voice, in turn.
        request_id: whose turn the pieces take.
        text: of any length.
        voice: a key of voices.json.
        rate: how fast, 1.0 being natural.

    Raises:
        StageError: a piece could not be said, and why. What came before it has been given out.
    """
    waiting = deque(enumerate(pieces(text, PIECE_CHARACTERS)))
    coming: deque[asyncio.Future[Sound]] = deque()

    def begin() -> None:
        while waiting and len(coming) < AHEAD:
            number, piece = waiting.popleft()
            ref = FragmentRef(request_id, str(number), number)
            coming.append(asyncio.ensure_future(ask(SayRequest(ref, piece, voice, SAY_BUDGET_MS, rate))))

    try:
        begin()
        while coming:
            sound = await coming[0]
            coming.popleft()
            begin()
            yield sound.data
            if coming:
                yield PAUSE
    finally:
        for call in coming:
            call.cancel()
        for call in coming:
            with suppress(BaseException):
                await call


async def encoded(sound: AsyncIterator[bytes], container: str) -> AsyncGenerator[bytes, None]:
    """Speech as a file that grows, a key of `stream_encoder.FORMATS`; raises what `sound` raises, at the file's end."""
    async with StreamEncoder(container) as encoder:

        async def feed() -> None:
            try:
                async for data in sound:
                    await encoder.feed(data)
            finally:
                encoder.end()

        feeding = asyncio.create_task(feed())
        try:
            while data := await encoder.read():
                yield data
            await feeding
        finally:
            feeding.cancel()
            with suppress(BaseException):
                await feeding


async def as_wav(sound: AsyncIterator[bytes]) -> bytes:
    """Speech as a WAV file, whose header tells its length: all of it is waited for."""
    data = b"".join([piece async for piece in sound])
    file = io.BytesIO()
    with wave.open(file, "wb") as output:
        output.setnchannels(1)
        output.setsampwidth(_SAMPLE_BYTES)
        output.setframerate(SAID_RATE_HZ)
        output.writeframes(data)
    return file.getvalue()
