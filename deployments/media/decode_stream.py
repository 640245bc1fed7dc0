"""The program that decodes the sound of one live stream, or of one file: what `stream_decoder` starts.

Here a stranger's bytes meet FFmpeg's C code, so this process is confined as `audio.decode_worker` is, and serves one
source alone. It is a filter: a container, or packets of Opus, comes in by standard input and raw sound of `RATE_HZ`,
one channel, s16le leaves by standard output as soon as it is decoded. Where it can't go on, the last line on standard
error says why, in JSON.
"""

import io
import json
import os
import signal
import sys
import wave
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Protocol

import av
import av.logging
import numpy as np

from deployments.audio import containers
from deployments.audio.confinement import confine
from deployments.errors import InvalidAudio
from deployments.media.pauses import Pcm
from deployments.media.reader import Damage, samples_of, sound_of
from deployments.media.stream_decoder import CPU_LIMIT_S, LENGTH_BYTES, PACKETS, SOUND
from deployments.media.tracks import MediaUnreadable, described

RATE_HZ = SOUND.sample_rate_hz
_STREAM_OPTIONS = {"formatprobesize": "2048", "probesize": "2048", "analyzeduration": "0"}
"""Of a live stream: looking at more of it before the first sound comes would only be waiting."""
_BUFFER_BYTES = 1024
"""Asked for at once, of a live stream."""
_OPTIONS = {
    "protocol_whitelist": "",
    "format_whitelist": "aac,ac3,aiff,amr,asf,au,avi,caf,eac3,flac,flv,matroska,mov,mp3,mpeg,mpegts,ogg,w64,wav",
    "codec_whitelist": ",".join((
        *("aac", "ac3", "eac3", "alac", "amrnb", "amrwb", "flac", "mp2", "mp2float", "mp3", "mp3float", "opus"),
        *("libopus", "vorbis", "wmav1", "wmav2", "wmapro", "wmalossless", "adpcm_ima_wav", "adpcm_ms"),
        *("pcm_alaw", "pcm_mulaw", "pcm_u8", "pcm_s8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be"),
        *("pcm_s32le", "pcm_s32be", "pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be"),
    )),
}  # fmt: skip
_MAX_BAD_PACKETS = 50
"""In a row, before what comes is taken for something else than Opus."""
_MAGIC_BYTES = 16
_SOURCE = Path("the audio")
"""What messages call it."""


class _Source(Protocol):
    def read(self, n_bytes: int) -> bytes:
        """The next bytes, as many as there are and at least one; none: it is over."""


class _Piped:
    """A live stream, which can't be sought.

    Args:
        began: what was read of it before.
    """

    def __init__(self, began: bytes = b"") -> None:
        self._began = began

    def read(self, n_bytes: int) -> bytes:
        """What is there; waits where nothing is. FFmpeg asks again at the end, and gets nothing again."""
        if self._began:
            data, self._began = self._began[:n_bytes], self._began[n_bytes:]
            return data
        return _read(n_bytes)


class _Stored:
    """A file."""

    def read(self, n_bytes: int) -> bytes:
        """The next bytes."""
        return _read(n_bytes)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        return os.lseek(sys.stdin.fileno(), offset, whence)

    def tell(self) -> int:
        """The place."""
        return os.lseek(sys.stdin.fileno(), 0, os.SEEK_CUR)


def main() -> None:
    """Decode standard input to its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business, and its end ends this one
    av.logging.set_level(av.logging.PANIC)
    _warm_up()
    confine()
    damage = Damage()
    try:
        with suppress(BrokenPipeError):  # nobody listens any more
            sound = _of_packets(damage) if sys.argv[1:] == [PACKETS] else _of_container(damage)
            for pcm in sound:
                _write(pcm)
        _say({"damage": str(damage)})
        os._exit(0)
    except MediaUnreadable as error:
        _say({"error": str(error)})
    except InvalidAudio as error:
        _say({"error": error.message})
    except MemoryError:
        _say({"error": f"{_SOURCE} takes too much memory to decode"})
    except (OSError, av.error.FFmpegError) as error:
        _say({"error": f"{_SOURCE} can't be read: {error.strerror or error}"})
    os._exit(1)  # nothing to clean up, and no module may be loaded for it any more


def _of_container(damage: Damage) -> Iterator[Pcm]:
    try:
        os.lseek(sys.stdin.fileno(), 0, os.SEEK_SET)
    except OSError:
        return _of_stream(damage)
    return _of_file(_Stored(), damage)


def _of_stream(damage: Damage) -> Iterator[Pcm]:
    """Sound follows sound: what the stream's clock says of holes is the recorder's matter."""
    began = b""
    while len(began) < _MAGIC_BYTES and (data := _read(_MAGIC_BYTES - len(began))):
        began += data
    demuxer = _demuxer(began)
    with _opened(_Piped(began), demuxer, _STREAM_OPTIONS, _BUFFER_BYTES) as container:
        info = replace(described(container, _SOURCE), sample_rate_hz=RATE_HZ, channels=1, counted_sound=True)
        yield from sound_of(container, info, damage)


def _of_file(file: _Stored, damage: Damage) -> Iterator[Pcm]:
    """The sound as it lies in time: where nothing is heard, or can be decoded, is silence."""
    demuxer = _demuxer(file.read(_MAGIC_BYTES))
    file.seek(0)
    with _opened(file, demuxer, {}) as container:
        info = replace(described(container, _SOURCE), sample_rate_hz=RATE_HZ, channels=1)
        yield from sound_of(container, info, damage)


def _demuxer(began: bytes) -> str:
    """FFmpeg's name of the demuxer; empty where it has to find out by itself."""
    if not began:
        raise MediaUnreadable(f"{_SOURCE} is empty")
    demuxer = containers.demuxer_of(began)
    if demuxer != "mov":  # whose beginning doesn't show whether it is whole
        containers.check_beginning(began)
    return "" if demuxer == "wav" and began[8:12] != b"WAVE" else demuxer  # RIFF holds other things too


def _opened(
    source: _Source, demuxer: str, options: dict[str, str], buffer_bytes: int = 32 * 1024
) -> "av.container.InputContainer":
    return av.open(
        source,
        "r",
        format=demuxer or None,
        options={**_OPTIONS, **options},
        metadata_errors="replace",
        io_open=_open_nothing,
        buffer_size=buffer_bytes,
    )


def _open_nothing(url: str, *_: object) -> None:
    raise PermissionError(f"media may not open {len(url)} characters of URL")


def _of_packets(damage: Damage) -> Iterator[Pcm]:
    """Packets that can't be decoded are passed over."""
    decoder = av.CodecContext.create("opus", "r")
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
    bad = 0
    while length := _read_fully(LENGTH_BYTES):
        packet = av.Packet(_read_fully(int.from_bytes(length, "big")))
        try:
            frames = decoder.decode(packet)
        except av.error.FFmpegError as error:
            bad += 1
            damage.packets[str(error.strerror)] += 1
            if bad > _MAX_BAD_PACKETS:
                raise MediaUnreadable(f"{bad} packets in a row are no Opus") from None
            continue
        bad = 0
        for frame in frames:
            frame.pts = None
            yield from (samples_of(out, 1) for out in resampler.resample(frame))
    yield from (samples_of(out, 1) for out in resampler.resample(None))


def _read_fully(n_bytes: int) -> bytes:
    """So many bytes; fewer where the stream ends."""
    data = b""
    while len(data) < n_bytes and (more := _read(n_bytes - len(data))):
        data += more
    return data


def _read(n_bytes: int) -> bytes:
    data = os.read(sys.stdin.fileno(), n_bytes)
    signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)
    return data


def _write(pcm: Pcm) -> None:
    sys.stdout.buffer.write(np.ascontiguousarray(pcm, dtype="<i2").tobytes())
    sys.stdout.buffer.flush()
    signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)


def _say(what: dict[str, str]) -> None:
    os.write(sys.stderr.fileno(), (json.dumps(what) + "\n").encode())


def _warm_up() -> None:
    """Have everything imported: no file can be opened afterwards."""
    sound: BinaryIO = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(3 * RATE_HZ)
        file.writeframes(bytes(4 * RATE_HZ))
    sound.seek(0)
    with _opened(sound, "wav", {}) as container:
        info = replace(described(container, _SOURCE), sample_rate_hz=RATE_HZ, channels=1)
        for pcm in sound_of(container, info):
            np.ascontiguousarray(pcm, dtype="<i2").tobytes()


if __name__ == "__main__":
    main()
