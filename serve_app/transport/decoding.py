"""What a session is fed that comes in a container, or as packets: it is decoded on its way, in a process of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import BinaryIO

from deployments.contracts.values import AudioFormat
from deployments.errors import InternalFault, Stage, StageError
from deployments.logs import get_logger
from deployments.media.stream_decoder import StreamDecoder

log = get_logger(__name__)


class Decoding:
    """One source on its way into a session.

    Args:
        decoder: of the source.
        take: is called with the sound, which is `stream_decoder.SOUND`; waits while there is enough.
        over: is called once, when all sound has been taken, or with the reason why no more can be.
    """

    def __init__(
        self,
        decoder: StreamDecoder,
        take: Callable[[bytes], Awaitable[None]],
        over: Callable[[StageError | None], None],
    ) -> None:
        self._decoder = decoder
        self._take = take
        self._over = over
        self._started = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    @classmethod
    def of(
        cls,
        source: BinaryIO | AudioFormat,
        take: Callable[[bytes], Awaitable[None]],
        over: Callable[[StageError | None], None],
    ) -> "Decoding":
        """Of a file, or of what will be fed."""
        return cls(StreamDecoder(source.container if isinstance(source, AudioFormat) else source), take, over)

    async def feed(self, data: bytes) -> None:
        """More has come of a source that is no file; waits while the decoder has enough to do."""
        await self._started.wait()
        await self._decoder.feed(data)

    def end(self) -> None:
        """No more comes."""
        self._decoder.end()

    def close(self) -> None:
        """Nothing is wanted any more."""
        self._task.cancel()

    async def _run(self) -> None:
        failure: StageError | None = None
        try:
            try:
                await self._decoder.start()
                self._started.set()
                while sound := await self._decoder.read():
                    await self._take(sound)
            except StageError as error:
                failure = error
            except Exception:
                log.exception("decoding_failed")
                failure = InternalFault(Stage.ASR, "the server hit a bug on this audio")
            self._over(failure)
        finally:
            self._started.set()
            await self._decoder.close()
