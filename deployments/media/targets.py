"""What can be written, and what of an input goes into an output. Values only."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from deployments.media.tracks import MediaInfo, Track


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of file."""

    container: str
    """FFmpeg's name."""
    codec: str
    """Of the dub."""
    video: bool = False
    """Holds pictures and more than one sound."""
    subtitles: str | None = None
    """What text subtitles become that it does not take as they are; None: it takes none."""


TARGETS = {
    ".wav": Target("wav", "pcm_s16le"),
    ".m4a": Target("ipod", "aac"),
    ".mp3": Target("mp3", "libmp3lame"),
    ".flac": Target("flac", "flac"),
    ".ogg": Target("ogg", "libopus"),
    ".opus": Target("opus", "libopus"),
    ".mp4": Target("mp4", "aac", video=True, subtitles="mov_text"),
    ".m4v": Target("mp4", "aac", video=True, subtitles="mov_text"),
    ".mov": Target("mov", "aac", video=True, subtitles="mov_text"),
    ".mkv": Target("matroska", "aac", video=True, subtitles="srt"),
    ".webm": Target("webm", "libopus", video=True, subtitles="webvtt"),
}
"""What can be written, by the file's extension."""


class OutputRefused(Exception):
    """The file can't be written like that: says why and what to do."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What of an input goes into an output."""

    path: Path
    """Of the output."""
    info: MediaInfo
    kept: tuple[Track, ...] = ()
    """Copied as they are, or subtitles in another form."""
    converted: frozenset[int] = frozenset()
    """Indexes of those of them that take another form."""
    notes: tuple[str, ...] = ()
    """What is not kept, or not as it was: one sentence each."""

    @property
    def target(self) -> Target:
        """The container and its codecs."""
        return TARGETS[self.path.suffix.lower()]

    def adding(self, *tracks: Track, converted: bool = False) -> Self:
        """The same with more tracks."""
        indexes = frozenset(track.index for track in tracks) if converted else frozenset()
        return replace(self, kept=(*self.kept, *tracks), converted=self.converted | indexes)

    def noting(self, *notes: str) -> Self:
        """The same with more notes."""
        return replace(self, notes=(*self.notes, *notes))
