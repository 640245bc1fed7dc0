"""Dubs a file: reads, sends, lays the dubs down, writes the results. Says nothing on the terminal."""

import asyncio
import tempfile
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from client.dub_client import DubClient
from client.fragment import Failure, Fragment, FragmentResult
from client.media import MediaInfo, Piece, pieces
from client.output import finished, write
from client.report import Summary, Tally
from client.subtitles import Cue, source_cues, target_cues, to_srt, to_vtt
from client.timeline import DubUnreadable, Fill, Timeline

DUB_UNREADABLE = "DUB_UNREADABLE"
"""The client's own code: a dub came and is missing or no audio."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """The files of one run."""

    media: Path
    source_srt: Path
    source_vtt: Path
    target_srt: Path
    target_vtt: Path

    @classmethod
    def beside(cls, media: Path, source_language: str, target_language: str) -> "Outputs":
        """Subtitles next to the dub, named after the languages: talk.es.mp4 gets talk.en.srt and talk.es.srt."""
        stem = media.stem.removesuffix(f".{target_language}")
        # Dubbing into the same language would give both the same name.
        source = source_language if source_language != target_language else f"{source_language}.source"
        srt_vtt = [media.with_name(f"{stem}.{name}.{kind}") for name in (source, target_language)
                   for kind in ("srt", "vtt")]  # fmt: skip
        return cls(media, *srt_vtt)

    def paths(self) -> list[Path]:
        """All of them."""
        return [self.media, self.source_srt, self.source_vtt, self.target_srt, self.target_vtt]


@dataclass(frozen=True, slots=True)
class Job:
    """What to do with a file."""

    info: MediaInfo
    outputs: Outputs
    chunk_ms: int
    realtime: bool
    """Send each fragment when a live source would have it: at the time at which it ends."""
    fill: Fill


Progress = Callable[[FragmentResult, Piece], None]


async def dub_file(client: DubClient, job: Job, on_result: Progress) -> Summary:
    """Dub a file over an open client. Nothing is written under its final name unless all went through.

    Raises:
        DubError: the stream failed.
        MediaUnreadable: the input breaks off.
        OSError: an output can't be written.
    """
    info = job.info
    started_s = time.monotonic()
    tally = Tally()
    source: list[Cue] = []
    target: list[Cue] = []
    sent: deque[Piece] = deque()
    with tempfile.TemporaryDirectory(prefix="livedub-") as scratch:
        timeline = Timeline(Path(scratch) / "dub.pcm", info.sample_rate_hz, info.channels, job.fill)

        async def send() -> None:
            upcoming = pieces(info, job.chunk_ms)
            while (piece := await asyncio.to_thread(_next, upcoming)) is not None:
                if job.realtime:
                    await asyncio.sleep(started_s + (piece.start_ms + piece.duration_ms) / 1000 - time.monotonic())
                sent.append(piece)
                await client.send(_fragment(piece, info))
            await client.end()

        async def receive() -> None:
            async for result in client.results():
                piece = sent.popleft()
                placed = await asyncio.to_thread(_place, timeline, piece, result)
                tally.add(placed, piece.duration_ms)
                source.extend(source_cues(placed, piece.start_ms, piece.duration_ms))
                target.extend(target_cues(placed, piece.start_ms, piece.duration_ms))
                on_result(placed, piece)

        try:
            await _both(send(), receive())
        finally:
            timeline.close()
        wall_s = time.monotonic() - started_s
        await asyncio.to_thread(_write_all, job, timeline, source, target)
    files = [str(path) for path in job.outputs.paths()]
    return tally.summary(wall_s, client.reconnects, job.fill, files)


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


def _place(timeline: Timeline, piece: Piece, result: FragmentResult) -> FragmentResult:
    """Lay a result down; a dub that is missing or can't be decoded makes it a failed one."""
    dub = result.processed.dubbed_audio if result.processed is not None and result.failure is None else None
    reason = "the result has no audio"
    if dub is not None:
        try:
            timeline.add(piece.pcm, dub)
        except DubUnreadable as error:
            reason = str(error)
        else:
            return result
    timeline.add(piece.pcm, None)
    if result.failure is not None:
        return result
    return replace(result, status="failed", failure=Failure(DUB_UNREADABLE, reason, retryable=False))


def _write_all(job: Job, timeline: Timeline, source: list[Cue], target: list[Cue]) -> None:
    outputs = job.outputs
    write(outputs.media, timeline, job.info)
    for path, text in (
        (outputs.source_srt, to_srt(source)),
        (outputs.source_vtt, to_vtt(source)),
        (outputs.target_srt, to_srt(target)),
        (outputs.target_vtt, to_vtt(target)),
    ):
        with finished(path) as part:
            part.write_text(text, encoding="utf-8", newline="\n")
