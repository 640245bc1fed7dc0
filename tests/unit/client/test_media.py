"""Any file in, pieces out: cut at pauses, and together the whole."""

from pathlib import Path

import numpy as np
import pytest

from client.media import MediaUnreadable, pieces, probe, read
from client.pauses import Lengths, split

from .media_files import bursts, write_sound, write_video

RATE = 16_000
LENGTHS = Lengths.around(6000)
SPEECH = Path(__file__).parents[2] / "data" / "speech"


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


@pytest.mark.skipif(not SPEECH.is_dir(), reason="tests/data/speech is not there")
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

    assert (info.sample_rate_hz, info.channels, info.video_codec) == (16_000, 2, None)
    assert info.duration_s == pytest.approx(1.0)
    assert np.array_equal(np.concatenate(list(read(info))), audio)


def test_a_rate_that_is_not_sent_is_brought_within_limits(tmp_path: Path) -> None:
    info = probe(write_sound(tmp_path / "a.wav", bursts([(1.0, True)], 8000), 8000))

    assert info.sample_rate_hz == 16_000
    assert sum(map(len, read(info))) == pytest.approx(16_000, abs=64)


def test_a_video_is_probed(tmp_path: Path) -> None:
    info = probe(write_video(tmp_path / "a.mp4", bursts([(1.0, True)], 48_000)))

    assert (info.video_codec, info.sample_rate_hz, info.channels) == ("mpeg4", 48_000, 1)


def test_files_that_can_not_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(MediaUnreadable, match=r"gone\.wav: no such file"):
        probe(tmp_path / "gone.wav")
    (tmp_path / "text.wav").write_text("not a sound")
    with pytest.raises(MediaUnreadable, match=r"Can't read .*text\.wav"):
        probe(tmp_path / "text.wav")


def test_a_video_without_sound_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", bursts([(0.5, True)], 48_000))
    import av

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
