"""The sound of live streams and of whole files, decoded as it comes, in a confined child process each.

What comes in is a stranger's: a container, or packets of Opus. What goes out can be cut between any two samples. The
child is the program `decode_stream`; one that dies costs its own source only.
"""

import asyncio
import json
import signal
import sys
from contextlib import suppress
from typing import BinaryIO, Final, Self, cast

from deployments.audio.confinement import environment
from deployments.contracts.values import OPUS_PACKETS, AudioFormat
from deployments.errors import InternalFault, InvalidAudio, Stage
from deployments.logs import get_logger

PROGRAM = "deployments.media.decode_stream"
SOUND: Final = AudioFormat("pcm_s16le", 16_000, 1)
"""What comes out: as recognition hears it, so nothing is resampled twice."""
PACKETS = "packets"
"""The child's argument for packets of Opus, each behind its length in `LENGTH_BYTES`; any other is for a container."""
LENGTH_BYTES = 2
CPU_LIMIT_S = 3.0
"""Of the child between two reads or writes: nothing that comes in so small pieces takes a tenth of it."""
MAX_PACKET_BYTES = 2 ** (8 * LENGTH_BYTES) - 1
READ_BYTES = 64 * 1024
_MAX_COMPLAINT_BYTES = 4096
_END_LIMIT_S = 5.0
"""For a child to end once its sound has; what then lives is killed."""

logger = get_logger(__name__)


class StreamDecoder:
    """One source at work. `start`, then `feed` it while `read` is called, and `close` it however that ends.

    Args:
        source: a file, from its beginning; or the container name of a live stream, of which OPUS_PACKETS alone means
            something.
        program: the module that the child runs.
    """

    def __init__(self, source: BinaryIO | str, program: str = PROGRAM) -> None:
        self._file = None if isinstance(source, str) else source
        self._packets = source == OPUS_PACKETS
        self._program = program
        self._process: asyncio.subprocess.Process | None = None
        self._ended = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Start the child."""
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", self._program, PACKETS if self._packets else "container"),
            stdin=pipe if self._file is None else self._file,
            stdout=pipe,
            stderr=pipe,
            limit=READ_BYTES,
            env=environment(),
        )
        if self._ended:
            self.end()

    async def feed(self, data: bytes) -> None:
        """More of a live stream; waits while the child has enough to do. One that has ended takes nothing."""
        if self._packets:
            data = data[:MAX_PACKET_BYTES]  # which no packet is, so that it is passed over like others that are none
            data = len(data).to_bytes(LENGTH_BYTES, "big") + data
        stdin = None if self._process is None else self._process.stdin
        if stdin is None or stdin.is_closing():
            return
        try:
            stdin.write(data)
            await stdin.drain()
        except OSError:  # `read` tells why nothing is taken
            stdin.close()

    def end(self) -> None:
        """No more comes; one that has not started yet ends at once when it does."""
        self._ended = True
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    async def read(self) -> bytes:
        """The next sound, in whole samples; empty once all has come.

        Raises:
            InvalidAudio: the source can't be decoded, or not any further.
            InternalFault: the decoder failed.
        """
        process = cast("asyncio.subprocess.Process", self._process)
        stdout = cast("asyncio.StreamReader", process.stdout)
        sound = await stdout.read(READ_BYTES)
        if len(sound) % 2:
            with suppress(asyncio.IncompleteReadError):
                sound += await stdout.readexactly(1)
        if not sound:
            await self._judge(process, cast("asyncio.StreamReader", process.stderr))
        return sound

    async def close(self) -> None:
        """End the child, whatever it does."""
        process = self._process
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    @staticmethod
    async def _judge(process: asyncio.subprocess.Process, stderr: asyncio.StreamReader) -> None:
        """Raise why the sound has ended, unless the source has."""
        try:
            async with asyncio.timeout(_END_LIMIT_S):
                complaint = await stderr.read(_MAX_COMPLAINT_BYTES)
                returncode = await process.wait()
        except TimeoutError:
            raise InternalFault(Stage.ASR, "the decoder did not end") from None
        said: dict[str, str] = {}
        with suppress(ValueError, IndexError):
            said = json.loads(complaint.splitlines()[-1])
        if returncode == 0:
            if said.get("damage"):
                logger.info("audio_damaged", damage=said["damage"])
            return
        if "error" in said:
            raise InvalidAudio(Stage.ASR, said["error"])
        logger.warning("decoder_died", returncode=returncode)
        if returncode == -signal.SIGPROF:
            raise InvalidAudio(Stage.ASR, f"a piece of the audio takes more than {CPU_LIMIT_S:g} s of CPU to decode")
        raise InvalidAudio(Stage.ASR, "the audio can't be read: it ends the decoder")
