"""Writes sound files, and video files with another sound. A file appears under its name only when it is whole."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np

from client.media import MediaInfo
from client.timeline import Timeline


@dataclass(frozen=True, slots=True)
class _Target:
    container: str
    codec: str
    video: bool = False


TARGETS = {
    ".wav": _Target("wav", "pcm_s16le"),
    ".m4a": _Target("ipod", "aac"),
    ".mp3": _Target("mp3", "libmp3lame"),
    ".flac": _Target("flac", "flac"),
    ".ogg": _Target("ogg", "libopus"),
    ".opus": _Target("ogg", "libopus"),
    ".mp4": _Target("mp4", "aac", video=True),
    ".mov": _Target("mov", "aac", video=True),
    ".mkv": _Target("matroska", "aac", video=True),
    ".webm": _Target("webm", "libopus", video=True),
}
"""What can be written, by the file's extension."""


class OutputRefused(Exception):
    """The file can't be written like that: says why and what to do."""


def check_target(path: Path, info: MediaInfo) -> None:
    """Find out before any work is done whether `path` can take the result.

    Raises:
        OutputRefused: unknown extension, missing folder, or a container that can't hold this picture.
    """
    target = TARGETS.get(path.suffix.lower())
    if target is None:
        raise OutputRefused(f"Can't write {path.suffix or 'a file without extension'}: use one of {', '.join(TARGETS)}")
    if not path.parent.is_dir():
        raise OutputRefused(f"There is no folder {path.parent}: create it or name another output with -o")
    if path.resolve() == info.path.resolve():
        raise OutputRefused(f"{path} is the input itself: name another output with -o")
    if target.video and info.video_codec is not None:
        with av.open(os.devnull, "w", format=target.container) as probe:
            if info.video_codec not in probe.supported_codecs:
                raise OutputRefused(f"{path.suffix} can't hold {info.video_codec} video: use .mkv")


def write(path: Path, timeline: Timeline, info: MediaInfo) -> None:
    """Encode the timeline into `path`; with the input's picture, copied, where the extension is of a video."""
    target = TARGETS[path.suffix.lower()]
    with_video = target.video and info.video_codec is not None
    with finished(path) as part, av.open(part, "w", format=target.container) as out:
        audio = cast(
            "av.AudioStream", out.add_stream(target.codec, rate=_rate_hz(target.codec, timeline.sample_rate_hz))
        )
        audio.codec_context.layout = "mono" if timeline.channels == 1 else "stereo"
        sound = _encoded(audio, timeline, info.start_s if with_video else 0.0)
        if not with_video:
            for audio_packet in sound:
                out.mux(audio_packet)
            return
        with av.open(info.path, "r") as source:
            picture = next(s for s in source.streams.video if not s.disposition & av.stream.Disposition.attached_pic)
            copied = out.add_stream_from_template(picture)
            start_s = (source.start_time or 0) / av.time_base
            for packet in source.demux(picture):
                if packet.dts is None or packet.time_base is None:
                    continue
                shift = round(start_s / packet.time_base)
                packet.dts -= shift
                packet.pts = packet.pts - shift if packet.pts is not None else None
                until_s = float(packet.dts * packet.time_base)
                packet.stream = copied
                out.mux(packet)
                # Sound goes in as the picture advances, so that the muxer holds little.
                for audio_packet in sound:
                    out.mux(audio_packet)
                    if audio_packet.pts is not None and float(audio_packet.pts * audio_packet.time_base) > until_s:
                        break
        for audio_packet in sound:
            out.mux(audio_packet)


@contextmanager
def finished(path: Path) -> Iterator[Path]:
    """A path to write to that becomes `path` when all went well, and vanishes when not."""
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _encoded(stream: av.AudioStream, timeline: Timeline, start_s: float) -> Iterator["av.Packet[av.AudioStream]"]:
    """The timeline's packets; PyAV brings the samples into the codec's rate, format and frame size."""
    position = round(start_s * timeline.sample_rate_hz)
    for block in timeline.blocks():
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(block).reshape(1, -1), "s16", "mono" if timeline.channels == 1 else "stereo"
        )
        frame.sample_rate = timeline.sample_rate_hz
        frame.time_base = Fraction(1, timeline.sample_rate_hz)
        frame.pts = position
        position += len(block)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _rate_hz(codec: str, wanted_hz: int) -> int:
    """The lowest rate that the codec knows and that loses nothing, else its highest."""
    known = sorted(av.Codec(codec, "w").audio_rates or [wanted_hz])
    return next((rate for rate in known if rate >= wanted_hz), known[-1])
