"""Dubs a file: reads, sends, lays the dubs down, writes the results. Says nothing on the terminal."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from deployments.contracts.values import AudioFormat, EncodedAudio
from deployments.media.captions import FASTEST_READING_SPEED, Cue, TimedWord, in_order, layout, reading_speed
from deployments.media.reader import Damage, Piece, pieces
from deployments.media.subtitles import CAPTION_FORMATS, to_srt
from deployments.media.targets import Plan
from deployments.media.timeline import DubUnreadable, Fill, Timeline
from deployments.media.tracks import MediaInfo
from deployments.media.writer import Captions, Contents, DubbedTrack, finished, sound_of, write
from livedub.checkpoint import Checkpoint, Track
from livedub.cues import source_words, target_words
from livedub.dub_client import DubClient
from livedub.fragment import Failure, Fragment, FragmentResult
from livedub.outputs import Outputs
from livedub.report import Summary, Tally

_SYNTHETIC = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC's name for what is partly made by a model that was trained."""
NOBODY = "none"
"""The protocol's model of a dub in which nobody speaks."""
DUB_UNREADABLE = "DUB_UNREADABLE"
"""The client's own code: a dub came and is missing or no audio."""


@dataclass(frozen=True, slots=True)
class DubJob:
    """What to do with a file."""

    plan: Plan
    outputs: Outputs
    source_language: str
    """BCP-47, as those to dub into."""
    languages: tuple[str, ...]
    """To dub into."""
    chunk_ms: int
    realtime: bool
    """Send each fragment when a live source would have it: at the time at which it ends."""
    fill: Fill
    embed_captions: bool = False
    """Put subtitles into the file, too."""

    @property
    def info(self) -> MediaInfo:
        """Of the input."""
        return self.plan.info


@dataclass(slots=True)
class Run:
    """What this run did, beside what stands in the checkpoint."""

    began_s: float = field(default_factory=time.monotonic)
    sent_ms: int = 0
    """Audio that was sent."""
    reconnects: int = 0
    damage: Damage = field(default_factory=Damage)
    """Of the input."""


Progress = Callable[[FragmentResult, Piece], None]


def open_tracks(job: DubJob, checkpoint: Checkpoint, stack: ExitStack) -> dict[str, Track]:
    """The work on each language."""
    info = job.info
    return {
        language: stack.enter_context(checkpoint.track(language, info.sample_rate_hz, info.channels, job.fill))
        for language in job.languages
    }


async def dub_track(client: DubClient, job: DubJob, track: Track, run: Run, on_result: Progress) -> None:
    """Dub a file into one language over an open client: what has no result yet is sent.

    Raises:
        DubError: the stream failed.
        MediaUnreadable: the input can't be read.
        OSError: results can't be kept.
    """
    began_s = time.monotonic()
    run.damage = Damage()
    sent: deque[Piece] = deque()

    async def send() -> None:
        upcoming = _missing(job, track, run.damage)
        while (piece := await asyncio.to_thread(_next, upcoming)) is not None:
            if job.realtime:
                await asyncio.sleep(began_s + (piece.start_ms + piece.duration_ms) / 1000 - time.monotonic())
            sent.append(piece)
            await client.send(_fragment(piece, job.info))
        await client.end()

    async def receive() -> None:
        async for result in client.results():
            piece = sent.popleft()
            placed = await asyncio.to_thread(_place, track, piece, result)
            run.sent_ms += piece.duration_ms
            on_result(placed, piece)

    try:
        await _both(send(), receive())
    finally:
        run.reconnects += client.reconnects


def write_outputs(job: DubJob, tracks: dict[str, Track], run: Run) -> Summary:
    """Write all files from what was done, each under its name only when it is whole.

    Raises:
        OutputRefused: FFmpeg could not write the dub.
        OSError: an output can't be written.
    """
    wall_s = time.monotonic() - run.began_s
    tally, cues = _gathered(tracks)
    _write(job, job.outputs, tracks, cues, _tags(tally))
    files = [str(path) for path in job.outputs.paths()]
    too_fast = sum(reading_speed(cue) > FASTEST_READING_SPEED for said in cues.values() for cue in said)
    return tally.summary(wall_s, run.sent_ms, run.reconnects, job.fill, too_fast, files)


def write_partial(job: DubJob, tracks: dict[str, Track]) -> float:
    """Write what is done so far, under names that say so, up to where it reaches.

    Returns:
        Seconds from the file's start that are done in all languages; 0: nothing is, and nothing was written.
    """
    until_s = min(track.sound.duration_s for track in tracks.values())
    if until_s > 0:
        tally, cues = _gathered(tracks)
        _write(job, job.outputs.partial(), tracks, cues, _tags(tally, partial=True), until_s)
    return until_s


def _tags(tally: Tally, *, partial: bool = False) -> dict[str, str]:
    """What the file says of itself: that its voice is synthetic, whose it is, and that it is a part."""
    models = ", ".join(sorted(tally.voice_models))
    said = f"Dubbed with a synthetic voice ({models})" if models else "Dubbed; nobody speaks in it"
    comment = f"{'Partial: the dub was interrupted. ' if partial else ''}{said}. {_SYNTHETIC if models else ''}".strip()
    return {"comment": comment} | ({"synthetic_voice": models, "digital_source_type": _SYNTHETIC} if models else {})


def _gathered(tracks: dict[str, Track]) -> tuple[Tally, dict[str, list[Cue]]]:
    """The numbers of all languages, and subtitles: of the original, and of each language."""
    tally = Tally()
    words: dict[str, list[TimedWord]] = {"": []}
    for number, (language, track) in enumerate(tracks.items()):
        words[language] = []
        for done in track.done():
            tally.add(done.result, done.duration_ms)
            words[language] += target_words(done.result, done.start_ms, done.duration_ms)
            if number == 0:
                words[""] += source_words(done.result, done.start_ms, done.duration_ms)
    return tally, {language: layout(in_order(said)) for language, said in words.items()}


def _write(
    job: DubJob,
    outputs: Outputs,
    tracks: dict[str, Track],
    cues: dict[str, list[Cue]],
    tags: dict[str, str],
    until_s: float | None = None,
) -> None:
    for (language, kind), path in outputs.captions.items():
        _write_text(path, CAPTION_FORMATS[kind](cues[language], language or job.source_language))
    with ExitStack() as stack:
        captions = _embedded(job, outputs, cues, stack) if job.embed_captions else []
        dubs = [DubbedTrack(language, sound_of(track.sound)) for language, track in tracks.items()]
        part = stack.enter_context(finished(outputs.media))
        seconds = until_s or max(track.sound.duration_s for track in tracks.values())
        write(job.plan, Contents(dubs, captions, tags), part, seconds, cut=until_s is not None)


def _embedded(job: DubJob, outputs: Outputs, cues: dict[str, list[Cue]], stack: ExitStack) -> Sequence[Captions]:
    """Subtitles of each language in files that are there while the dub is written."""
    captions = []
    for language in job.languages:
        path = outputs.media.with_name(f".{language}.part.srt")
        stack.callback(path.unlink, missing_ok=True)
        _write_text(path, to_srt(cues[language], language))
        captions.append(Captions(language, path))
    return captions


def _write_text(path: Path, text: str) -> None:
    with finished(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def _missing(job: DubJob, track: Track, damage: Damage) -> Iterator[Piece]:
    return (piece for piece in pieces(job.info, job.chunk_ms, damage) if not track.has(piece))


async def _both(first: Coroutine[None, None, None], second: Coroutine[None, None, None]) -> None:
    """Both at once; when one fails the other is stopped and the failure goes up as itself."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(first)
            group.create_task(second)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _next(upcoming: Iterator[Piece]) -> Piece | None:
    return next(upcoming, None)


def _fragment(piece: Piece, info: MediaInfo) -> Fragment:
    return Fragment(
        audio=piece.pcm.astype("<i2", copy=False).tobytes(),
        format="pcm_s16le",
        sample_rate_hz=info.sample_rate_hz,
        channels=info.channels,
        duration_ms=piece.duration_ms,
        pts_ns=piece.start_ms * 1_000_000,
    )


def _place(track: Track, piece: Piece, result: FragmentResult) -> FragmentResult:
    """Lay a result down and note it; a dub that is missing or can't be decoded makes it a failed one."""
    placed = _placed(track.sound, piece, result)
    track.note(piece, placed)
    return placed


def _placed(sound: Timeline, piece: Piece, result: FragmentResult) -> FragmentResult:
    dub = result.processed.dubbed_audio if result.processed is not None and result.failure is None else None
    reason = "the result has no audio"
    if dub is not None:
        try:
            sound.place(
                piece.start_samples,
                piece.pcm,
                EncodedAudio(dub.data, AudioFormat(dub.format, dub.sample_rate_hz, dub.channels)),
                speaks=result.processed.metadata.tts_model != NOBODY if result.processed else True,
            )
        except DubUnreadable as error:
            reason = str(error)
        else:
            return result
    sound.place(piece.start_samples, piece.pcm, None)
    if result.failure is not None:
        return result
    return replace(result, status="failed", failure=Failure(DUB_UNREADABLE, reason, retryable=False))
