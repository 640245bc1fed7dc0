"""The sound of live streams and of whole files, decoded as it comes, in a confined child process each.

What comes in is a stranger's: a container, or packets of Opus. What goes out can be cut between any two samples. The
child is the program `decode_stream`; one that dies costs its own source only.
"""

import asyncio
import json
import signal
import sys
from contextlib import suppress
from typing import BinaryIO, Final, cast

from deployments.audio.confinement import environment
from deployments.contracts.values import OPUS_PACKETS, AudioFormat
from deployments.errors import InternalFault, InvalidAudio, Stage
from deployments.logs import get_logger
from deployments.media.child_filter import ChildFilter

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


class StreamDecoder(ChildFilter):
    """One source at work. A live one is fed with its bytes, or with its packets, one at a time.

    Args:
        source: a file, from its beginning; or the container name of a live stream, of which OPUS_PACKETS alone means
            something.
        program: the module that the child runs.
    """

    def __init__(self, source: BinaryIO | str, program: str = PROGRAM) -> None:
        super().__init__()
        self._file = None if isinstance(source, str) else source
        self._packets = source == OPUS_PACKETS
        self._program = program

    async def _launched(self) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", self._program, PACKETS if self._packets else "container"),
            stdin=pipe if self._file is None else self._file,
            stdout=pipe,
            stderr=pipe,
            limit=READ_BYTES,
            env=environment(),
        )

    async def feed(self, data: bytes) -> None:
        """More of a live stream; waits while the child has enough to do. One that has ended takes nothing."""
        if self._packets:
            data = data[:MAX_PACKET_BYTES]  # which no packet is, so that it is passed over like others that are none
            data = len(data).to_bytes(LENGTH_BYTES, "big") + data
        await super().feed(data)

    async def read(self) -> bytes:
        """The next sound, in whole samples; empty once all has come.

        Raises:
            InvalidAudio: the source can't be decoded, or not any further.
            InternalFault: the decoder failed.
        """
        sound = await self._stdout.read(READ_BYTES)
        if len(sound) % 2:
            with suppress(asyncio.IncompleteReadError):
                sound += await self._stdout.readexactly(1)
        if not sound:
            await self._judge(self._running, cast("asyncio.StreamReader", self._running.stderr))
        return sound

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
