"""Speech on its way out as a file that grows: FFmpeg's program encodes it as it comes."""

import asyncio
from contextlib import suppress
from typing import Final, Self, cast

from deployments.contracts.values import SAID_RATE_HZ
from deployments.errors import InternalFault, Stage
from deployments.media.ffmpeg import FFmpegFailed, program

FORMATS: Final = {
    "mp3": ("-f", "mp3", "-c:a", "libmp3lame", "-b:a", "64k", "-write_xing", "0"),
    "opus": ("-f", "ogg", "-c:a", "libopus", "-b:a", "48k", "-page_duration", "200000"),
    "aac": ("-f", "adts", "-c:a", "aac", "-aac_coder", "fast", "-b:a", "64k"),
    "flac": ("-f", "flac", "-c:a", "flac"),
}
"""Formats that a player can begin to play before their end is there, and how FFmpeg makes them."""
READ_BYTES = 64 * 1024
_END_LIMIT_S = 10.0
"""For the program to give out the rest."""


class StreamEncoder:
    """One file in the making. `start`, then `feed` it while `read` is called, and `close` it however that ends.

    Args:
        container: a key of FORMATS.
    """

    def __init__(self, container: str) -> None:
        self._arguments = FORMATS[container]
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Start the program.

        Raises:
            InternalFault: there is none.
        """
        heard = ("-f", "s16le", "-ar", str(SAID_RATE_HZ), "-ac", "1", "-i", "pipe:0")
        quietly = ("-hide_banner", "-loglevel", "error", "-nostdin")
        try:
            command = (
                await asyncio.to_thread(program),
                *quietly,
                *heard,
                *self._arguments,
                "-flush_packets",
                "1",
                "pipe:1",
            )
        except FFmpegFailed as error:
            raise InternalFault(Stage.TTS, str(error)) from None
        self._process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )

    async def feed(self, sound: bytes) -> None:
        """More speech: 16 bit integers, little endian, mono, `SAID_RATE_HZ`. Waits while there is enough to do."""
        with suppress(OSError):  # `read` tells that it has ended
            self._stdin.write(sound)
            await self._stdin.drain()

    def end(self) -> None:
        """No more comes."""
        self._stdin.close()

    async def read(self) -> bytes:
        """The next bytes of the file; empty once all have come.

        Raises:
            InternalFault: the program failed.
        """
        process = cast("asyncio.subprocess.Process", self._process)
        data = await cast("asyncio.StreamReader", process.stdout).read(READ_BYTES)
        if not data:
            try:
                async with asyncio.timeout(_END_LIMIT_S):
                    status = await process.wait()
            except TimeoutError:
                status = None
            if status != 0:
                raise InternalFault(Stage.TTS, f"the encoder failed (status {status})")
        return data

    async def close(self) -> None:
        """End the program, whatever it does."""
        process = self._process
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    @property
    def _stdin(self) -> asyncio.StreamWriter:
        return cast("asyncio.StreamWriter", cast("asyncio.subprocess.Process", self._process).stdin)
