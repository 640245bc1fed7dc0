"""Writes sound files, and video files with another sound: all else of the input is copied as it is, packet by packet.

A file appears under its name only when it is whole.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deployments.media import ffmpeg
from deployments.media.targets import OutputRefused, Plan
from deployments.media.timeline import Timeline
from deployments.media.tracks import MediaInfo, Track, iso_639_2, open_media

_LEAST_TIMEOUT_S, _TIMEOUT_FACTOR = 600, 4
"""A file is written in a fraction of the time that it plays; longer than so many times of it is too long."""
_TITLE = "Synthetic voice"
_ATTACHES_COVERS = "matroska"
_MIME_TYPES = {".jpg": "image/jpeg", ".png": "image/png"}
_LETTERS = {"video": "v", "audio": "a", "subtitle": "s", "attachment": "t"}
"""Of kinds of track, in FFmpeg's options."""


@dataclass(frozen=True, slots=True)
class DubbedTrack:
    """A sound to write."""

    language: str
    """BCP-47."""
    source: tuple[str, ...]
    """FFmpeg's options that read it."""


@dataclass(frozen=True, slots=True)
class Captions:
    """Subtitles to put into the file."""

    language: str
    """BCP-47."""
    srt: Path


@dataclass(frozen=True, slots=True)
class Contents:
    """What of ours goes into a file."""

    dubs: Sequence[DubbedTrack]
    """The first one is what players play."""
    captions: Sequence[Captions] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    """Of the whole file, beside the original's."""


@dataclass(frozen=True, slots=True)
class _Stream:
    """A track of the output."""

    source: str
    """Input and track, as `-map` takes them."""
    kind: str
    """FFmpeg's letter."""
    options: tuple[tuple[str, str], ...] = ()


def sound_of(timeline: Timeline) -> tuple[str, ...]:
    """FFmpeg's options that read a timeline."""
    shape = ("-ar", str(timeline.sample_rate_hz), "-ac", str(timeline.channels))
    return ("-f", "s16le", *shape, "-i", ffmpeg.url(timeline.path))


def write(plan: Plan, contents: Contents, out: Path, seconds: float, *, cut: bool = False) -> None:
    """Write what was planned.

    Args:
        plan: for the file.
        contents: what of ours goes into it.
        out: where to write, under whatever name.
        seconds: that it plays.
        cut: end it there, though the original goes on.

    Raises:
        OutputRefused: FFmpeg could not write it.
    """
    try:
        run(plan, contents, out, seconds if cut else None, max(_LEAST_TIMEOUT_S, _TIMEOUT_FACTOR * seconds))
    except ffmpeg.FFmpegFailed as error:
        raise OutputRefused(f"Can't write {plan.path}: {error}") from None


def run(plan: Plan, contents: Contents, out: Path, until_s: float | None, timeout_s: float) -> None:
    """Have FFmpeg write a file.

    Args:
        plan: for the file.
        contents: what of ours goes into it.
        out: where to write.
        until_s: only so much from the start; None: all.
        timeout_s: after which it is given up.

    Raises:
        FFmpegFailed: it could not.
    """
    with tempfile.TemporaryDirectory(prefix="livedub-") as folder:
        covers = _attached(plan, Path(folder)) if plan.target.container == _ATTACHES_COVERS else []
        ffmpeg.run(_command(plan, contents, covers, out, until_s), timeout_s)


def _attached(plan: Plan, folder: Path) -> list[Path]:
    """Covers as files: Matroska has them attached, and FFmpeg would make pictures that move of them."""
    paths: list[Path] = []
    with open_media(plan.info.path) as container:
        for track in (track for track in plan.kept if track.cover):
            packet = next((one for one in container.demux(container.streams[track.index]) if one.size), None)
            if packet is not None:
                suffix = ".png" if track.codec == "png" else ".jpg"
                paths.append(folder / f"cover{len(paths) or ''}{suffix}")
                paths[-1].write_bytes(bytes(packet))
            container.seek(0)
    return paths


def _command(plan: Plan, contents: Contents, covers: Sequence[Path], out: Path, until_s: float | None) -> list[str]:
    """FFmpeg's arguments. Inputs are the original, the dubs, the captions; the picture comes first, then the dubs."""
    arguments = ["-protocol_whitelist", ffmpeg.PROTOCOLS]
    if not any(track.kind == "video" and track.index in plan.converted for track in plan.kept):
        # MPEG's program streams leave times out that follow from others; no container takes pictures without.
        arguments += ["-fflags", "+genpts"]
    arguments += ["-itsoffset", f"{_late_s(plan):.6f}", "-i", ffmpeg.url(plan.info.path)]
    for dub in contents.dubs:
        arguments += dub.source
    for captions in contents.captions:
        arguments += ["-i", ffmpeg.url(captions.srt)]
    numbers: Counter[str] = Counter()
    for stream in _streams(plan, contents, attached=bool(covers)):
        arguments += ["-map", stream.source]
        for option, value in (("c", "copy"), *stream.options):
            name, _, key = option.partition(" ")
            scope = "metadata:s" if key else name
            arguments += [f"-{scope}:{stream.kind}:{numbers[stream.kind]}", f"{key}={value}" if key else value]
        numbers[stream.kind] += 1
    for number, path in enumerate(covers, numbers["t"]):
        arguments += ["-attach", str(path), f"-metadata:s:t:{number}", f"mimetype={_MIME_TYPES[path.suffix]}"]
    arguments += ["-map_metadata", "0", "-map_chapters", "0"]
    for tag, value in contents.tags.items():
        arguments += ["-metadata", f"{tag}={value}"]
    if until_s is not None:
        arguments += ["-t", f"{until_s:.3f}"]
    return [*arguments, "-f", plan.target.container, ffmpeg.url(out)]


def _streams(plan: Plan, contents: Contents, *, attached: bool) -> Iterator[_Stream]:
    kept = {kind: [track for track in plan.kept if track.kind == kind] for kind in _LETTERS}
    yield from (_copied(plan, track) for track in kept["video"] if not track.cover)
    for number, dub in enumerate(contents.dubs):
        yield _Stream(
            f"{1 + number}:a",
            "a",
            (
                ("c", plan.target.codec),
                ("disposition", "default" if number == 0 else "0"),
                ("metadata language", iso_639_2(dub.language)),
                ("metadata title", _TITLE),
                ("metadata handler_name", _TITLE),
            ),
        )
    yield from (_copied(plan, track, ("disposition", "-default")) for track in kept["audio"])
    yield from (_copied(plan, track) for track in kept["video"] if track.cover and not attached)
    yield from (_copied(plan, track) for track in kept["subtitle"])
    for number, captions in enumerate(contents.captions, 1 + len(contents.dubs)):
        options = ("c", plan.target.subtitles or "copy"), ("metadata language", iso_639_2(captions.language))
        yield _Stream(f"{number}:s", "s", options)
    yield from (_copied(plan, track) for track in kept["attachment"])


def _copied(plan: Plan, track: Track, *options: tuple[str, str]) -> _Stream:
    if track.index in plan.converted:
        forms = {
            "subtitle": (("c", plan.target.subtitles or "copy"),),
            # A decoder tells times that are late by its own delay where the file has none.
            "video": (("c", "libx264"), ("crf", "18"), ("preset", "fast"), ("filter", "setpts=PTS-STARTPTS")),
        }
        options = (*forms[track.kind], *options)
    return _Stream(f"0:{track.index}", _LETTERS[track.kind], options)


def _late_s(plan: Plan) -> float:
    """How much later than the file the copied tracks begin, where FFmpeg takes their beginning for the file's."""
    info: MediaInfo = plan.info
    if not info.times_break or not plan.kept:
        return 0.0
    return min(track.start_s for track in plan.kept) - info.start_s


@contextmanager
def finished(path: Path) -> Iterator[Path]:
    """A path to write to that becomes `path` when all went well, and vanishes when not."""
    part = path.with_name(f".{os.getpid()}.part{path.suffix}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
