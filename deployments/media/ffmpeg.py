"""FFmpeg's program, as the package `imageio-ffmpeg` brings it: one version on every machine.

It copies and writes files; sound is decoded in this process, by the same libraries. `IMAGEIO_FFMPEG_EXE` names another.
"""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg

PROTOCOLS = "file,crypto,data,pipe"
"""What a file may lead to: other files, as playlists and concatenations do, but no network."""
_PREFIX = re.compile(r"^(\[[^\]]*\] )*")
_KEPT_LINES = 20


class FFmpegFailed(Exception):
    """FFmpeg ended with an error; says which, in its words."""


def url(path: Path) -> str:
    """The path as FFmpeg takes it, whatever characters are in it: `a:b.mp4` is no protocol."""
    return f"file:{path.absolute()}"


def program() -> str:
    """Where it is.

    Raises:
        FFmpegFailed: there is none.
    """
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:
        raise FFmpegFailed("there is no FFmpeg here: install it and name it in IMAGEIO_FFMPEG_EXE") from None


def complaints(stderr: bytes) -> str:
    """What FFmpeg says of why it failed, in a line."""
    lines = [_PREFIX.sub("", line) for line in stderr.decode(errors="replace").splitlines()]
    return "; ".join(list(dict.fromkeys(filter(None, lines)))[:_KEPT_LINES]) or "no reason given"


def run(arguments: Sequence[str], timeout_s: float) -> None:
    """Run FFmpeg to its end; it asks nothing and overwrites.

    Args:
        arguments: inputs, mappings, output.
        timeout_s: after which it is killed.

    Raises:
        FFmpegFailed: it failed, or took too long.
    """
    found = program()
    command = [found, "-nostdin", "-y", "-loglevel", "error", *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - a list, no shell; the program is the package's own
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=timeout_s,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise FFmpegFailed(f"not done within {timeout_s:.0f} s") from None
    except OSError as error:
        raise FFmpegFailed(f"{found} can't be started: {error.strerror}") from None
    if done.returncode:
        raise FFmpegFailed(complaints(done.stderr))
