"""Reads any audio or video file, in a stream: PCM in the order it is heard. Never holds the whole file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import numpy as np

from client.pauses import Lengths, Pcm, split

_RATES_HZ = (16_000, 48_000)
"""Lowest and highest rate that is sent."""


class MediaUnreadable(Exception):
    """The file can't be used: says which one and why."""


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What is in a file."""

    path: Path
    sample_rate_hz: int
    """The rate to work in: the file's own, within 16–48 kHz."""
    channels: Literal[1, 2]
    start_s: float
    """Where its sound starts on the file's timeline."""
    duration_s: float | None
    """None: the file doesn't tell."""
    video_codec: str | None
    """None: no moving picture."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Audio between two cuts."""

    pcm: Pcm
    start_samples: int
    """From the start of the sound."""
    start_ms: int
    """On the file's timeline."""
    duration_ms: int


def probe(path: Path) -> MediaInfo:
    """Look at a file.

    Raises:
        MediaUnreadable: no such file, no media file, or no sound in it.
    """
    try:
        with av.open(path, "r") as container:
            if not container.streams.audio:
                raise MediaUnreadable(f"{path} has no sound: a file with an audio stream is needed")
            audio = container.streams.audio[0]
            pictures = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
            start = container.start_time or 0
            own_start_s = float(audio.start_time * audio.time_base) if audio.start_time and audio.time_base else None
            return MediaInfo(
                path=path,
                sample_rate_hz=min(max(audio.codec_context.sample_rate or 48_000, _RATES_HZ[0]), _RATES_HZ[1]),
                channels=2 if audio.codec_context.channels > 1 else 1,
                start_s=max(0.0, own_start_s - start / av.time_base) if own_start_s is not None else 0.0,
                duration_s=container.duration / av.time_base if container.duration else None,
                video_codec=pictures[0].codec_context.name if pictures else None,
            )
    except (OSError, av.error.FFmpegError) as error:
        raise MediaUnreadable(f"Can't read {path}: {_reason(error)}") from None


def read(info: MediaInfo) -> Iterator[Pcm]:
    """The file's sound in blocks, at `sample_rate_hz` and `channels`.

    Raises:
        MediaUnreadable: the file breaks off in a way that can't be decoded.
    """
    layout = "mono" if info.channels == 1 else "stereo"
    resampler = av.AudioResampler(format="s16", layout=layout, rate=info.sample_rate_hz)
    try:
        with av.open(info.path, "r") as container:
            for frame in container.decode(audio=0):
                frame.pts = None
                for out in resampler.resample(frame):
                    yield samples_of(out, info.channels)
            for out in resampler.resample(None):
                yield samples_of(out, info.channels)
    except (OSError, av.error.FFmpegError) as error:
        raise MediaUnreadable(f"Can't decode {info.path}: {_reason(error)}") from None


def pieces(info: MediaInfo, chunk_ms: int) -> Iterator[Piece]:
    """The file's sound cut at pauses, about `chunk_ms` each."""
    start = 0
    for pcm in split(read(info), info.sample_rate_hz, Lengths.around(chunk_ms)):
        yield Piece(
            pcm=pcm,
            start_samples=start,
            start_ms=round((info.start_s + start / info.sample_rate_hz) * 1000),
            duration_ms=round(len(pcm) / info.sample_rate_hz * 1000),
        )
        start += len(pcm)


def samples_of(frame: av.AudioFrame, channels: int) -> Pcm:
    """The samples of a packed s16 frame."""
    return frame.to_ndarray().reshape(-1, channels).astype(np.int16, copy=False)


def _reason(error: OSError | av.error.FFmpegError) -> str:
    return (error.strerror or str(error)).lower()
