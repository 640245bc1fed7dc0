"""Files of the commonest kinds, made on the spot, and what livedub makes of them: the rows of docs/files.md."""

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from deployments.media.pauses import Pcm
from deployments.media.planning import check_target
from deployments.media.reader import Damage, read
from deployments.media.targets import TARGETS, OutputRefused, Plan
from deployments.media.timeline import Timeline
from deployments.media.tracks import MediaInfo, probe
from deployments.media.writer import Contents, DubbedTrack, sound_of, write
from livedub.outputs import default_target

SECONDS = 4
PICTURE = f"testsrc2=s=160x120:r=25:d={SECONDS}"
SOUND = f"aevalsrc='0.5*sin(2*PI*(200+400*t)*t)*gt(sin(7*t)\\,0)':s=48000:d={SECONDS}"
QUIET = ("-x265-params", "log-level=none")
FAST_VPX = ("-cpu-used", "8", "-deadline", "realtime")
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25")
B_FRAMES = (*H264, "-bf", "3", "-b_strategy", "0", "-x264-params", "b-pyramid=normal:scenecut=0")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file."""

    name: str
    """For people; the file's extension is its last word."""
    options: tuple[str, ...]
    """FFmpeg's, for picture and sound; without a codec for a picture there is none."""
    out: str | None = None
    """The extension that is asked for; None: none."""

    @property
    def suffix(self) -> str:
        """Of the file."""
        return "." + self.name.split(",")[0].lower()

    def make(self, folder: Path) -> Path:
        """The file."""
        path = folder / f"clip{self.suffix}"
        pictures = ("-f", "lavfi", "-i", PICTURE) if any(o.startswith("-c:v") for o in self.options) else ()
        ffmpeg(*pictures, "-f", "lavfi", "-i", SOUND, *self.options, str(path))
        return path


def ffmpeg(*arguments: str) -> bytes:
    """What FFmpeg prints."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout


def picture_hashes(path: Path) -> list[str]:
    """Of all pictures as they are shown."""
    printed = ffmpeg("-i", str(path), "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framemd5", "-").decode()
    return [line.rsplit(",", 1)[1].strip() for line in printed.splitlines() if line and not line.startswith("#")]


def picture_times_s(path: Path) -> list[float]:
    """When each picture is shown, from the file's start."""
    printed = subprocess.run(
        ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "frame=pts_time", "-of", "csv=p=0", path],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return [float(line.strip(",")) for line in printed.split() if line.strip(",") not in {"", "N/A"}]


def offset_ms(first: Pcm, second: Pcm, rate_hz: int) -> float:
    """How much later the second sound is, by their correlation."""
    a, b = (sound[:, 0].astype(np.float64) for sound in (first, second))
    size = 1 << (len(a) + len(b)).bit_length()
    correlation = np.fft.irfft(np.conj(np.fft.rfft(a, size)) * np.fft.rfft(b, size), size)
    shift = int(np.argmax(correlation))
    return (shift if shift < size // 2 else shift - size) / rate_hz * 1000


def dub_with_itself(source: Path, out: Path, *, keep_original: bool = False) -> tuple[MediaInfo, Plan, Damage]:
    """Write a file's own sound as its dub."""
    info, damage = probe(source), Damage()
    plan = check_target(out, info, keep_original=keep_original)
    sound = Timeline(out.with_suffix(".pcm"), info.sample_rate_hz, info.channels, "original")
    at = 0
    for block in read(info, damage):
        sound.place(at, block, None)
        at += len(block)
    sound.close()
    write(plan, Contents([DubbedTrack("es", sound_of(sound))]), out, sound.duration_s)
    return info, plan, damage


KINDS = [
    Kind("MP4, H.264, AAC", (*H264, "-c:a", "aac")),
    Kind("MP4, H.264 with B-frames, AAC", (*B_FRAMES, "-c:a", "aac")),
    Kind("MP4, HEVC, AAC", ("-c:v", "libx265", "-preset", "ultrafast", *QUIET, "-c:a", "aac")),
    Kind("MP4, AV1, AAC", ("-c:v", "libsvtav1", "-preset", "12", "-svtav1-params", "lp=1", "-c:a", "aac")),
    Kind("MP4, VP9, Opus", ("-c:v", "libvpx-vp9", *FAST_VPX, "-c:a", "libopus")),
    Kind("MP4, MPEG-4, MP3", ("-c:v", "mpeg4", "-bf", "2", "-c:a", "libmp3lame")),
    Kind("MP4, fragmented, H.264, AAC", (*B_FRAMES, "-c:a", "aac", "-movflags", "frag_keyframe+empty_moov")),
    Kind("MP4, H.264, AC-3", (*H264, "-c:a", "ac3")),
    Kind("MP4, H.264, AAC", (*H264, "-c:a", "aac"), out=".mkv"),
    Kind("MP4, H.264, AAC", (*H264, "-c:a", "aac"), out=".mp3"),
    Kind("M4V, H.264, AAC", (*H264, "-c:a", "aac", "-f", "mp4")),
    Kind("MOV, H.264, AAC", (*B_FRAMES, "-c:a", "aac")),
    Kind("MOV, ProRes, PCM", ("-c:v", "prores_ks", "-c:a", "pcm_s24le")),
    Kind("MOV, MJPEG, PCM", ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-c:a", "pcm_s16le")),
    Kind("MKV, H.264, AAC", (*H264, "-c:a", "aac")),
    Kind("MKV, H.264 with B-frames, AC-3", (*B_FRAMES, "-c:a", "ac3")),
    Kind("MKV, H.264 in one group, DTS", (*H264, "-g", "999", "-bf", "2", "-c:a", "dca", "-strict", "-2")),
    Kind("MKV, HEVC, E-AC-3", ("-c:v", "libx265", "-preset", "fast", *QUIET, "-c:a", "eac3")),
    Kind("MKV, AV1, Opus", ("-c:v", "libsvtav1", "-preset", "12", "-svtav1-params", "lp=1", "-c:a", "libopus")),
    Kind("MKV, VP8, Vorbis", ("-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libvorbis")),
    Kind("MKV, FFV1, FLAC", ("-c:v", "ffv1", "-c:a", "flac")),
    Kind("MKV, Theora, Vorbis", ("-c:v", "libtheora", "-c:a", "libvorbis")),
    Kind("MKV, MPEG-2, MP2", ("-c:v", "mpeg2video", "-bf", "2", "-c:a", "mp2")),
    Kind("MKV, H.264, TrueHD", (*H264, "-c:a", "truehd", "-strict", "-2")),
    Kind("MKV, H.264, AAC", (*H264, "-c:a", "aac"), out=".mp4"),
    Kind("MKV, VP9, Opus", ("-c:v", "libvpx-vp9", *FAST_VPX, "-c:a", "libopus"), ".webm"),
    Kind("WebM, VP8, Vorbis", ("-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libvorbis")),
    Kind("WebM, VP9, Opus", ("-c:v", "libvpx-vp9", *FAST_VPX, "-c:a", "libopus")),
    Kind("WebM, AV1, Opus", ("-c:v", "libsvtav1", "-preset", "12", "-svtav1-params", "lp=1", "-c:a", "libopus")),
    Kind("TS, H.264, AAC", (*B_FRAMES, "-c:a", "aac")),
    Kind("TS, H.264, MP2", (*H264, "-c:a", "mp2")),
    Kind("TS, HEVC, AC-3", ("-c:v", "libx265", "-preset", "ultrafast", *QUIET, "-c:a", "ac3")),
    Kind("TS, MPEG-2, MP2", ("-c:v", "mpeg2video", "-bf", "2", "-c:a", "mp2")),
    Kind("TS, H.264, AAC", (*B_FRAMES, "-c:a", "aac"), out=".mp4"),
    Kind("MPG, MPEG-2, MP2", ("-c:v", "mpeg2video", "-bf", "2", "-c:a", "mp2")),
    Kind("VOB, MPEG-2, AC-3", ("-c:v", "mpeg2video", "-bf", "2", "-c:a", "ac3")),
    Kind("AVI, MPEG-4, MP3", ("-c:v", "mpeg4", "-c:a", "libmp3lame")),
    Kind("AVI, Xvid with B-frames, MP3", ("-c:v", "libxvid", "-bf", "2", "-c:a", "libmp3lame")),
    Kind("AVI, H.264 with B-frames, MP3", (*B_FRAMES, "-c:a", "libmp3lame")),
    Kind("AVI, MJPEG, PCM", ("-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-c:a", "pcm_s16le")),
    Kind("FLV, H.264, AAC", (*B_FRAMES, "-c:a", "aac")),
    Kind("FLV, Sorenson, MP3", ("-c:v", "flv1", "-c:a", "libmp3lame", "-ar", "44100")),
    Kind("WMV, WMV2, WMA", ("-c:v", "wmv2", "-c:a", "wmav2")),
    Kind("3GP, H.263, AMR", ("-c:v", "h263", "-s", "176x144", "-c:a", "libopencore_amrnb", "-ar", "8000", "-ac", "1")),
    Kind("OGV, Theora, Vorbis", ("-c:v", "libtheora", "-c:a", "libvorbis")),
    Kind("MP3", ("-c:a", "libmp3lame")),
    Kind("M4A, AAC", ("-c:a", "aac")),
    Kind("M4A, ALAC", ("-c:a", "alac")),
    Kind("AAC, as ADTS", ("-c:a", "aac", "-f", "adts")),
    Kind("WAV", ("-c:a", "pcm_s16le")),
    Kind("WAV, 24 bit", ("-c:a", "pcm_s24le")),
    Kind("FLAC", ("-c:a", "flac")),
    Kind("OGG, Vorbis", ("-c:a", "libvorbis")),
    Kind("OPUS", ("-c:a", "libopus")),
    Kind("WMA", ("-c:a", "wmav2")),
    Kind("AIFF", ("-c:a", "pcm_s16be")),
    Kind("AMR", ("-c:a", "libopencore_amrnb", "-ar", "8000", "-ac", "1")),
    Kind("AC3", ("-c:a", "ac3")),
    Kind("CAF, ALAC", ("-c:a", "alac")),
    Kind("MKA, Opus", ("-c:a", "libopus")),
]  # fmt: skip


def row(kind: Kind, source: Path) -> tuple[str, MediaInfo | None, Plan | None]:
    """The kind's line in docs/files.md."""
    asked = f"`-o x{kind.out}`" if kind.out else ""
    info = probe(source)
    try:
        plan = check_target(source.with_name(f"out{kind.out}"), info) if kind.out else default_target(info, ("es",))
    except OutputRefused as error:
        return f"| {kind.name} | {asked} | refused: {error} | |", info, None
    picture = "–"
    if info.picture is not None and plan.target.video:
        picture = "encoded anew" if info.picture.index in plan.converted else "copied"
    return f"| {kind.name} | {asked} | {plan.path.suffix}, {TARGETS[plan.path.suffix].codec} | {picture} |", info, plan


def main() -> None:
    """Print the table of docs/files.md."""
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            print(row(kind, kind.make(Path(folder)))[0])


if __name__ == "__main__":
    main()
