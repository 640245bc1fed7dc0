import io
import json
import math
import shutil
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deployments.audio import codec, pcm
from deployments.contracts.values import AudioFormat, EncodedAudio
from deployments.errors import FragmentTooLarge, InvalidAudio, Stage, SynthesisFailed
from tests.support import clips

CONTAINERS = tuple(name for name in codec.FORMATS if name not in pcm.SAMPLE_BYTES)
OPUS = {"ogg", "opus", "webm"}
RATES_HZ = (8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 50_001, 70_003, 96_000)


def tone(rate_hz: int, duration_s: float, frequency_hz: float = 440.0) -> NDArray[np.float32]:
    times_s = np.arange(round(rate_hz * duration_s)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * frequency_hz * times_s)).astype(np.float32)


def dominant_hz(samples: NDArray[np.float32], rate_hz: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * rate_hz / len(samples))


def encoded(container: str, duration_s: float = 0.5, rate_hz: int = 24_000, channels: int = 1) -> EncodedAudio:
    return codec.encode(tone(rate_hz, duration_s), rate_hz, AudioFormat(container, rate_hz, channels))


def labelled(data: bytes, container: str = "m4a") -> EncodedAudio:
    return EncodedAudio(data, AudioFormat(container, 48_000, 2))


def muxed(muxer: str, encoder: str, samples: NDArray[np.generic], **about: str) -> bytes:
    """A file that our encoder would not make. samples: as PyAV wants them for the sample format."""
    buffer = io.BytesIO()
    rate_hz = int(about.pop("rate_hz", "24000"))
    layout, sample_format = about.pop("layout", "mono"), about.pop("sample_format", "fltp")
    with av.open(buffer, "w", format=muxer, options=about) as container:
        stream = container.add_stream(encoder, rate=rate_hz, layout=layout, format=sample_format)
        frame = av.AudioFrame.from_ndarray(samples, format=sample_format, layout=layout)
        frame.sample_rate, frame.pts = rate_hz, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


# --- there and back ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("container", codec.FORMATS)
def test_a_tone_survives_every_format(container: str, channels: int) -> None:
    audio = codec.encode(tone(24_000, 1), 24_000, AudioFormat(container, 48_000, channels))
    decoded = codec.decode(audio)
    assert audio.format == AudioFormat(container, 48_000, channels)
    assert (decoded.sample_rate_hz, decoded.channels, decoded.container) == (48_000, channels, container)
    assert decoded.samples.shape[1] == channels
    assert decoded.samples.dtype == np.float32
    for channel in decoded.samples.T:
        assert dominant_hz(channel, 48_000) == pytest.approx(440, abs=2)
        assert np.sqrt((channel[4_800:43_200] ** 2).mean()) == pytest.approx(0.5 / math.sqrt(2), rel=0.05)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("container", codec.FORMATS)
def test_every_rate_works_and_the_duration_is_as_told(container: str, rate_hz: int) -> None:
    n_samples, source_hz = 7_201, 24_000
    output = AudioFormat(container, rate_hz, 2)
    audio = codec.encode(tone(source_hz, 1)[:n_samples], source_hz, output)
    decoded = codec.decode(audio)
    assert decoded.sample_rate_hz == audio.format.sample_rate_hz
    assert decoded.duration_ms == pytest.approx(codec.decoded_duration_ms(n_samples, source_hz, output), abs=1)
    if container != "aac":
        assert decoded.samples.shape[0] / decoded.sample_rate_hz == pytest.approx(n_samples / source_hz, abs=0.001)


@pytest.mark.parametrize(
    ("container", "asked_hz", "made_hz"),
    [
        ("m4a", 50_001, 64_000),
        ("aac", 8_001, 11_025),
        ("mp3", 96_000, 48_000),
        ("mp3", 23_000, 24_000),
        ("opus", 16_000, 48_000),
        ("webm", 96_000, 48_000),
        ("flac", 70_003, 70_010),
        ("flac", 50_001, 50_001),
        ("wav", 70_003, 70_003),
        ("pcm_s16le", 70_003, 70_003),
    ],
)
def test_a_rate_that_a_codec_lacks_becomes_the_next_that_it_has(container: str, asked_hz: int, made_hz: int) -> None:
    assert codec.encode(tone(24_000, 0.1), 24_000, AudioFormat(container, asked_hz, 1)).format.sample_rate_hz == made_hz


@pytest.mark.parametrize(("rate_hz", "channels", "least_db"), [(48_000, 2, 40), (44_100, 1, 28)])
def test_aac_stays_close_to_the_speech(rate_hz: int, channels: int, least_db: float) -> None:
    spoken = clips.clip("sense_and_sensibility-0870.wav", 24_000)
    heard = codec.decode(codec.encode(spoken, 24_000, AudioFormat("m4a", rate_hz, channels))).samples[:, 0]
    wanted = codec.resample(spoken, 24_000, rate_hz)[: heard.shape[0], 0]
    noise = wanted - heard[: wanted.shape[0]]
    assert 10 * np.log10(np.square(wanted).mean() / np.square(noise).mean()) >= least_db


@pytest.mark.parametrize("container", ["m4a", "mp4"])
@pytest.mark.parametrize("n_samples", [1, 1_023, 1_024, 1_025, 48_000, 48_007, 480_001])
def test_mp4_gives_back_as_many_samples_as_it_got(container: str, n_samples: int) -> None:
    samples = np.resize(tone(48_000, 1), n_samples)
    audio = codec.encode(samples, 48_000, AudioFormat(container, 48_000, 1))
    assert codec.decode(audio).samples.shape == (n_samples, 1)
    assert audio.data.find(b"moov") < audio.data.find(b"mdat"), "the index comes first"
    assert b"moof" not in audio.data


@pytest.mark.parametrize("container", codec.FORMATS)
@pytest.mark.parametrize("n_samples", [1, 480])
def test_hardly_any_samples_and_silence_still_make_a_file(container: str, n_samples: int) -> None:
    audio = codec.encode(pcm.silence(n_samples, 1), 48_000, AudioFormat(container, 48_000, 2))
    decoded = codec.decode(audio)
    assert decoded.channels == 2
    assert np.abs(decoded.samples).max() < 0.01


@pytest.mark.parametrize("container", codec.FORMATS)
def test_no_samples_are_not_encoded(container: str) -> None:
    with pytest.raises(SynthesisFailed):
        codec.encode(pcm.silence(0, 1), 48_000, AudioFormat(container, 48_000, 1))


def test_too_loud_samples_are_clipped_and_stereo_is_mixed_to_mono() -> None:
    stereo = np.stack([np.full(100, 3.0), np.full(100, 2.0)], axis=1).astype(np.float32)
    audio = codec.encode(stereo, 8_000, AudioFormat("pcm_f32le", 8_000, 1))
    assert np.frombuffer(audio.data, "<f4").tolist() == [1.0] * 100


@pytest.mark.parametrize("container", ["m4a", "mp4"])
def test_ffprobe_accepts_what_we_call_m4a(container: str, tmp_path: Path) -> None:
    ffprobe = shutil.which("ffprobe")
    if ffprobe is None:
        pytest.skip("ffprobe is not installed")
    path = tmp_path / "dub.m4a"
    path.write_bytes(encoded(container, 6.0, 48_000, 2).data)
    command = [ffprobe, "-v", "error", "-show_streams", "-show_format", "-of", "json", str(path)]
    result = subprocess.run(command, capture_output=True, timeout=20, check=True)
    assert result.stderr == b""
    told = json.loads(result.stdout)
    (stream,) = told["streams"]
    assert "m4a" in told["format"]["format_name"]
    assert (stream["codec_name"], stream["sample_rate"], stream["channels"]) == ("aac", "48000", 2)
    assert float(told["format"]["duration"]) == pytest.approx(6.0, abs=0.001)


# --- what others send -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_bytes_tell_the_format_and_not_the_label(container: str) -> None:
    audio = encoded(container)
    decoded = codec.decode(EncodedAudio(audio.data, AudioFormat("m4a", 8_000, 2)))
    assert (decoded.sample_rate_hz, decoded.channels) == (audio.format.sample_rate_hz, 1)
    assert decoded.container == "m4a"


@pytest.mark.parametrize(
    ("encoder", "sample_format", "dtype"),
    [("pcm_u8", "u8", np.uint8), ("pcm_s32le", "s32", np.int32), ("pcm_f32le", "flt", np.float32)],
)
def test_every_sample_format_has_the_same_scale(encoder: str, sample_format: str, dtype: type[np.generic]) -> None:
    scale = {np.uint8: 127, np.int32: 2**31 - 1, np.float32: 1}[dtype]
    values = (tone(24_000, 0.5) * scale + (128 if dtype is np.uint8 else 0)).astype(dtype)[np.newaxis]
    decoded = codec.decode(labelled(muxed("wav", encoder, values, sample_format=sample_format)))
    assert np.abs(decoded.samples[:, 0] - tone(24_000, 0.5)).max() < 0.02


def test_surround_is_mixed_to_stereo() -> None:
    values = np.zeros((6, 12_000), dtype=np.float32)
    values[2] = tone(24_000, 0.5)
    decoded = codec.decode(labelled(muxed("adts", "aac", values, layout="5.1")))
    assert decoded.channels == 2
    assert dominant_hz(decoded.samples[:, 0], 24_000) == pytest.approx(440, abs=4)


def test_a_fragmented_mp4_is_not_cut() -> None:
    data = muxed(
        "mp4", "aac", tone(24_000, 1)[np.newaxis], movflags="empty_moov+default_base_moof", frag_duration="200000"
    )
    assert codec.decode(labelled(data)).duration_ms == pytest.approx(1_000, abs=90)


def test_an_mp4_that_tells_no_duration_keeps_all_samples() -> None:
    data = bytearray(encoded("m4a").data.replace(b"edts", b"free"))
    for name, offset in ((b"mdhd", 20), (b"tkhd", 24), (b"mvhd", 20)):
        at = data.find(name) + offset
        data[at : at + 4] = bytes(4)
    assert codec.decode(labelled(bytes(data))).duration_ms >= 500


@pytest.mark.parametrize("container", ["aac", "m4a", "mp3", "wav", "flac", "webm", "ogg"])
def test_what_a_cut_off_file_still_holds_is_kept(container: str) -> None:
    data = encoded(container, 4.0).data
    assert 1_000 < codec.decode(labelled(data[: len(data) * 2 // 3])).duration_ms < 3_500


def test_a_damaged_packet_in_the_middle_is_passed_over() -> None:
    data = bytearray(encoded("aac", 2.0).data)
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(range(200))
    assert codec.decode(labelled(bytes(data))).duration_ms == pytest.approx(2_000, abs=300)


def loud_ms(decoded: codec.Decoded) -> float:
    return 1000 * np.count_nonzero(np.abs(decoded.samples[:, 0]) > 0.05) / decoded.sample_rate_hz


@pytest.mark.parametrize("first", [(24_000, 1), (48_000, 2), (16_000, 2)])
@pytest.mark.parametrize("then", [(48_000, 1), (24_000, 2), (16_000, 1), (32_000, 2)])
@pytest.mark.parametrize("container", ["aac", "mp3"])
def test_a_change_of_rate_or_channels_is_heard_whole(
    container: str, first: tuple[int, int], then: tuple[int, int]
) -> None:
    parts = [codec.encode(tone(24_000, 1.0), 24_000, AudioFormat(container, *shape)).data for shape in (first, then)]

    decoded = codec.decode(labelled(b"".join(parts)))

    assert decoded.sample_rate_hz == first[0]
    assert decoded.channels == max(first[1], then[1])
    assert decoded.duration_ms == pytest.approx(2_000, abs=250)
    assert loud_ms(decoded) == pytest.approx(2_000 * 0.93, abs=100)  # a sine is not always loud


def test_a_damaged_header_changes_nothing() -> None:
    odd = codec.encode(tone(24_000, 0.03), 24_000, AudioFormat("aac", 16_000, 2)).data
    decoded = codec.decode(labelled(encoded("aac").data + odd + encoded("aac").data))

    assert (decoded.sample_rate_hz, decoded.channels) == (24_000, 1)
    assert decoded.duration_ms < 1_200


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("container", ["m4a", "mp4", "ogg", "opus", "flac", "webm", "wav"])
def test_a_piece_of_a_file_is_told_to_lack_its_header(container: str, share: float) -> None:
    data = encoded(container, 3.0).data
    begins = {"ogg": b"OggS", "opus": b"OggS", "flac": b"\xff\xf8", "webm": b"\xa3"}.get(container)
    at = data.index(begins, int(len(data) * share)) if begins and begins in data[int(len(data) * share) :] else 1
    with pytest.raises(InvalidAudio, match="a fragment has to be a whole file"):
        codec.decode(labelled(data[at or 1 :], container))


def test_samples_of_the_other_byte_order_are_refused() -> None:
    data = bytearray(encoded("wav").data)
    data[:4] = b"RIFX"
    with pytest.raises(InvalidAudio, match="big-endian"):
        codec.decode(labelled(bytes(data), "wav"))


# --- hostile media ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"\0", b"not audio" * 500, b"\xff\xf1" + b"\0" * 50, b"fLaC", b"OggS" * 99])
def test_junk_is_invalid_audio(data: bytes) -> None:
    with pytest.raises(InvalidAudio) as caught:
        codec.decode(labelled(data))
    assert caught.value.stage is Stage.ASR


@pytest.mark.parametrize(
    "script",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{path}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{path}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {path}\n",
        "ffconcat version 1.0\nfile {name}\n",
    ],
)
def test_a_playlist_never_reads_another_file(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.wav").write_bytes(encoded("wav").data)
    data = script.format(path=tmp_path / "secret.wav", name="secret.wav").encode()
    with pytest.raises(InvalidAudio):
        codec.decode(labelled(data))


def test_whatever_a_demuxer_would_open_is_refused() -> None:
    with pytest.raises(PermissionError):
        codec._open_nothing("file:///etc/passwd", 1, {})


def test_a_flac_bomb_is_found_by_counting() -> None:
    data = muxed("flac", "flac", np.zeros((1, 8_000 * 3_600), dtype=np.int16), rate_hz="8000", sample_format="s16")
    assert len(data) < 1_000_000
    with pytest.raises(FragmentTooLarge):
        codec.decode(labelled(data, "flac"))


@pytest.mark.parametrize("container", codec.FORMATS)
def test_the_longest_fragment_fits_and_a_longer_one_does_not(container: str) -> None:
    audio = encoded(container, 2.0, 8_000)
    codec.decode(audio, max_duration_ms=2_000)
    with pytest.raises(FragmentTooLarge) as caught:
        codec.decode(audio, max_duration_ms=1_000)
    assert caught.value.details == {"max_duration_ms": 1_000}


def test_an_mp4_that_claims_endless_samples_is_refused() -> None:
    data = bytearray(encoded("m4a").data)
    at = data.find(b"stsz")
    data[at + 8 : at + 16] = b"\0\0\0\1\x7f\xff\xff\xff"
    with pytest.raises(InvalidAudio, match="claims"):
        codec.decode(labelled(bytes(data)))


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_a_film_without_sound_is_invalid_audio(container: str) -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as film:
        stream = film.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), dtype=np.uint8), format="rgb24")
        film.mux(stream.encode(frame))
        film.mux(stream.encode(None))
    with pytest.raises(InvalidAudio, match="no audio track"):
        codec.decode(labelled(buffer.getvalue(), "mp4"))


def test_a_decoder_that_is_not_on_the_list_is_not_run() -> None:
    data = muxed("matroska", "ac3", tone(48_000, 0.2)[np.newaxis], rate_hz="48000")
    with pytest.raises(InvalidAudio, match="no audio track that is known"):
        codec.decode(labelled(data, "webm"))


@pytest.mark.parametrize("rate_hz", ["4000", "300000"])
def test_rates_out_of_bounds_are_refused(rate_hz: str) -> None:
    data = muxed("wav", "pcm_s16le", np.ones((1, 9_000), dtype=np.int16), rate_hz=rate_hz, sample_format="s16")
    with pytest.raises(InvalidAudio, match="Hz is not between"):
        codec.decode(labelled(data, "wav"))


@pytest.mark.parametrize(
    ("container", "rate_hz", "channels", "data"),
    [
        ("pcm_s16le", 48_000, 1, b""),
        ("pcm_s16le", 48_000, 2, b"abc"),
        ("pcm_s16le", 48_000, 9, bytes(18)),
        ("pcm_s16le", 48_000, 0, bytes(18)),
        ("pcm_s16le", 0, 1, bytes(18)),
        ("pcm_f32le", 48_000, 1, np.array([np.nan], "<f4").tobytes()),
    ],
)
def test_raw_samples_that_make_no_sense_are_refused(container: str, rate_hz: int, channels: int, data: bytes) -> None:
    with pytest.raises(InvalidAudio):
        codec.decode(EncodedAudio(data, AudioFormat(container, rate_hz, channels)))


def test_numbers_that_are_none_inside_a_container_are_refused() -> None:
    values = np.full((1, 9_000), np.nan, dtype=np.float32)
    with pytest.raises(InvalidAudio, match="NaN"):
        codec.decode(labelled(muxed("wav", "pcm_f32le", values, sample_format="flt"), "wav"))


FILES = {container: encoded(container).data for container in CONTAINERS}


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(CONTAINERS), st.data())
def test_flipped_and_missing_bytes_never_do_worse_than_a_refusal(container: str, data: st.DataObject) -> None:
    media = bytearray(FILES[container])
    header_or_anywhere = st.integers(0, min(len(media), 1_000) - 1) | st.integers(0, len(media) - 1)
    for at in data.draw(st.lists(header_or_anywhere, max_size=12)):
        media[at] ^= data.draw(st.integers(1, 255))
    media = media[: data.draw(st.integers(0, len(media)) | st.just(len(media)))]
    try:
        decoded = codec.decode(labelled(bytes(media)), max_duration_ms=2_000)
    except (InvalidAudio, FragmentTooLarge):
        return
    assert np.isfinite(decoded.samples).all()
    assert np.abs(decoded.samples).max() <= 1


@settings(deadline=None, max_examples=100)
@given(st.sampled_from([b"", b"\xff\xf1", b"ID3", b"fLaC", b"OggS", b"RIFF", b"\0\0\0\x08ftyp"]), st.binary())
def test_random_bytes_never_do_worse_than_a_refusal(magic: bytes, data: bytes) -> None:
    try:
        codec.decode(labelled(magic + data))
    except (InvalidAudio, FragmentTooLarge):
        return


# --- rates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000])
def test_speech_recognition_hears_mono_at_16_khz(rate_hz: int) -> None:
    samples = pcm.map_channels(pcm.with_channel_axis(tone(rate_hz, 1)), 2)
    heard = codec.to_asr(codec.Decoded(samples, rate_hz, 2, "wav"))
    assert heard.shape == (16_000,)
    assert heard.dtype == np.float32
    assert dominant_hz(heard, 16_000) == pytest.approx(440, abs=2)


def test_resampling_to_the_same_rate_changes_nothing() -> None:
    samples = tone(24_000, 0.1)
    assert codec.resample(samples, 24_000, 24_000) is samples
    assert codec.resample(samples, 24_000, 48_000).shape == (4_800,)
