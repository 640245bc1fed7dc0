"""Small media files, made on the spot."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from deployments.media.pauses import Pcm


def bursts(pattern: list[tuple[float, bool]], rate_hz: int = 16_000, channels: int = 1) -> Pcm:
    """Noise with pauses: (seconds, loud) one after the other, over a faint noise floor."""
    generator = np.random.default_rng(7)
    parts = []
    for seconds, loud in pattern:
        level = 6000 if loud else 20
        parts.append(generator.normal(0, level, (int(seconds * rate_hz), channels)))
    return np.clip(np.concatenate(parts), -32_768, 32_767).astype(np.int16)


def write_sound(path: Path, pcm: Pcm, rate_hz: int = 16_000, codec: str = "pcm_s16le") -> Path:
    """A sound file of these samples."""
    layout = "mono" if pcm.shape[1] == 1 else "stereo"
    with av.open(path, "w") as out:
        stream = out.add_stream(codec, rate=rate_hz, layout=layout)
        for packet in [*stream.encode(_frame(pcm, rate_hz)), *stream.encode(None)]:
            out.mux(packet)
    return path


def write_video(path: Path, pcm: Pcm, rate_hz: int = 48_000) -> Path:
    """A video of grey pictures, 10 a second, with these samples."""
    with av.open(path, "w") as out:
        video = out.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = out.add_stream("aac", rate=rate_hz, layout="mono" if pcm.shape[1] == 1 else "stereo")
        for number in range(int(len(pcm) / rate_hz * 10)):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number % 256, np.uint8), "rgb24")
            picture.pts, picture.time_base = number, Fraction(1, 10)
            for packet in video.encode(picture):
                out.mux(packet)
        for packet in [*video.encode(None), *audio.encode(_frame(pcm, rate_hz)), *audio.encode(None)]:
            out.mux(packet)
    return path


def _frame(pcm: Pcm, rate_hz: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), "s16", "mono" if pcm.shape[1] == 1 else "stereo")
    frame.sample_rate, frame.time_base, frame.pts = rate_hz, Fraction(1, rate_hz), 0
    return frame
