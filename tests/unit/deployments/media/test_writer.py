"""Dubs on the original's timeline, and files that appear only when they are whole."""

from pathlib import Path

import av
import numpy as np
import pytest

from deployments.contracts.values import AudioFormat, EncodedAudio
from deployments.media.planning import check_target
from deployments.media.reader import read
from deployments.media.targets import TARGETS, OutputRefused
from deployments.media.timeline import DubUnreadable, Timeline, decode, fit
from deployments.media.tracks import MediaInfo, probe
from deployments.media.writer import Captions, Contents, DubbedTrack, finished, sound_of, write
from tests.support.media_files import bursts, write_sound, write_video
from tests.support.media_matrix import H264, PICTURE, SOUND, ffmpeg

RATE = 16_000


def tone(seconds: float, rate_hz: int = RATE, channels: int = 1):
    times = np.arange(int(seconds * rate_hz)) / rate_hz
    return np.repeat((8000 * np.sin(2 * np.pi * 440 * times)).astype(np.int16)[:, None], channels, axis=1)


def dubbed(pcm, rate_hz: int = RATE) -> EncodedAudio:
    return EncodedAudio(pcm.astype("<i2").tobytes(), AudioFormat("pcm_s16le", rate_hz, pcm.shape[1]))


def a_timeline(folder: Path, sound, rate_hz: int = RATE) -> Timeline:
    timeline = Timeline(folder / "scratch.pcm", rate_hz, sound.shape[1], "original")
    timeline.place(0, sound, dubbed(sound, rate_hz))
    timeline.close()
    return timeline


def write_dub(path: Path, timeline: Timeline, info: MediaInfo, *, keep_original: bool = False) -> None:
    plan = check_target(path, info, keep_original=keep_original)
    write(plan, Contents([DubbedTrack("es", sound_of(timeline))]), path, timeline.duration_s)


def everything(timeline: Timeline):
    timeline.close()
    return np.concatenate(list(timeline.blocks(1000)))


@pytest.mark.parametrize("fill", ["original", "silence"])
def test_each_dub_fills_its_place_and_gaps_are_filled(tmp_path: Path, fill) -> None:
    original = bursts([(1.0, True)])
    dub = tone(0.9)
    timeline = Timeline(tmp_path / "scratch.pcm", RATE, 1, fill)
    timeline.place(0, original, dubbed(dub))
    timeline.place(RATE, original, None)
    timeline.place(2 * RATE, original, dubbed(tone(1.15)))

    laid = everything(timeline)

    assert len(laid) == 3 * RATE
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
    dub = EncodedAudio(path.read_bytes(), AudioFormat(suffix[1:], 48_000, 1))

    assert decode(dub, RATE, 2).shape == (pytest.approx(RATE, abs=1000), 2)


def test_float_pcm_and_empty_pcm_are_decoded() -> None:
    sound = (tone(0.5)[:, 0] / 32_768).astype("<f4")
    form = AudioFormat("pcm_f32le", RATE, 1)

    assert np.abs(decode(EncodedAudio(sound.tobytes(), form), RATE, 1) - tone(0.5)).max() <= 1
    assert decode(EncodedAudio(b"", form), RATE, 1).shape == (0, 1)


@pytest.mark.parametrize(("container", "data"), [("m4a", b"nonsense"), ("pcm_s16le", b"\0")])
def test_a_dub_that_is_no_audio_is_told(container: str, data: bytes) -> None:
    with pytest.raises(DubUnreadable, match="no readable"):
        decode(EncodedAudio(data, AudioFormat(container, RATE, 1)), RATE, 1)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("suffix", [suffix for suffix, target in TARGETS.items() if not target.video])
def test_sound_is_written_in_every_format(tmp_path: Path, suffix: str, channels: int) -> None:
    sound = tone(2.0, channels=channels)
    info = probe(write_sound(tmp_path / "in.wav", sound))
    path = tmp_path / f"out{suffix}"

    write_dub(path, a_timeline(tmp_path, sound), info)

    back = probe(path)
    assert back.channels == channels
    samples = sum(map(len, read(back)))
    assert samples / back.sample_rate_hz == pytest.approx(2.0, abs=0.15)
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "in.wav", path, tmp_path / "scratch.pcm"])


def test_wav_is_lossless(tmp_path: Path) -> None:
    sound = tone(1.0)
    write_dub(tmp_path / "out.wav", a_timeline(tmp_path, sound), probe(write_sound(tmp_path / "in.wav", sound)))

    assert np.array_equal(np.concatenate(list(read(probe(tmp_path / "out.wav")))), sound)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_a_video_keeps_its_pictures_and_gets_the_new_sound(tmp_path: Path, suffix: str) -> None:
    source = write_video(tmp_path / "in.mp4", bursts([(3.0, False)], 48_000))
    info = probe(source)
    path = tmp_path / f"out{suffix}"

    write_dub(path, a_timeline(tmp_path, tone(3.0, 48_000), 48_000), info)

    assert video_packets(path) == video_packets(source)
    back = probe(path)
    assert back.picture is not None
    assert back.picture.codec == "mpeg4"
    sound = np.concatenate(list(read(back)))
    assert len(sound) / back.sample_rate_hz == pytest.approx(3.0, abs=0.1)
    assert np.abs(sound[48_000:96_000]).max() > 7000


def video_packets(path: Path) -> list[bytes]:
    with av.open(path) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.dts is not None]


def test_sound_of_a_video_written_as_sound_leaves_the_pictures_out(tmp_path: Path) -> None:
    info = probe(write_video(tmp_path / "in.mp4", bursts([(1.0, True)], 48_000)))
    write_dub(tmp_path / "out.m4a", a_timeline(tmp_path, tone(1.0, 48_000), 48_000), info)

    assert probe(tmp_path / "out.m4a").picture is None


def test_outputs_that_can_not_be_are_refused_with_a_remedy(tmp_path: Path) -> None:
    sound = probe(write_sound(tmp_path / "in.wav", tone(0.1)))
    video = probe(write_video(tmp_path / "in.mp4", bursts([(0.5, True)], 48_000)))

    for path, info, remedy in (
        (tmp_path / "a.txt", sound, "use one of .wav, .m4a"),
        (tmp_path / "none" / "a.wav", sound, "create it"),
        (tmp_path / "in.wav", sound, "is the input itself"),
        (tmp_path / "a.webm", video, "does not take mpeg4 video: use -o a.mkv"),
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


def test_a_place_is_filled_again_by_what_comes_later(tmp_path: Path) -> None:
    timeline = Timeline(tmp_path / "scratch.pcm", RATE, 1, "silence")
    timeline.place(RATE, tone(1.0), None)
    timeline.place(0, tone(1.0), dubbed(tone(1.0)))
    timeline.close()

    again = Timeline(tmp_path / "scratch.pcm", RATE, 1, "silence")
    again.place(RATE, tone(1.0), dubbed(tone(1.0)))

    assert np.array_equal(everything(again), np.concatenate([tone(1.0), tone(1.0)]))
    assert again.duration_s == 2.0


def rich(folder: Path, suffix: str = ".mp4") -> Path:
    """Two sounds, subtitles, chapters, tags, and for MKV an attached file."""
    (folder / "in.srt").write_text("1\n00:00:00,500 --> 00:00:02,000\nHello\n")
    (folder / "in.txt").write_text(
        ";FFMETADATA1\ntitle=My Talk\nartist=Someone\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1500\ntitle=One\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=1500\nEND=4000\ntitle=Two\n"
    )
    path = folder / f"in{suffix}"
    attached = ("-attach", str(folder / "in.srt"), "-metadata:s:t", "mimetype=text/plain") if suffix == ".mkv" else ()
    ffmpeg(
        *("-f", "lavfi", "-i", PICTURE, "-f", "lavfi", "-i", SOUND, "-f", "lavfi", "-i", SOUND),
        *(
            "-i",
            str(folder / "in.srt"),
            "-i",
            str(folder / "in.txt"),
            "-map",
            "0",
            "-map",
            "1",
            "-map",
            "2",
            "-map",
            "3",
        ),
        *(*H264, "-c:a", "aac", "-c:s", "mov_text" if suffix == ".mp4" else "srt", "-map_metadata", "4"),
        *("-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=deu", "-metadata:s:s:0", "language=eng"),
        *("-map_chapters", "4", "-disposition:a:1", "default+comment", *attached, str(path)),
    )
    return path


def tracks_of(path: Path) -> list[tuple[str, str | None, str | None, bool]]:
    return [(track.kind, track.codec, track.language, track.default) for track in probe(path).tracks if track.codec]


def test_everything_beside_the_sound_is_kept_and_the_dub_comes_first(tmp_path: Path) -> None:
    info = probe(rich(tmp_path), audio_track="1")
    out = tmp_path / "out.mp4"

    write_dub(out, a_timeline(tmp_path, tone(4.0, 48_000), 48_000), info, keep_original=True)

    assert tracks_of(out) == [
        ("video", "h264", None, True),
        ("audio", "aac", "spa", True),
        ("audio", "aac", "eng", False),
        ("audio", "aac", "deu", False),
        ("subtitle", "mov_text", "eng", True),
    ]
    with av.open(out) as container:
        assert (container.metadata["title"], container.metadata["artist"]) == ("My Talk", "Someone")
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["One", "Two"]


def test_subtitles_take_the_form_that_the_container_takes_and_files_stay_attached(tmp_path: Path) -> None:
    info = probe(rich(tmp_path, ".mkv"))
    assert info.sound.language == "deu"

    plan = check_target(tmp_path / "out.mp4", info)
    assert [note for note in plan.notes if "attachment" in note] == [
        ".mp4 does not take the attachment of track 5 (language not told, unknown coding): it is left out"
    ]
    write_dub(tmp_path / "out.mp4", a_timeline(tmp_path, tone(4.0, 48_000), 48_000), info)
    write_dub(tmp_path / "out.mkv", a_timeline(tmp_path, tone(4.0, 48_000), 48_000), info)

    assert ("subtitle", "mov_text", "eng", True) in tracks_of(tmp_path / "out.mp4")
    kept = probe(tmp_path / "out.mkv")
    assert [track.kind for track in kept.tracks] == ["video", "audio", "audio", "subtitle", "attachment"]


def test_what_a_sound_file_can_not_hold_is_told_before(tmp_path: Path) -> None:
    plan = check_target(tmp_path / "out.wav", probe(rich(tmp_path)))

    told = "\n".join(plan.notes)
    for part in ("chapters", "sound of track 2 (eng", "subtitles of track 4 (eng"):
        assert part in told


def test_several_dubs_and_their_subtitles_are_tagged(tmp_path: Path) -> None:
    info = probe(write_video(tmp_path / "in.mp4", bursts([(2.0, False)], 48_000)))
    sound = sound_of(a_timeline(tmp_path, tone(2.0, 48_000), 48_000))
    (tmp_path / "x.srt").write_text("1\n00:00:00,500 --> 00:00:01,000\nHola\n")
    for suffix in (".mp4", ".mkv"):
        out = tmp_path / f"out{suffix}"
        contents = Contents(
            [DubbedTrack("es-MX", sound), DubbedTrack("de", sound)],
            [Captions("es-MX", tmp_path / "x.srt")],
            {"comment": "synthetic"},
        )
        write(check_target(out, info), contents, out, 2.0)

        assert [t[2:] for t in tracks_of(out) if t[0] == "audio"] == [
            ("spa", True),
            ("deu", False),
        ]
        assert [t[2] for t in tracks_of(out) if t[0] == "subtitle"] == ["spa"]
        with av.open(out) as container:
            tags = {key.lower(): value for key, value in container.metadata.items()}
            assert tags["comment"] == "synthetic"


def test_a_part_ends_where_it_is_cut(tmp_path: Path) -> None:
    info = probe(write_video(tmp_path / "in.mp4", bursts([(4.0, False)], 48_000)))
    plan = check_target(tmp_path / "out.mp4", info)
    sound = sound_of(a_timeline(tmp_path, tone(2.0, 48_000), 48_000))

    write(plan, Contents([DubbedTrack("es", sound)]), tmp_path / "out.mp4", 2.0, cut=True)

    assert probe(tmp_path / "out.mp4").duration_s == pytest.approx(2.0, abs=0.2)


def test_why_a_file_could_not_be_written_is_told(tmp_path: Path) -> None:
    info = probe(write_sound(tmp_path / "in.wav", tone(0.1)))
    plan = check_target(tmp_path / "out.wav", info)

    with pytest.raises(OutputRefused, match=r"out\.wav: .*No such file"):
        write(plan, Contents([DubbedTrack("es", ("-i", "file:/none"))]), tmp_path / "out.wav", 0.1)


@pytest.mark.parametrize(
    "name", ["Interview:part1.mp4", "-o 50%d [x].mp4", "día 日本 \u202e.mp4", "a\udcff.mp4", "concat:x|y.mp4"]
)
def test_any_name_is_read_and_written(tmp_path: Path, name: str) -> None:
    info = probe(write_video(tmp_path / "in.mp4", bursts([(1.0, True)], 48_000)).rename(tmp_path / name))

    write_dub(tmp_path / f"dub {name}", a_timeline(tmp_path, tone(1.0, 48_000), 48_000), info)

    assert probe(tmp_path / f"dub {name}").picture is not None


@pytest.mark.parametrize(("fill", "heard"), [("original", True), ("silence", False)])
def test_where_nobody_speaks_the_original_is_heard_if_the_fill_says_so(tmp_path: Path, fill, heard: bool) -> None:
    timeline = Timeline(tmp_path / "scratch.pcm", RATE, 1, fill)
    left_over = tone(3.0)
    left_over[RATE // 2 :] = 0

    timeline.place(0, tone(3.0) // 4, dubbed(left_over), speaks=False)

    laid = everything(timeline)
    assert bool(np.abs(laid[2 * RATE :]).max() > 1000) is heard
    assert np.abs(laid[: RATE // 2]).max() > 7000


def test_an_original_that_the_server_sent_is_not_heard_twice(tmp_path: Path) -> None:
    timeline = Timeline(tmp_path / "scratch.pcm", RATE, 1, "original")

    timeline.place(0, tone(3.0), dubbed(tone(3.0)), speaks=False)

    assert np.array_equal(everything(timeline), tone(3.0))


@pytest.mark.parametrize(("exe", "says"), [("/none/ffmpeg", "can't be started"), ("/bin/false", "no reason given")])
def test_a_machine_without_ffmpeg_is_told_so_before_any_work(tmp_path: Path, monkeypatch, exe: str, says: str) -> None:
    info = probe(write_sound(tmp_path / "in.wav", tone(0.1)))
    monkeypatch.setattr("deployments.media.ffmpeg.imageio_ffmpeg.get_ffmpeg_exe", lambda: exe)

    with pytest.raises(OutputRefused, match=says):
        check_target(tmp_path / "out.wav", info)


def test_no_ffmpeg_at_all_is_told_with_what_to_do(tmp_path: Path, monkeypatch) -> None:
    info = probe(write_sound(tmp_path / "in.wav", tone(0.1)))

    def none() -> str:
        raise RuntimeError

    monkeypatch.setattr("deployments.media.ffmpeg.imageio_ffmpeg.get_ffmpeg_exe", none)

    with pytest.raises(OutputRefused, match="name it in IMAGEIO_FFMPEG_EXE"):
        check_target(tmp_path / "out.wav", info)
