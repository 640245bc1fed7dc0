"""Lays dubs end to end on the original's timeline: each fragment's sound fills exactly its own place."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import av
import av.filter
import numpy as np

from deployments.contracts.values import EncodedAudio
from deployments.media.pauses import Pcm
from deployments.media.reader import samples_of

Fill = Literal["original", "silence"]

_LEFT_OVER_MS = 1000
"""The most that a dub runs over the end of its fragment."""
_QUIET = 330.0
"""−40 dB of full scale: a room in which nobody speaks."""
_TRIM_MS = 30
"""A dub that is longer by no more than this loses its end; a longer one is sped up."""


class DubUnreadable(Exception):
    """Dubbed audio that came from the server can't be decoded."""


class Timeline:
    """Sound in a file of bare int16 samples; what is there already is gone on with.

    Args:
        path: of the file.
        sample_rate_hz: of everything in it.
        channels: of everything in it.
        fill: what stands where there is no dub.
    """

    def __init__(self, path: Path, sample_rate_hz: int, channels: int, fill: Fill) -> None:
        self.path = path
        self.sample_rate_hz = sample_rate_hz
        self.channels = channels
        self._fill = fill
        path.touch()
        self._file: BinaryIO = path.open("r+b")

    @property
    def duration_s(self) -> float:
        """To the end of what was placed last in time."""
        return self.path.stat().st_size / (2 * self.channels * self.sample_rate_hz)

    def place(self, start_samples: int, original: Pcm, dub: EncodedAudio | None, *, speaks: bool = True) -> None:
        """Put a dub where the original is, and it is in the file; without a dub, what `fill` says.

        Args:
            start_samples: where.
            original: what is there.
            dub: what comes in its place; None: nothing does.
            speaks: whether somebody speaks in it; else the original is heard, if `fill` says so, under what the
                fragment before may have left over.

        Raises:
            DubUnreadable: the dub is no audio of the format it claims; nothing was placed.
        """
        if dub is not None:
            sound = fit(decode(dub, self.sample_rate_hz, self.channels), len(original), self.sample_rate_hz)
            if not speaks and self._fill == "original" and self._is_silent(sound):
                sound = np.clip(original.astype(np.int32) + sound, -32_768, 32_767).astype(np.int16)
        else:
            sound = original if self._fill == "original" else np.zeros_like(original)
        self._file.seek(start_samples * self.channels * 2)
        self._file.write(np.ascontiguousarray(sound, "<i2").tobytes())
        self._file.flush()

    def _is_silent(self, sound: Pcm) -> bool:
        """Whether nothing but a room is heard behind what the fragment before left over: else it is the original."""
        left_over = _LEFT_OVER_MS * self.sample_rate_hz // 1000
        rest = sound[left_over if len(sound) > left_over else 0 :].astype(np.float64)
        return not rest.size or float(np.sqrt(np.square(rest).mean())) < _QUIET

    def close(self) -> None:
        """No more is placed."""
        self._file.close()

    def blocks(self, n_samples: int = 16_384) -> Iterator[Pcm]:
        """What was laid down, in blocks."""
        with self.path.open("rb") as file:
            while data := file.read(n_samples * self.channels * 2):
                yield np.frombuffer(data, "<i2").reshape(-1, self.channels)


def decode(dub: EncodedAudio, sample_rate_hz: int, channels: int) -> Pcm:
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
        raise DubUnreadable(f"The dub is no readable {dub.format.container}: {error}") from None
    return np.concatenate(blocks)


def fit(sound: Pcm, n_samples: int, sample_rate_hz: int) -> Pcm:
    """Exactly `n_samples`: silence after what is too short, more speed for what is too long."""
    if len(sound) - n_samples > sample_rate_hz * _TRIM_MS // 1000 and n_samples:
        sound = _speed_up(sound, len(sound) / n_samples, sample_rate_hz)
    if len(sound) >= n_samples:
        return sound[:n_samples]
    return np.concatenate([sound, np.zeros((n_samples - len(sound), sound.shape[1]), np.int16)])


def _frames(dub: EncodedAudio) -> Iterator[av.AudioFrame]:
    form = dub.format
    if form.container in {"pcm_s16le", "pcm_f32le"}:
        dtype, name = ("<i2", "s16") if form.container == "pcm_s16le" else ("<f4", "flt")
        samples = np.frombuffer(dub.data, dtype).reshape(1, -1)
        if samples.size:
            frame = av.AudioFrame.from_ndarray(samples, name, "mono" if form.channels == 1 else "stereo")
            frame.sample_rate = form.sample_rate_hz
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
