"""Speech on its way out as a file that grows: FFmpeg's program encodes it as it comes."""

import asyncio
from typing import Final

from deployments.contracts.values import SAID_RATE_HZ
from deployments.errors import InternalFault, Stage
from deployments.media.child_filter import ChildFilter
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
_SPEECH = ("-f", "s16le", "-ar", str(SAID_RATE_HZ), "-ac", "1", "-i", "pipe:0")
_QUIETLY = ("-hide_banner", "-loglevel", "error", "-nostdin")


class StreamEncoder(ChildFilter):
    """One file in the making, fed with 16 bit integers, little endian, mono, `SAID_RATE_HZ`.

    Args:
        container: a key of FORMATS.
    """

    def __init__(self, container: str) -> None:
        super().__init__()
        self._arguments = FORMATS[container]

    async def _launched(self) -> asyncio.subprocess.Process:
        try:
            command = (await asyncio.to_thread(program), *_QUIETLY, *_SPEECH, *self._arguments)
        except FFmpegFailed as error:
            raise InternalFault(Stage.TTS, str(error)) from None
        pipe = asyncio.subprocess.PIPE
        nowhere = asyncio.subprocess.DEVNULL
        return await asyncio.create_subprocess_exec(
            *command, "-flush_packets", "1", "pipe:1", stdin=pipe, stdout=pipe, stderr=nowhere
        )

    async def read(self) -> bytes:
        """The next bytes of the file; empty once all have come.

        Raises:
            InternalFault: the program failed.
        """
        data = await self._stdout.read(READ_BYTES)
        if not data:
            try:
                async with asyncio.timeout(_END_LIMIT_S):
                    status = await self._running.wait()
            except TimeoutError:
                status = None
            if status != 0:
                raise InternalFault(Stage.TTS, f"the encoder failed (status {status})")
        return data
