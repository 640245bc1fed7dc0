"""What a media file holds: its tracks, and which sound is meant."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import av
import langcodes

from deployments.media.ffmpeg import PROTOCOLS, url

_TIMES_BREAK = 512
"""AVFMT_TS_DISCONT of FFmpeg's formats; PyAV gives a format's flags as a number."""
_WITHOUT_TIMES = frozenset({
    *("aac", "ac3", "adx", "aiff", "amr", "amrnb", "amrwb", "ape", "au", "dts", "dtshd", "eac3", "flac", "gsm", "loas"),
    *("mlp", "mp3", "mpc", "mpc8", "rso", "sox", "tak", "truehd", "tta", "voc", "w64", "wav", "wv"),
})  # fmt: skip
"""Formats of bare sound, whose times FFmpeg makes up of sizes or of the first frame's length."""
_RATES_HZ = (16_000, 48_000)
"""Lowest and highest rate that is sent."""
_UNDETERMINED = "und"


class MediaUnreadable(Exception):
    """The file can't be used: says which one and why."""


@dataclass(frozen=True, slots=True)
class Track:
    """A track as the file describes it."""

    index: int
    """Among all tracks, from 0: what FFmpeg calls a stream's index."""
    kind: str
    """`video`, `audio`, `subtitle`, `data` or `attachment`."""
    codec: str | None
    """None: no decoder knows it."""
    language: str | None = None
    """As the file says it, mostly in ISO 639-2; None: it doesn't."""
    title: str = ""
    default: bool = False
    cover: bool = False
    """A picture that doesn't move, such as the cover of an album."""
    layout: str = ""
    """Of sound: mono, stereo, 5.1 …"""
    start_s: float = 0.0
    """Where it begins on the file's own clock."""

    def __str__(self) -> str:
        parts = [self.language or "language not told", self.codec or "unknown coding", self.layout]
        return ", ".join([f'"{self.title}"', *filter(None, parts)] if self.title else filter(None, parts))


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What is in a file, and the sound that was chosen."""

    path: Path
    tracks: tuple[Track, ...]
    sound: Track
    """What is dubbed."""
    sample_rate_hz: int
    """The rate to work in: the sound's own, within 16–48 kHz."""
    channels: Literal[1, 2]
    start_s: float
    """Where the file begins on its own clock: the earliest of its tracks; everything else counts from here."""
    duration_s: float | None
    """None: the file doesn't tell."""
    times_break: bool
    """A format whose clock may jump, such as MPEG-TS, which recorders cut without setting it anew."""
    counted_sound: bool
    """A format that has no times: sound follows sound."""
    counted_pictures: bool = False
    """Pictures have no times and are not stored in the order in which they are shown, as B-frames in AVI."""

    def of(self, kind: str) -> list[Track]:
        """The tracks of a kind, in the file's order."""
        return [track for track in self.tracks if track.kind == kind]

    @property
    def picture(self) -> Track | None:
        """The first picture that moves; None: there is none."""
        return next((track for track in self.of("video") if not track.cover), None)

    def sound_told(self) -> str:
        """Which sound is dubbed, and by which numbers others are chosen; empty where there is no choice."""
        sounds = self.of("audio")
        if len(sounds) == 1:
            return ""
        others = "; ".join(f"{number}: {track}" for number, track in enumerate(sounds, 1) if track != self.sound)
        return f"dubs sound {sounds.index(self.sound) + 1} ({self.sound}); choose another with --audio-track ({others})"


def open_media(path: Path) -> "av.container.InputContainer":
    """Open a file for reading, by its path alone: no network, whatever is in it or in its name."""
    return av.open(url(path), "r", options={"protocol_whitelist": PROTOCOLS}, metadata_errors="replace")


def probe(path: Path, audio_track: str | None = None) -> MediaInfo:
    """Look at a file.

    Args:
        path: of the file.
        audio_track: which sound is meant: its number among the file's sounds, from 1, or its language; by default the
            one that the file marks as its default, else the first.

    Raises:
        MediaUnreadable: no such file, no media file, no sound in it, or not the one that is meant.
    """
    try:
        _refuse_rifx(path)
        with open_media(path) as container:
            return described(container, path, audio_track)
    except (OSError, av.error.FFmpegError) as error:
        raise MediaUnreadable(f"Can't read {path}: {reason(error)}") from None


def described(container: "av.container.InputContainer", path: Path, audio_track: str | None = None) -> MediaInfo:
    """What an open file holds; as `probe`, which opens it by its path."""
    tracks = tuple(_track(stream) for stream in container.streams)
    sound = _chosen([track for track in tracks if track.kind == "audio"], audio_track, path)
    context = cast("av.AudioStream", container.streams[sound.index]).codec_context
    videos = [stream for stream in container.streams.video if not tracks[stream.index].cover]
    return MediaInfo(
        path=path,
        tracks=tracks,
        sound=sound,
        sample_rate_hz=min(max(context.sample_rate or _RATES_HZ[1], _RATES_HZ[0]), _RATES_HZ[1]),
        channels=2 if context.channels > 1 else 1,
        start_s=(container.start_time or 0) / av.time_base,
        duration_s=container.duration / av.time_base if container.duration else None,
        times_break=bool(container.format.flags & _TIMES_BREAK),
        counted_sound=container.format.name in _WITHOUT_TIMES,
        counted_pictures=container.format.name == "avi"
        and any(stream.codec_context is not None and stream.codec_context.has_b_frames for stream in videos),
    )


def _refuse_rifx(path: Path) -> None:
    """FFmpeg takes a WAV file of big-endian samples for one of little-endian ones, which is noise."""
    with path.open("rb") as file:
        if file.read(4) == b"RIFX":
            raise MediaUnreadable(f"Can't read {path}: a WAV file of big-endian samples; convert it to WAV or FLAC")


def reason(error: OSError | av.error.FFmpegError) -> str:
    """What went wrong, in FFmpeg's or the system's words."""
    return (error.strerror or str(error)).lower()


def _track(stream: Any) -> Track:
    context = stream.codec_context
    language = stream.metadata.get("language")
    return Track(
        index=stream.index,
        kind=stream.type,
        codec=context.codec.canonical_name if context is not None else None,
        language=language if language and language != _UNDETERMINED else None,
        title=stream.metadata.get("title", ""),
        default=bool(stream.disposition & av.stream.Disposition.default),
        cover=bool(stream.disposition & av.stream.Disposition.attached_pic),
        layout=context.layout.name if stream.type == "audio" and context is not None else "",
        start_s=float(stream.start_time * stream.time_base) if stream.start_time and stream.time_base else 0.0,
    )


def _chosen(sounds: Sequence[Track], wanted: str | None, path: Path) -> Track:
    if not sounds:
        raise MediaUnreadable(f"{path} has no sound: a file with an audio stream is needed")
    listed = "; ".join(f"{number}: {track}" for number, track in enumerate(sounds, 1))
    if wanted is None:
        chosen = next((track for track in sounds if track.default), sounds[0])
    elif wanted.isdecimal():
        if not 1 <= int(wanted) <= len(sounds):
            raise MediaUnreadable(f"{path} has no sound {wanted}: its sounds are {listed}")
        chosen = sounds[int(wanted) - 1]
    else:
        of_language = [track for track in sounds if track.language and _alpha3(track.language) == _alpha3(wanted)]
        if not of_language:
            raise MediaUnreadable(f"{path} has no sound in {wanted}: its sounds are {listed}")
        chosen = of_language[0]
    if chosen.codec is None:
        raise MediaUnreadable(f"{path}: the sound's coding is unknown; its sounds are {listed}")
    return chosen


def iso_639_2(language: str) -> str:
    """A language tag's three letters as containers want them: `spa` for es-MX; `und` where there are none."""
    return _alpha3(language) or _UNDETERMINED


def _alpha3(language: str) -> str:
    try:
        return langcodes.Language.get(language).to_alpha3()
    except (LookupError, ValueError):
        return ""
