"""Any file in, pieces out: cut at pauses, and together the whole."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from deployments.media.pauses import Lengths, split
from deployments.media.reader import Damage, pieces, read
from deployments.media.tracks import MediaUnreadable, probe
from tests.support.media_files import bursts, write_sound, write_video
from tests.support.media_matrix import ffmpeg

RATE = 16_000
LENGTHS = Lengths.around(6000)
SPEECH = Path(__file__).parents[3] / "data" / "speech"


def blocks(pcm, size: int = 1024):
    return (pcm[at : at + size] for at in range(0, len(pcm), size))


@pytest.mark.parametrize("size", [333, 1024, 500_000])
def test_pieces_put_together_are_the_whole(size: int) -> None:
    audio = bursts([(1.3, True), (0.4, False)] * 20, channels=2)

    cut = list(split(blocks(audio, size), RATE, LENGTHS))

    assert np.array_equal(np.concatenate(cut), audio)


def test_cuts_lie_inside_pauses() -> None:
    audio = bursts([(1.7, True), (0.3, False), (2.4, True), (0.5, False), (0.9, True), (0.25, False)] * 8)

    cut = list(split(blocks(audio), RATE, LENGTHS))

    at = 0
    for piece in cut[:-1]:
        at += len(piece)
        around = audio[at - RATE // 20 : at + RATE // 20]
        assert np.abs(around).max() < 200
        assert 2.0 <= len(piece) / RATE <= 10.0


def test_a_pause_far_from_the_wanted_length_is_better_than_a_word_cut_in_two() -> None:
    audio = bursts([(2.5, True), (0.5, False), (9.0, True)])

    first = next(split(blocks(audio), RATE, LENGTHS))

    assert 2.5 < len(first) / RATE < 3.0


@pytest.mark.parametrize(("loud", "seconds"), [(True, 61.0), (False, 61.0), (True, 10.3)])
def test_sound_without_pauses_is_cut_within_the_limits(loud: bool, seconds: float) -> None:
    cut = list(split(blocks(bursts([(seconds, loud)])), RATE, LENGTHS))

    assert len(cut) > 1
    assert all(2.0 <= len(piece) / RATE <= 10.0 for piece in cut[:-1])
    assert len(cut[-1]) >= RATE // 2


def test_digital_silence_is_cut_near_the_wanted_length() -> None:
    cut = list(split(blocks(np.zeros((RATE * 30, 1), np.int16)), RATE, LENGTHS))

    assert all(abs(len(piece) / RATE - 6.0) < 0.1 for piece in cut[:-1])


@pytest.mark.parametrize("seconds", [0.2, 3.0, 7.9])
def test_what_is_short_stays_in_one_piece(seconds: float) -> None:
    assert len(list(split(blocks(bursts([(seconds, True)])), RATE, LENGTHS))) == 1


@pytest.mark.parametrize("extra", [0.1, 0.3, 0.49, 0.6])
def test_no_scrap_is_left_at_the_end(extra: float) -> None:
    audio = bursts([(5.8, True), (0.2, False)] * 2 + [(extra, True)])

    assert len(list(split(blocks(audio), RATE, LENGTHS))[-1]) >= RATE // 2


def test_nothing_gives_no_pieces() -> None:
    assert list(split(iter([]), RATE, LENGTHS)) == []


def test_lengths_stay_within_the_protocol() -> None:
    assert Lengths.around(18_000).most == 30.0
    assert Lengths.around(6000) == Lengths(2.0, 6.0, 10.0)


def test_real_speech_is_cut_at_pauses_and_stays_whole() -> None:
    info = probe(SPEECH / "two_cities.flac")

    cut = list(pieces(info, 6000))

    whole = np.concatenate(list(read(info)))
    assert np.array_equal(np.concatenate([piece.pcm for piece in cut]), whole)
    around = info.sample_rate_hz // 50
    level = np.sqrt(np.mean(whole.astype(np.float64) ** 2))
    for piece in cut[1:]:
        near = whole[piece.start_samples - around : piece.start_samples + around].astype(np.float64)
        assert np.sqrt(np.mean(near**2)) < level / 4


def test_pieces_know_their_place(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", bursts([(4.0, True), (0.5, False)] * 3))

    cut = list(pieces(probe(path), 4000))

    starts = np.cumsum([0, *[len(piece.pcm) for piece in cut[:-1]]])
    assert [piece.start_samples for piece in cut] == starts.tolist()
    assert [piece.start_ms for piece in cut] == [round(start / 16) for start in starts.tolist()]
    assert sum(piece.duration_ms for piece in cut) == 13_500


def test_a_sound_file_is_probed_and_read_as_it_is(tmp_path: Path) -> None:
    audio = bursts([(1.0, True)], channels=2)
    info = probe(write_sound(tmp_path / "a.wav", audio))

    assert (info.sample_rate_hz, info.channels, info.picture) == (16_000, 2, None)
    assert info.duration_s == pytest.approx(1.0)
    assert np.array_equal(np.concatenate(list(read(info))), audio)


def test_a_rate_that_is_not_sent_is_brought_within_limits(tmp_path: Path) -> None:
    info = probe(write_sound(tmp_path / "a.wav", bursts([(1.0, True)], 8000), 8000))

    assert info.sample_rate_hz == 16_000
    assert sum(map(len, read(info))) == pytest.approx(16_000, abs=64)


def test_a_video_is_probed(tmp_path: Path) -> None:
    info = probe(write_video(tmp_path / "a.mp4", bursts([(1.0, True)], 48_000)))

    assert info.picture is not None
    assert (info.picture.codec, info.sample_rate_hz, info.channels) == ("mpeg4", 48_000, 1)


def test_files_that_can_not_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(MediaUnreadable, match=r"gone\.wav: no such file"):
        probe(tmp_path / "gone.wav")
    (tmp_path / "text.wav").write_text("not a sound")
    with pytest.raises(MediaUnreadable, match=r"Can't read .*text\.wav"):
        probe(tmp_path / "text.wav")


def test_a_video_without_sound_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", bursts([(0.5, True)], 48_000))
    with av.open(path) as source, av.open(tmp_path / "mute.mp4", "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    with pytest.raises(MediaUnreadable, match="has no sound"):
        probe(tmp_path / "mute.mp4")


def test_a_file_cut_off_is_named_when_it_can_not_be_decoded(tmp_path: Path) -> None:
    info = probe(write_sound(tmp_path / "a.wav", bursts([(1.0, True)])))
    info.path.unlink()
    with pytest.raises(MediaUnreadable, match="Can't decode"):
        list(read(info))


def write_frames(
    path: Path, starts_s: list[float], seconds: float = 0.1, codec: str = "pcm_s16le", rate_hz: int = 16_000
) -> Path:
    """Loud frames at these times."""
    with av.open(path, "w") as out:
        stream = out.add_stream(codec, rate=rate_hz, layout="mono")
        for start_s in starts_s:
            frame = av.AudioFrame.from_ndarray(np.full((1, int(seconds * rate_hz)), 9000, np.int16), "s16", "mono")
            frame.sample_rate, frame.time_base, frame.pts = rate_hz, Fraction(1, rate_hz), round(start_s * rate_hz)
            for packet in stream.encode(frame):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)
    return path


def heard_in(path: Path, damage: Damage | None = None) -> list[tuple[float, float]]:
    """From when to when something is heard, in tenths of a second."""
    info = probe(path)
    pcm = np.concatenate(list(read(info, damage)))
    heard = np.abs(pcm[:, 0].astype(int)) > 1000
    edges = np.flatnonzero(np.diff(np.concatenate([[False], heard, [False]]).astype(np.int8))) / info.sample_rate_hz
    return [(round(start, 1), round(end, 1)) for start, end in edges.reshape(-1, 2)]


def test_a_hole_stays_a_hole(tmp_path: Path) -> None:
    path = write_frames(tmp_path / "a.mkv", [0.0, 0.1, 3.2, 3.3])

    assert heard_in(path) == [(0.0, 0.2), (3.2, 3.4)]


def test_a_late_start_stays_late(tmp_path: Path) -> None:
    path = tmp_path / "late.mkv"
    picture = write_video(tmp_path / "a.mp4", bursts([(3.0, True)], 48_000))
    ffmpeg(
        "-i",
        str(picture),
        "-itsoffset",
        "1.5",
        "-i",
        str(picture),
        "-map",
        "0:v",
        "-map",
        "1:a",
        "-c",
        "copy",
        str(path),
    )

    assert next(iter(pieces(probe(path), 6000))).start_ms == 0
    assert heard_in(path)[0][0] == 1.5


def test_memory_is_bounded_over_a_hole_of_hours(tmp_path: Path) -> None:
    path = write_frames(tmp_path / "a.mkv", [0.0, 3600.0])

    blocks_read = [len(block) for block in read(probe(path))]

    assert sum(blocks_read) == pytest.approx(3600.1 * RATE, abs=RATE / 100)
    assert max(blocks_read) <= 48_000


def test_sound_that_overlaps_is_heard_whole_and_later_sound_is_in_its_place(tmp_path: Path) -> None:
    path = write_frames(tmp_path / "a.mkv", [0.0, 0.3, 0.5, 0.7, 2.0, 2.3], seconds=0.3)

    assert heard_in(path) == [(0.0, 1.2), (2.0, 2.6)]


def test_jitter_loses_nothing(tmp_path: Path) -> None:
    damage = Damage()
    jitter = [0.0, 0.015, -0.03, 0.02, -0.05, 0.01, -0.04, 0.0]
    path = write_frames(tmp_path / "a.mkv", [0.5 + n * 0.1 + jitter[n % 8] for n in range(64)])

    pcm = np.concatenate(list(read(probe(path), damage)))

    assert np.count_nonzero(pcm) == 64 * RATE // 10
    assert len(pcm) / RATE == pytest.approx(6.4, abs=0.12)  # the file begins with its first frame
    assert not str(damage)


@pytest.mark.parametrize("suffix", [".aac", ".mp3", ".ts"])
@pytest.mark.parametrize("second", [("-ac", "1"), ("-ar", "24000"), ("-ac", "1", "-ar", "32000")])
def test_a_change_of_rate_or_channels_is_heard_whole(tmp_path: Path, suffix: str, second: tuple[str, ...]) -> None:
    parts = []
    for number, options in enumerate([("-ac", "2", "-ar", "48000"), second]):
        part = tmp_path / f"{number}{suffix}"
        ffmpeg(
            "-f", "lavfi", "-i", "sine=f=500:d=2:b=0", *options, "-id3v2_version", "0", "-write_xing", "0", str(part)
        ) if (suffix == ".mp3") else ffmpeg("-f", "lavfi", "-i", "sine=f=500:d=2", *options, str(part))
        parts.append(part.read_bytes())
    (tmp_path / f"a{suffix}").write_bytes(b"".join(parts))

    info = probe(tmp_path / f"a{suffix}")
    pcm = np.concatenate(list(read(info)))

    heard_s = np.count_nonzero(np.abs(pcm[:, 0].astype(int)) > 200) / info.sample_rate_hz
    assert heard_s == pytest.approx(4.0 * 0.94, abs=0.25)  # of a sine, so much is that loud
    assert len(pcm) / info.sample_rate_hz == pytest.approx(4.0, abs=0.3)


def damaged(path: Path, every: int) -> Path:
    """The same with bytes in the middle of some packets of sound overwritten."""
    info = probe(path)
    with av.open(path) as container:
        packets = [packet for packet in container.demux(container.streams[info.sound.index]) if packet.size > 40]
        places = [(packet.pos, packet.size) for packet in packets[every::every] if packet.pos]
    data = bytearray(path.read_bytes())
    for at, size in places:
        data[at + size // 2 : at + size * 3 // 4] = b"\xff" * (size * 3 // 4 - size // 2)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [(".mp4", "aac"), (".mkv", "libopus"), (".mkv", "flac"), (".mov", "alac"), (".mkv", "ac3"), (".ts", "mp2")],
)
def test_damaged_packets_are_passed_over_with_their_time_kept(tmp_path: Path, suffix: str, codec: str) -> None:
    path = tmp_path / f"a{suffix}"
    ffmpeg("-f", "lavfi", "-i", "sine=f=500:d=6", "-c:a", codec, "-strict", "-2", str(path))
    whole = sum(map(len, read(probe(path))))
    damage = Damage()

    info = probe(damaged(path, 20))
    left = sum(map(len, read(info, damage)))

    assert left / info.sample_rate_hz == pytest.approx(whole / info.sample_rate_hz, abs=0.05)


def test_damage_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    ffmpeg("-f", "lavfi", "-i", "sine=f=500:d=6", "-c:a", "aac", str(path))
    damage = Damage()

    list(read(probe(damaged(path, 20)), damage))

    assert sum(damage.packets.values()) >= 3
    assert "× invalid data" in str(damage)


def test_a_clock_that_jumps_in_a_transport_stream_leaves_no_hole(tmp_path: Path) -> None:
    for number, offset in enumerate(["0", "5000"]):
        ffmpeg(
            "-f",
            "lavfi",
            "-i",
            "sine=f=500:d=2",
            "-c:a",
            "aac",
            "-output_ts_offset",
            offset,
            str(tmp_path / f"{number}.ts"),
        )
    path = tmp_path / "a.ts"
    path.write_bytes((tmp_path / "0.ts").read_bytes() + (tmp_path / "1.ts").read_bytes())

    info = probe(path)

    assert sum(map(len, read(info))) / info.sample_rate_hz == pytest.approx(4.0, abs=0.2)


def tracks_file(path: Path, *options: str) -> Path:
    ffmpeg(
        *("-f", "lavfi", "-i", "anullsrc=d=2", "-f", "lavfi", "-i", "sine=f=500:d=2", "-map", "0:a", "-map", "1:a"),
        *("-c:a", "aac", "-metadata:s:a:0", "language=eng", "-metadata:s:a:0", "title=Descriptions"),
        *("-metadata:s:a:1", "language=ger", *options, str(path)),
    )
    return path


def test_the_default_track_is_taken_and_told(tmp_path: Path) -> None:
    path = tracks_file(tmp_path / "a.mkv", "-disposition:a:0", "0", "-disposition:a:1", "default")

    info = probe(path)

    assert info.sound.index == 1
    assert info.sound_told() == (
        'dubs sound 2 (ger, aac, mono); choose another with --audio-track (1: "Descriptions", eng, aac, stereo)'
    )


@pytest.mark.parametrize(("wanted", "index"), [("1", 0), ("2", 1), ("de", 1), ("deu", 1), ("ger", 1), ("en-GB", 0)])
def test_a_track_is_chosen_by_number_or_language(tmp_path: Path, wanted: str, index: int) -> None:
    assert probe(tracks_file(tmp_path / "a.mkv"), wanted).sound.index == index


@pytest.mark.parametrize("wanted", ["0", "3", "fr", "x y"])
def test_a_track_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path, wanted: str) -> None:
    with pytest.raises(MediaUnreadable, match=r'its sounds are 1: "Descriptions", eng, aac, stereo; 2: ger, aac, mono'):
        probe(tracks_file(tmp_path / "a.mkv"), wanted)


def test_a_file_without_samples_has_no_sound(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", bursts([(1.0, True)]))
    path.write_bytes(path.read_bytes()[:44])
    with pytest.raises(MediaUnreadable, match=r"has no sound|invalid data"):
        list(read(probe(path)))


def test_samples_of_the_other_byte_order_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFX" + bytes(100))
    with pytest.raises(MediaUnreadable, match="big-endian"):
        probe(tmp_path / "a.wav")


def test_a_playlist_leads_to_no_network(tmp_path: Path) -> None:
    (tmp_path / "a.m3u8").write_text("#EXTM3U\n#EXTINF:5,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(MediaUnreadable):
        list(read(probe(tmp_path / "a.m3u8")))
