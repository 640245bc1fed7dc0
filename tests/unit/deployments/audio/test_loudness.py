"""Loudness as FFmpeg measures it, peaks that don't distort, and rooms that sound like rooms."""

import re
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from deployments.audio.loudness import acoustics, gain, in_room, limited, loudness_lufs, room_tone
from deployments.contracts.values import Acoustics
from deployments.media.reader import read
from deployments.media.tracks import probe
from tests.support.media_files import write_sound

SPEECH = Path(__file__).parents[3] / "data" / "speech" / "two_cities.flac"
RATE = 16_000


@pytest.fixture(scope="module")
def speech():
    info = probe(SPEECH)
    return np.concatenate(list(read(info)))[: 20 * info.sample_rate_hz, :1].astype(np.float32)[
        :, 0
    ] / 32_768, info.sample_rate_hz


def by_ffmpeg(folder: Path, samples, rate_hz: int) -> tuple[float, float]:
    """LUFS, and true peak in dB."""
    pcm = np.clip(samples * 32_768, -32_768, 32_767).astype(np.int16)
    path = write_sound(folder / "a.wav", pcm.reshape(len(pcm), -1), rate_hz)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", path, "-af", "ebur128=peak=true", "-f", "null", "-"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return float(re.findall(r"I:\s+(-?[\d.]+) LUFS", told)[-1]), float(re.findall(r"Peak:\s+(-?[\d.]+) dBFS", told)[-1])


@pytest.mark.parametrize("factor", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("seconds", [2, 6, 20])
def test_loudness_is_what_ffmpeg_measures(tmp_path: Path, speech, factor: float, seconds: int) -> None:
    samples, rate_hz = speech
    samples = samples[: seconds * rate_hz] * factor

    assert loudness_lufs(samples, rate_hz) == pytest.approx(by_ffmpeg(tmp_path, samples, rate_hz)[0], abs=0.3)


def test_the_same_voice_on_one_or_two_channels_is_equally_loud(speech) -> None:
    samples, rate_hz = speech

    assert loudness_lufs(np.stack([samples, samples], axis=1), rate_hz) == pytest.approx(
        loudness_lufs(samples, rate_hz)
    )


@pytest.mark.parametrize(
    "samples", [np.zeros(RATE, np.float32), np.zeros(0, np.float32), np.full(RATE, 1e-6, np.float32)]
)
def test_of_what_nobody_hears_nothing_is_told(samples) -> None:
    assert loudness_lufs(samples, RATE) is None
    assert gain(samples, RATE, -23.0) == 1
    assert acoustics(samples, RATE).floor_db == ()


@pytest.mark.parametrize(("original", "dub"), [(-35.6, -20.9), (-20.0, -30.0), (-28.0, -28.0)])
def test_a_dub_becomes_as_loud_as_its_original(speech, original: float, dub: float) -> None:
    samples, rate_hz = speech
    samples = samples * gain(samples, rate_hz, dub)

    assert loudness_lufs(samples * gain(samples, rate_hz, original), rate_hz) == pytest.approx(original, abs=0.1)


def test_no_gain_is_beyond_bounds(speech) -> None:
    samples, rate_hz = speech

    assert loudness_lufs(samples * gain(samples, rate_hz, 0.0), rate_hz) <= -11.9
    assert gain(samples * 0.02, rate_hz, -12.0) == pytest.approx(10.0)


@pytest.mark.parametrize("factor", [16, 40, 100])
def test_peaks_are_turned_down_and_not_cut(tmp_path: Path, speech, factor: int) -> None:
    samples, rate_hz = speech
    loud = limited(samples * factor, rate_hz)

    assert by_ffmpeg(tmp_path, loud, rate_hz)[1] <= -1.0
    assert np.abs(loud).max() > 0.7
    flat = np.diff(np.flatnonzero(np.abs(loud) >= np.abs(loud).max() - 1e-6))
    assert not (flat == 1).any()  # nowhere two samples in a row at the ceiling


def test_what_is_quiet_enough_stays_as_it_is(speech) -> None:
    samples, rate_hz = speech
    assert limited(samples * 0.5, rate_hz) is not None
    quiet = samples * 0.1
    assert limited(quiet, rate_hz) is quiet


@pytest.mark.parametrize("shape", [(1,), (5,), (50, 2), (0,)])
def test_the_shortest_sounds_are_limited(shape) -> None:
    assert np.abs(limited(np.ones(shape, np.float32), RATE)).max(initial=0.0) <= 1.0


def test_a_room_sounds_like_the_original_s() -> None:
    generator = np.random.default_rng(3)
    room = np.convolve(generator.normal(0, 0.004, 6 * RATE), np.ones(8) / 8, mode="same").astype(np.float32)
    room[RATE : 2 * RATE] += 0.3 * np.sin(np.arange(RATE) / 5).astype(np.float32)  # somebody speaks
    floor_db = acoustics(room, RATE).floor_db

    tone = room_tone(3 * RATE, RATE, floor_db)

    levels_db = [10 * np.log10(np.square(sound).mean()) for sound in (tone, room[3 * RATE :])]
    assert levels_db[0] == pytest.approx(levels_db[1], abs=4)
    again = acoustics(tone, RATE).floor_db
    assert np.allclose(again[:5], floor_db[:5], atol=4)


@pytest.mark.parametrize("level", [0.5, 1e-6, 0.0])
def test_neither_noise_nor_digital_silence_is_a_room(level: float) -> None:
    noise = np.random.default_rng(3).normal(0, 1, 3 * RATE).astype(np.float32) * level
    assert acoustics(np.clip(noise, -1, 1), RATE).floor_db == ()


@pytest.mark.parametrize("shape", [(RATE,), (RATE, 1), (RATE, 2), (0,), (7,)])
def test_a_room_is_heard_behind_any_sound(shape) -> None:
    heard = in_room(np.zeros(shape, np.float32), RATE, Acoustics(-23.0, (-60.0,) * 7))

    assert heard.shape == shape
    assert heard.dtype == np.float32
    assert np.abs(heard).max(initial=0.0) < 0.2
    assert np.array_equal(in_room(heard, RATE, Acoustics(-23.0)), heard)
