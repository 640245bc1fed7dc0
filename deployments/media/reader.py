"""Reads the sound of any audio or video file, in a stream, as it lies in time. Never holds the whole file.

Frames stand where their times say and are not put end to end: a hole stays a hole and a late start stays late, both
filled with silence, so sound, picture and cues share one timeline that begins where the file does.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import av
import numpy as np

from deployments.media.pauses import Lengths, Pcm, split
from deployments.media.tracks import MediaInfo, MediaUnreadable, open_media, reason

_BLOCK_SAMPLES = 48_000
_HOLE_S = 0.02
"""A frame that is later than this leaves a hole; less is a container's rounding."""
_JUMP_S = 10.0
"""A clock that goes so far at once has jumped, where it may: nothing is missing."""
_RESTART_S = 1.0
"""A clock that goes back so far has begun anew, in any file: its sound is what comes next."""
_MAX_FAILED_READS = 100
"""In a row, before a file counts as over."""


@dataclass(slots=True)
class Damage:
    """What of a file could not be read."""

    packets: Counter[str] = field(default_factory=Counter)
    """Packets that were passed over, by FFmpeg's reason; their time is kept, as silence."""

    def __str__(self) -> str:
        return ", ".join(f"{count} × {why}" for why, count in self.packets.most_common())


@dataclass(frozen=True, slots=True)
class Piece:
    """Audio between two cuts."""

    pcm: Pcm
    start_samples: int
    """From the start of the file."""
    start_ms: int
    """From the start of the file."""
    duration_ms: int


def read(info: MediaInfo, damage: Damage | None = None) -> Iterator[Pcm]:
    """The file's sound from the file's start in blocks, at `sample_rate_hz` and `channels`.

    What can't be decoded is passed over with its time kept, and noted in `damage`.

    Raises:
        MediaUnreadable: nothing in it can be decoded, or the file can't be opened any more.
    """
    try:
        with open_media(info.path) as container:
            yield from sound_of(container, info, damage)
    except (OSError, av.error.FFmpegError) as error:
        raise MediaUnreadable(f"Can't decode {info.path}: {reason(error)}") from None


def sound_of(container: "av.container.InputContainer", info: MediaInfo, damage: Damage | None = None) -> Iterator[Pcm]:
    """The sound of an open file that `info` describes; as `read`, which opens it.

    Raises:
        MediaUnreadable: nothing in it can be decoded.
    """
    damage = damage if damage is not None else Damage()
    laid = _Laid(info)
    heard = False
    for frame in _frames(container, cast("av.AudioStream", container.streams[info.sound.index]), damage):
        heard = True
        yield from laid.add(frame)
    yield from laid.rest()
    if not heard:
        why = f" ({damage})" if damage.packets else ""
        raise MediaUnreadable(f"{info.path} has no sound: nothing in it can be decoded{why}")


def pieces(info: MediaInfo, chunk_ms: int, damage: Damage | None = None) -> Iterator[Piece]:
    """The file's sound cut at pauses, about `chunk_ms` each: the same pieces each time that it is read."""
    start = 0
    for pcm in split(read(info, damage), info.sample_rate_hz, Lengths.around(chunk_ms)):
        yield Piece(
            pcm=pcm,
            start_samples=start,
            start_ms=round(start / info.sample_rate_hz * 1000),
            duration_ms=round(len(pcm) / info.sample_rate_hz * 1000),
        )
        start += len(pcm)


def samples_of(frame: av.AudioFrame, channels: int) -> Pcm:
    """The samples of a packed s16 frame."""
    return frame.to_ndarray().reshape(-1, channels).astype(np.int16, copy=False)


def _frames(
    container: "av.container.InputContainer", stream: "av.AudioStream", damage: Damage
) -> Iterator[av.AudioFrame]:
    """All frames that can be decoded."""
    packets = container.demux(stream)
    failed = 0
    while failed < _MAX_FAILED_READS:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError as error:
            damage.packets[reason(error)] += 1
            failed += 1
            packets = container.demux(stream)
            continue
        if packet is None:
            return
        failed = 0
        try:
            yield from packet.decode()
        except av.error.FFmpegError as error:
            damage.packets[reason(error)] += 1


class _Laid:
    """Frames laid on the file's timeline, resampled: never before the end of the one before, so none is lost."""

    def __init__(self, info: MediaInfo) -> None:
        self._info = info
        self._heard_s = 0.0
        """The end of what was laid, on the file's timeline."""
        self._n_samples = 0
        """That were given out."""
        self._offset_s = -info.start_s
        """From the sound's own clock to the timeline."""
        self._shape: tuple[str, str, int] | None = None
        self._resampler: av.AudioResampler | None = None

    def add(self, frame: av.AudioFrame) -> Iterator[Pcm]:
        """The next frame, with the silence before it."""
        if frame.time is not None and not self._info.counted_sound:
            gap_s = frame.time + self._offset_s - self._heard_s
            if gap_s < -_RESTART_S or (self._info.times_break and gap_s > _JUMP_S):
                self._offset_s -= gap_s
            elif gap_s > _HOLE_S:
                yield from self._silence(gap_s)
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:
            yield from self._drain()
            self._shape = shape
        if self._resampler is None:
            layout = "mono" if self._info.channels == 1 else "stereo"
            self._resampler = av.AudioResampler(format="s16", layout=layout, rate=self._info.sample_rate_hz)
        frame.pts = None
        self._heard_s += frame.samples / frame.sample_rate
        yield from map(self._counted, self._resampler.resample(frame))

    def rest(self) -> Iterator[Pcm]:
        """What the resampler still holds."""
        yield from self._drain()

    def _silence(self, seconds: float) -> Iterator[Pcm]:
        yield from self._drain()
        self._heard_s += seconds
        missing = round(self._heard_s * self._info.sample_rate_hz) - self._n_samples
        while missing > 0:
            n_samples = min(missing, _BLOCK_SAMPLES)
            missing -= n_samples
            self._n_samples += n_samples
            yield np.zeros((n_samples, self._info.channels), np.int16)

    def _drain(self) -> Iterator[Pcm]:
        """What the resampler holds; the next frame gets another one."""
        if self._resampler is not None:
            yield from map(self._counted, self._resampler.resample(None))
        self._resampler = None

    def _counted(self, out: av.AudioFrame) -> Pcm:
        block = samples_of(out, self._info.channels)
        self._n_samples += len(block)
        return block
