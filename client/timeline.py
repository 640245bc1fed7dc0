"""Lays dubs end to end on the original's timeline: each fragment's sound fills exactly its own place."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import av
import av.filter
import numpy as np

from client.media import samples_of
from client.pauses import Pcm
from serve_app.protocol import DubbedAudio

Fill = Literal["original", "silence"]

_TRIM_MS = 30
"""A dub that is longer by no more than this loses its end; a longer one is sped up."""


class DubUnreadable(Exception):
    """Dubbed audio that came from the server can't be decoded."""


class Timeline:
    """Sound in a scratch file, int16, growing a fragment at a time.

    Args:
        scratch: path of the scratch file.
        sample_rate_hz: of everything in it.
        channels: of everything in it.
        fill: what stands where there is no dub.
    """

    def __init__(self, scratch: Path, sample_rate_hz: int, channels: int, fill: Fill) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.channels = channels
        self.n_filled = 0
        """Fragments that have no dub."""
        self._fill = fill
        self._path = scratch
        self._file: BinaryIO = scratch.open("wb")

    def add(self, original: Pcm, dub: DubbedAudio | None) -> None:
        """Put a dub where the original was; without a dub, what `fill` says.

        Raises:
            DubUnreadable: the dub is no audio of the format it claims.
        """
        if dub is not None:
            sound = fit(decode(dub, self.sample_rate_hz, self.channels), len(original), self.sample_rate_hz)
        else:
            self.n_filled += 1
            sound = original if self._fill == "original" else np.zeros_like(original)
        self._file.write(np.ascontiguousarray(sound, "<i2").tobytes())

    def close(self) -> None:
        """No more is added; `blocks` may be read."""
        self._file.close()

    def blocks(self, n_samples: int = 16_384) -> Iterator[Pcm]:
        """What was laid down, in blocks."""
        with self._path.open("rb") as file:
            while data := file.read(n_samples * self.channels * 2):
                yield np.frombuffer(data, "<i2").reshape(-1, self.channels)


def decode(dub: DubbedAudio, sample_rate_hz: int, channels: int) -> Pcm:
    """The dub as int16 at the wanted rate and channels.

    Raises:
        DubUnreadable: it is no audio of the format it claims.
    """
    layout = "mono" if channels == 1 else "stereo"
    resampler = av.AudioResampler(format="s16", layout=layout, rate=sample_rate_hz)
    blocks = [np.zeros((0, channels), np.int16)]
    try:
        for frame in [*_frames(dub), None]:
            if frame is not None:
                frame.pts = None
            blocks += [samples_of(out, channels) for out in resampler.resample(frame)]
    except (av.error.FFmpegError, ValueError) as error:
        raise DubUnreadable(f"The dub is no readable {dub.format}: {error}") from None
    return np.concatenate(blocks)


def fit(sound: Pcm, n_samples: int, sample_rate_hz: int) -> Pcm:
    """Exactly `n_samples`: silence after what is too short, more speed for what is too long."""
    if len(sound) - n_samples > sample_rate_hz * _TRIM_MS // 1000 and n_samples:
        sound = _speed_up(sound, len(sound) / n_samples, sample_rate_hz)
    if len(sound) >= n_samples:
        return sound[:n_samples]
    return np.concatenate([sound, np.zeros((n_samples - len(sound), sound.shape[1]), np.int16)])


def _frames(dub: DubbedAudio) -> Iterator[av.AudioFrame]:
    if dub.format in {"pcm_s16le", "pcm_f32le"}:
        dtype, name = ("<i2", "s16") if dub.format == "pcm_s16le" else ("<f4", "flt")
        samples = np.frombuffer(dub.data, dtype).reshape(1, -1)
        if samples.size:
            frame = av.AudioFrame.from_ndarray(samples, name, "mono" if dub.channels == 1 else "stereo")
            frame.sample_rate = dub.sample_rate_hz
            yield frame
        return
    with av.open(io.BytesIO(dub.data), "r") as container:
        yield from container.decode(audio=0)


def _speed_up(sound: Pcm, ratio: float, sample_rate_hz: int) -> Pcm:
    """Shorter by `ratio` at the same pitch (FFmpeg's atempo)."""
    channels = sound.shape[1]
    layout = "mono" if channels == 1 else "stereo"
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound).reshape(1, -1), "s16", layout)
    frame.sample_rate = sample_rate_hz
    frame.pts = 0
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=sample_rate_hz, format="s16", layout=layout)
    tempo = graph.add("atempo", f"{min(ratio, 100.0):.6f}")
    sink = graph.add("abuffersink")
    graph.link_nodes(source, tempo, sink).configure()
    graph.push(frame)
    graph.push(None)
    blocks = [np.zeros((0, channels), np.int16)]
    while True:
        try:
            out = graph.pull()
        except (av.error.EOFError, av.error.BlockingIOError):
            return np.concatenate(blocks)
        if isinstance(out, av.AudioFrame):
            blocks.append(samples_of(out, channels))
