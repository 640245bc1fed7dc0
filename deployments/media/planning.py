"""What of an input an output can take, found out by writing the first seconds of it: no table knows as well."""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deployments.media import ffmpeg
from deployments.media.targets import TARGETS, OutputRefused, Plan
from deployments.media.tracks import MediaInfo, Track, open_media
from deployments.media.writer import Contents, DubbedTrack, run

_TRIAL_S = 5
_TRIAL_TIMEOUT_S = 120
_KINDS = {"audio": "sound", "video": "picture", "subtitle": "subtitles", "attachment": "attachment", "data": "data"}


@dataclass(frozen=True, slots=True)
class _Arrived:
    """What of a file's first seconds is in another, beside tracks."""

    chapters: bool
    tags: frozenset[str]


def check_target(path: Path, info: MediaInfo, *, keep_original: bool = False) -> Plan:
    """Find out before any work is done whether `path` can take the result, and what of the input it can't.

    Raises:
        OutputRefused: unknown extension, missing folder, or a container that does not take this picture.
    """
    if path.suffix.lower() not in TARGETS:
        raise OutputRefused(f"Can't write {path.suffix or 'a file without extension'}: use one of {', '.join(TARGETS)}")
    if not path.parent.is_dir():
        raise OutputRefused(f"There is no folder {path.parent}: create it or name another output with -o")
    if path.resolve() == info.path.resolve():
        raise OutputRefused(f"{path} is the input itself: name another output with -o")
    bare = Plan(path, info)
    all_of_it = _with_everything(bare, keep_original)
    arrived = _tried(all_of_it)
    if isinstance(arrived, _Arrived):
        return _noting_losses(all_of_it, arrived)
    if isinstance(why := _tried(bare), str):
        raise OutputRefused(f"Can't write {path}: {why}")
    plan = _with_picture(bare)
    for track in all_of_it.kept:
        if track not in plan.kept:
            plan = _with_one(plan, track)
    return _noting_losses(plan, _tried(plan))


def _with_everything(plan: Plan, keep_original: bool) -> Plan:
    """All that is wanted of the input, as it is."""
    picture = plan.info.picture if plan.target.video else None
    others = [track for track in plan.info.tracks if track != picture and _wanted(track, plan, keep_original)]
    return (_adding_picture(plan, picture) if picture is not None else plan).adding(*others)


def _adding_picture(plan: Plan, picture: Track) -> Plan:
    if plan.info.counted_pictures:
        return plan.adding(picture, converted=True).noting(
            "the picture is encoded anew, since AVI does not tell when its pictures are shown"
        )
    return plan.adding(picture)


def _with_picture(plan: Plan) -> Plan:
    """The plan with the picture, if there is one.

    Raises:
        OutputRefused: the container does not take it; says which one does.
    """
    picture = plan.info.picture if plan.target.video else None
    if picture is None:
        return plan
    with_it = _adding_picture(plan, picture)
    why = _tried(with_it)
    if isinstance(why, _Arrived):
        return with_it
    for suffix in (".mkv", ".mov"):
        other = plan.path.with_suffix(suffix)
        if isinstance(_tried(Plan(other, plan.info, (picture,))), _Arrived):
            raise OutputRefused(
                f"{plan.path.suffix} does not take {picture.codec or 'this'} video: use -o {other.name}"
            )
    raise OutputRefused(
        f"{picture.codec or 'this'} video can't be copied ({why}): "
        f"use -o {plan.path.with_suffix('.m4a').name} for the sound alone"
    )


def _wanted(track: Track, plan: Plan, keep_original: bool) -> bool:
    if track.kind == "audio":
        return keep_original if track == plan.info.sound else plan.target.video
    return track.cover or (plan.target.video and track.kind != "data")


def _with_one(plan: Plan, track: Track) -> Plan:
    """The plan with a track, as it is or in another form, or with a note that it is left out."""
    ways = [plan.adding(track)]
    if track.kind == "subtitle" and plan.target.subtitles is not None:
        ways.append(plan.adding(track, converted=True))
    left_out = plan.noting(f"{plan.path.suffix} does not take the {_called(track)}: it is left out")
    return next((way for way in ways if isinstance(_tried(way), _Arrived)), left_out)


def _tried(plan: Plan) -> _Arrived | str:
    """What arrives of the file's first seconds, with silence for the dub; or why FFmpeg doesn't write them."""
    layout = "mono" if plan.info.channels == 1 else "stereo"
    silence = DubbedTrack("und", ("-f", "lavfi", "-t", "1", "-i", f"anullsrc=r={plan.info.sample_rate_hz}:cl={layout}"))
    with tempfile.TemporaryDirectory(prefix="livedub-") as folder:
        out = Path(folder) / "trial"
        try:
            run(plan, Contents([silence]), out, _TRIAL_S, _TRIAL_TIMEOUT_S)
        except ffmpeg.FFmpegFailed as error:
            return str(error)
        return _described(out)


def _described(path: Path) -> _Arrived:
    """What a file has within its first seconds beside its tracks."""
    with open_media(path) as container:
        starts = [chapter["start"] * (chapter["time_base"] or 0) for chapter in container.chapters()]
        return _Arrived(any(start < _TRIAL_S for start in starts), frozenset(map(str.lower, container.metadata)))


def _noting_losses(plan: Plan, arrived: _Arrived | str) -> Plan:
    """The plan with notes on what is no track, and on tracks that were never asked for."""
    if isinstance(arrived, str):
        raise OutputRefused(f"Can't write {plan.path}: {arrived}")
    there = _described(plan.info.path)
    if there.chapters and not arrived.chapters:
        plan = plan.noting(f"{plan.path.suffix} does not take chapters: they are left out")
    for tag in sorted({"title", "artist", "album"} & (there.tags - arrived.tags)):
        plan = plan.noting(f"{plan.path.suffix} does not take the {tag}: it is left out")
    left_out = set(plan.info.tracks) - set(plan.kept) - {plan.info.sound}
    kinds = {"data"} if plan.target.video else {"data", "audio", "subtitle"}
    return plan.noting(*_listed(plan, (track for track in left_out if track.kind in kinds and track.codec)))


def _listed(plan: Plan, tracks: Iterable[Track]) -> list[str]:
    return [
        f"{plan.path.suffix} does not take the {_called(track)}: it is left out"
        for track in sorted(tracks, key=lambda track: track.index)
    ]


def _called(track: Track) -> str:
    return f"{'cover' if track.cover else _KINDS.get(track.kind, track.kind)} of track {track.index + 1} ({track})"
