"""Where `livedub transcribe` takes its sound from: a file, standard input, a microphone."""

import asyncio
import os
import stat
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import BinaryIO, Final

from deployments.media import ffmpeg
from deployments.media.reader import Damage, read
from deployments.media.tracks import MediaInfo
from serve_app.protocol import LiveFormat

RATE_HZ: Final = 16_000
"""As recognition hears it."""
_READ_BYTES = 8 * 1024
_CHUNK_SAMPLES = RATE_HZ // 10
_MICROPHONES: Final = {
    "linux": ("pulse:default", "alsa:default"),
    "darwin": ("avfoundation::default",),
}
"""By platform, as FFmpeg's input devices call them."""


class SoundUnavailable(Exception):
    """There is no such source: says why."""


@dataclass(frozen=True, slots=True)
class Sound:
    """Sound that comes."""

    chunks: AsyncGenerator[bytes, None]
    format: LiveFormat = "pcm_s16le"
    sample_rate_hz: int = RATE_HZ
    channels: int = 1
    total_s: float | None = None
    """None: nobody knows."""


def of_file(info: MediaInfo, damage: Damage, *, realtime: bool) -> Sound:
    """A file's, from its beginning; `realtime`: no faster than it is spoken."""
    return Sound(_decoded(info, damage, realtime=realtime), total_s=info.duration_s)


async def _decoded(info: MediaInfo, damage: Damage, *, realtime: bool) -> AsyncGenerator[bytes, None]:
    blocks = read(replace(info, sample_rate_hz=RATE_HZ, channels=1), damage)
    began_s, n_samples = time.monotonic(), 0
    while (block := await asyncio.to_thread(next, blocks, None)) is not None:
        for at in range(0, len(block), _CHUNK_SAMPLES):
            piece = block[at : at + _CHUNK_SAMPLES]
            if realtime:
                await asyncio.sleep(max(0.0, began_s + n_samples / RATE_HZ - time.monotonic()))
            n_samples += len(piece)
            yield piece.tobytes()


def of_stdin(kind: LiveFormat, sample_rate_hz: int, channels: int, frame_bytes: int) -> Sound:
    """What another program writes."""
    return Sound(_piped(frame_bytes), kind, sample_rate_hz, channels)


async def _piped(frame_bytes: int) -> AsyncGenerator[bytes, None]:
    loop, reader, stream = asyncio.get_running_loop(), asyncio.StreamReader(), sys.stdin.buffer
    transport: asyncio.BaseTransport | None = None
    if _must_be_waited_for(stream):
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), stream)
    rest = b""
    try:
        while data := await (reader.read(_READ_BYTES) if transport else asyncio.to_thread(stream.read, _READ_BYTES)):
            data = rest + data
            whole = len(data) - len(data) % frame_bytes
            rest = data[whole:]
            if whole:
                yield data[:whole]
    finally:
        if transport is not None:
            transport.close()


def _must_be_waited_for(stream: BinaryIO) -> bool:
    """Whether it is a pipe or the like, and no file."""
    try:
        return not stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except OSError:
        return False


async def of_microphone(device: str | None) -> Sound:
    """The microphone's, or another input device's.

    Args:
        device: FFmpeg's name of the kind of device, a colon, and the device; None: the default microphone.

    Raises:
        SoundUnavailable: none gives sound.
    """
    candidates = (device,) if device is not None else _MICROPHONES.get(sys.platform, ())
    if not candidates:
        raise SoundUnavailable("which device is the microphone isn't known here: name it, as --device dshow:audio=NAME")
    failures = []
    for candidate in candidates:
        try:
            recording, first = await _recording(candidate)
        except (SoundUnavailable, ffmpeg.FFmpegFailed) as failure:
            failures.append(f"{candidate}: {failure}")
        else:
            return Sound(_recorded(recording, first))
    raise SoundUnavailable(
        f"no microphone can be heard ({'; '.join(failures)}): name one, as --device pulse:NAME, "
        "and an FFmpeg that knows its kind in IMAGEIO_FFMPEG_EXE"
    )


async def _recording(device: str) -> tuple[asyncio.subprocess.Process, bytes]:
    """A recording that has begun, and its first sound."""
    kind, colon, name = device.partition(":")
    if not colon:
        raise SoundUnavailable("a device is written KIND:NAME, as pulse:default")
    process = await asyncio.create_subprocess_exec(
        *(ffmpeg.program(), "-nostdin", "-loglevel", "error", "-fflags", "nobuffer", "-f", kind, "-i", name),
        *("-ac", "1", "-ar", str(RATE_HZ), "-f", "s16le", "-flush_packets", "1", "pipe:1"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is ours: what was heard has still to be transcribed
    )
    if process.stdout is None:
        raise SoundUnavailable("its sound can't be read")
    first = await process.stdout.read(_READ_BYTES)
    if not first:
        _, complaint = await process.communicate()
        raise SoundUnavailable(ffmpeg.complaints(complaint))
    return process, first


async def _recorded(process: asyncio.subprocess.Process, first: bytes) -> AsyncGenerator[bytes, None]:
    rest, data = b"", first
    try:
        while data:
            data = rest + data
            whole = len(data) - len(data) % 2
            rest = data[whole:]
            if whole:
                yield data[:whole]
            data = await process.stdout.read(_READ_BYTES) if process.stdout is not None else b""
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()  # its end shows only once its pipes are empty
