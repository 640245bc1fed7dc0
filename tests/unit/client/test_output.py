"""Dubs on the original's timeline, and files that appear only when they are whole."""

from pathlib import Path

import av
import numpy as np
import pytest

from client.media import probe, read
from client.output import TARGETS, OutputRefused, check_target, finished, write
from client.timeline import DubUnreadable, Timeline, decode, fit
from serve_app.protocol import DubbedAudio

from .media_files import bursts, write_sound, write_video

RATE = 16_000


def tone(seconds: float, rate_hz: int = RATE, channels: int = 1):
    times = np.arange(int(seconds * rate_hz)) / rate_hz
    return np.repeat((8000 * np.sin(2 * np.pi * 440 * times)).astype(np.int16)[:, None], channels, axis=1)


def dubbed(pcm, rate_hz: int = RATE) -> DubbedAudio:
    return DubbedAudio(
        format="pcm_s16le",
        sample_rate_hz=rate_hz,
        channels=pcm.shape[1],
        duration_ms=len(pcm) * 1000 // rate_hz,
        data=pcm.astype("<i2").tobytes(),
    )


def a_timeline(folder: Path, sound, rate_hz: int = RATE) -> Timeline:
    timeline = Timeline(folder / "scratch.pcm", rate_hz, sound.shape[1], "original")
    timeline.add(sound, dubbed(sound, rate_hz))
    timeline.close()
    return timeline


def everything(timeline: Timeline):
    timeline.close()
    return np.concatenate(list(timeline.blocks(1000)))


@pytest.mark.parametrize("fill", ["original", "silence"])
def test_each_dub_fills_its_place_and_gaps_are_filled(tmp_path: Path, fill) -> None:
    original = bursts([(1.0, True)])
    dub = tone(0.9)
    timeline = Timeline(tmp_path / "scratch.pcm", RATE, 1, fill)
    timeline.add(original, dubbed(dub))
    timeline.add(original, None)
    timeline.add(original, dubbed(tone(1.15)))

    laid = everything(timeline)

    assert len(laid) == 3 * RATE
    assert timeline.n_filled == 1
    assert np.array_equal(laid[: len(dub)], dub)
    assert not laid[len(dub) : RATE].any()
    assert np.array_equal(laid[RATE : 2 * RATE], original if fill == "original" else np.zeros_like(original))


def test_a_dub_that_is_too_long_is_sped_up_at_the_same_pitch() -> None:
    fitted = fit(tone(1.2), RATE, RATE)

    assert len(fitted) == RATE
    spectrum = np.abs(np.fft.rfft(fitted[:, 0].astype(np.float64)))
    assert int(np.argmax(spectrum)) == pytest.approx(440, abs=3)
    assert np.abs(fitted[-RATE // 10 :]).max() > 1000


def test_a_dub_a_hair_too_long_loses_the_hair() -> None:
    assert np.array_equal(fit(tone(1.02), RATE, RATE), tone(1.02)[:RATE])


def test_stereo_is_sped_up_as_stereo() -> None:
    assert fit(tone(2.0, channels=2), RATE, RATE).shape == (RATE, 2)


@pytest.mark.parametrize("suffix", [".m4a", ".flac", ".mp3", ".opus", ".wav"])
def test_dubs_in_a_container_are_decoded_to_the_wanted_rate_and_channels(tmp_path: Path, suffix: str) -> None:
    codec = TARGETS[suffix].codec
    path = write_sound(tmp_path / f"a{suffix}", tone(1.0, 48_000), 48_000, codec)
    dub = DubbedAudio(format=suffix[1:], sample_rate_hz=48_000, channels=1, duration_ms=1000, data=path.read_bytes())

    assert decode(dub, RATE, 2).shape == (pytest.approx(RATE, abs=1000), 2)


def test_float_pcm_and_empty_pcm_are_decoded() -> None:
    sound = (tone(0.5)[:, 0] / 32_768).astype("<f4")
    dub = dubbed(tone(0.5)).model_copy(update={"format": "pcm_f32le", "data": sound.tobytes()})

    assert np.abs(decode(dub, RATE, 1) - tone(0.5)).max() <= 1
    assert decode(dub.model_copy(update={"data": b""}), RATE, 1).shape == (0, 1)


@pytest.mark.parametrize("changes", [{"format": "m4a", "data": b"nonsense"}, {"data": b"\0"}])
def test_a_dub_that_is_no_audio_is_told(changes: dict) -> None:
    with pytest.raises(DubUnreadable, match="no readable"):
        decode(dubbed(tone(0.1)).model_copy(update=changes), RATE, 1)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("suffix", [suffix for suffix, target in TARGETS.items() if not target.video])
def test_sound_is_written_in_every_format(tmp_path: Path, suffix: str, channels: int) -> None:
    sound = tone(2.0, channels=channels)
    info = probe(write_sound(tmp_path / "in.wav", sound))
    path = tmp_path / f"out{suffix}"

    write(path, a_timeline(tmp_path, sound), info)

    back = probe(path)
    assert back.channels == channels
    samples = sum(map(len, read(back)))
    assert samples / back.sample_rate_hz == pytest.approx(2.0, abs=0.15)
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "in.wav", path, tmp_path / "scratch.pcm"])


def test_wav_is_lossless(tmp_path: Path) -> None:
    sound = tone(1.0)
    write(tmp_path / "out.wav", a_timeline(tmp_path, sound), probe(write_sound(tmp_path / "in.wav", sound)))

    assert np.array_equal(np.concatenate(list(read(probe(tmp_path / "out.wav")))), sound)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_a_video_keeps_its_pictures_and_gets_the_new_sound(tmp_path: Path, suffix: str) -> None:
    source = write_video(tmp_path / "in.mp4", bursts([(3.0, False)], 48_000))
    info = probe(source)
    path = tmp_path / f"out{suffix}"

    write(path, a_timeline(tmp_path, tone(3.0, 48_000), 48_000), info)

    assert video_packets(path) == video_packets(source)
    back = probe(path)
    assert back.video_codec == "mpeg4"
    sound = np.concatenate(list(read(back)))
    assert len(sound) / back.sample_rate_hz == pytest.approx(3.0, abs=0.1)
    assert np.abs(sound[48_000:96_000]).max() > 7000


def video_packets(path: Path) -> list[bytes]:
    with av.open(path) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.dts is not None]


def test_sound_of_a_video_written_as_sound_leaves_the_pictures_out(tmp_path: Path) -> None:
    info = probe(write_video(tmp_path / "in.mp4", bursts([(1.0, True)], 48_000)))
    write(tmp_path / "out.m4a", a_timeline(tmp_path, tone(1.0, 48_000), 48_000), info)

    assert probe(tmp_path / "out.m4a").video_codec is None


def test_outputs_that_can_not_be_are_refused_with_a_remedy(tmp_path: Path) -> None:
    sound = probe(write_sound(tmp_path / "in.wav", tone(0.1)))
    video = probe(write_video(tmp_path / "in.mp4", bursts([(0.5, True)], 48_000)))

    for path, info, remedy in (
        (tmp_path / "a.txt", sound, "use one of .wav, .m4a"),
        (tmp_path / "none" / "a.wav", sound, "create it"),
        (tmp_path / "in.wav", sound, "is the input itself"),
        (tmp_path / "a.webm", video, "can't hold mpeg4 video: use .mkv"),
    ):
        with pytest.raises(OutputRefused, match=remedy):
            check_target(path, info)
    check_target(tmp_path / "a.mkv", video)
    check_target(tmp_path / "a.mp4", sound)


def test_a_file_that_is_not_finished_is_not_there(tmp_path: Path) -> None:
    def half() -> None:
        with finished(tmp_path / "a.txt") as part:
            part.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert list(tmp_path.iterdir()) == []
