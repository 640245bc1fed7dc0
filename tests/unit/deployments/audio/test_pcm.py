import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.audio import pcm
from deployments.contracts.values import Span
from deployments.errors import InvalidAudio


@given(st.lists(st.integers(-32_768, 32_767), max_size=64).filter(lambda values: len(values) % 2 == 0))
def test_s16_bytes_come_back_unchanged(values: list[int]) -> None:
    data = np.array(values, dtype="<i2").tobytes()
    assert pcm.to_bytes(pcm.from_bytes(data, "pcm_s16le", 2), "pcm_s16le") == data


@given(st.lists(st.floats(-1, 1, width=32), max_size=64))
def test_f32_bytes_come_back_unchanged(values: list[float]) -> None:
    data = np.array(values, dtype="<f4").tobytes()
    samples = pcm.from_bytes(data, "pcm_f32le", 1)
    assert samples.shape == (len(values), 1)
    assert pcm.to_bytes(samples, "pcm_f32le") == data


@pytest.mark.parametrize(("container", "n_bytes"), [("pcm_s16le", 3), ("pcm_s16le", 6), ("pcm_f32le", 12)])
def test_half_a_sample_is_refused(container: str, n_bytes: int) -> None:
    with pytest.raises(InvalidAudio) as caught:
        pcm.from_bytes(bytes(n_bytes), container, 2)
    assert caught.value.details["frame_bytes"] in {4, 8}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(value: float) -> None:
    with pytest.raises(InvalidAudio):
        pcm.from_bytes(np.array([0, value], dtype="<f4").tobytes(), "pcm_f32le", 1)


def test_loud_samples_are_clipped_and_never_wrap_around() -> None:
    loud = np.array([[3.0], [-3.0], [1.0], [-1.0]], dtype=np.float32)
    assert pcm.to_s16(loud).ravel().tolist() == [32_767, -32_768, 32_767, -32_768]
    assert np.frombuffer(pcm.to_bytes(loud, "pcm_f32le"), "<f4").tolist() == [1, -1, 1, -1]
    assert pcm.from_bytes(loud.astype("<f4").tobytes(), "pcm_f32le", 1).max() == 1


def test_mono_is_heard_on_both_sides_and_back() -> None:
    mono = np.array([[0.5], [-0.25]], dtype=np.float32)
    stereo = pcm.map_channels(mono, 2)
    assert stereo.tolist() == [[0.5, 0.5], [-0.25, -0.25]]
    assert pcm.map_channels(stereo, 1).tolist() == mono.tolist()
    assert pcm.map_channels(stereo, 2) is stereo


@pytest.mark.parametrize("channels", [1, 2])
def test_surround_keeps_the_centre_and_does_not_clip(channels: int) -> None:
    surround = np.zeros((1, 6), dtype=np.float32)
    surround[0, 2] = 1.0
    mixed = pcm.map_channels(surround, channels)
    assert mixed.shape == (1, channels)
    assert mixed.min() > 0.05
    assert pcm.map_channels(np.ones((1, 6), dtype=np.float32), channels).max() == pytest.approx(1.0)


def test_silence_is_zeros_of_the_shape_asked_for() -> None:
    assert pcm.silence(5, 2).shape == (5, 2)
    assert not pcm.silence(5, 2).any()


@pytest.mark.parametrize("shape", [(4,), (4, 2)])
def test_fitting_a_length_cuts_or_fills_up_with_silence(shape: tuple[int, ...]) -> None:
    samples = np.ones(shape, dtype=np.float32)
    assert pcm.fit_length(samples, 2).shape == (2, *shape[1:])
    longer = pcm.fit_length(samples, 7)
    assert longer.shape == (7, *shape[1:])
    assert longer[:4].all()
    assert not longer[4:].any()
    assert longer.dtype == np.float32


def test_quiet_around_the_voice_is_trimmed_but_for_a_margin() -> None:
    samples = np.full(4_000, 0.001, dtype=np.float32)
    samples[1_000:2_000] = 0.5
    assert pcm.trim_silence(samples, 1_000, keep_ms=10).shape == (1_020,)
    assert pcm.trim_silence(samples[:, np.newaxis], 1_000, keep_ms=0).shape == (1_000, 1)
    assert pcm.trim_silence(samples[1_000:2_000], 1_000, keep_ms=10).shape == (1_000,)


def test_nothing_loud_trims_to_nothing() -> None:
    assert pcm.trim_silence(pcm.silence(100, 2), 8_000).shape == (0, 2)
    assert pcm.trim_silence(pcm.silence(0, 1), 8_000).shape == (0, 1)


@pytest.mark.parametrize("shape", [(100,), (100, 2)])
def test_a_fade_starts_and_ends_at_zero_and_leaves_the_middle(shape: tuple[int, ...]) -> None:
    samples = np.ones(shape, dtype=np.float32)
    faded = pcm.fade(samples, 1_000, 10)
    assert not faded[0].any()
    assert not faded[-1].any()
    assert (faded[10:90] == 1).all()
    assert samples.all(), "the input stays as it was"


@pytest.mark.parametrize("n_samples", [0, 1, 3])
def test_a_fade_of_hardly_anything_keeps_its_length(n_samples: int) -> None:
    assert pcm.fade(np.ones(n_samples, dtype=np.float32), 48_000).shape == (n_samples,)


@given(st.integers(0, 60_000), st.integers(8_000, 96_000))
def test_durations_survive_the_way_to_samples_and_back(duration_ms: int, sample_rate_hz: int) -> None:
    assert pcm.samples_to_ms(pcm.ms_to_samples(duration_ms, sample_rate_hz), sample_rate_hz) == duration_ms


def test_loud_spans_are_where_something_is_heard() -> None:
    samples = np.zeros((4_000, 2), dtype=np.float32)
    samples[800:1_200] = 0.5
    samples[1_280:1_600] = 0.4
    samples[2_000:3_999] = 0.3
    assert pcm.loud_spans(samples, 1_000) == (Span(800, 1600), Span(2000, 4000))
    assert pcm.loud_spans(samples, 1_000, least_gap_ms=50) == (Span(800, 1200), Span(1280, 1600), Span(2000, 4000))


def test_what_is_far_below_the_loudest_is_a_pause() -> None:
    samples = np.full(1_000, 0.01, dtype=np.float32)
    samples[300:600] = 0.9
    assert pcm.loud_spans(samples, 1_000) == (Span(300, 600),)
    assert pcm.loud_spans(samples, 1_000, below_peak_db=50) == (Span(0, 1000),)


@pytest.mark.parametrize("n_samples", [0, 1, 99])
def test_silence_has_no_loud_spans(n_samples: int) -> None:
    assert pcm.loud_spans(np.zeros(n_samples, dtype=np.float32), 48_000) == ()


@pytest.mark.parametrize("weaker", [1.0, 0.95, 0.8])
def test_channels_that_cancel_each_other_out_are_heard(weaker: float) -> None:
    voice = np.sin(np.arange(16_000) / 9).astype(np.float32) / 2

    heard = pcm.heard(np.stack([voice, -weaker * voice], axis=1))

    assert np.abs(heard).max() == pytest.approx(0.5, abs=0.01)


def test_channels_that_have_nothing_in_common_are_mixed() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, (16_000, 2)).astype(np.float32)

    assert np.allclose(pcm.heard(noise), (noise - noise.mean(axis=0)).mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_constant_offset_is_not_heard(channels: int) -> None:
    voice = np.sin(np.arange(16_000) / 9).astype(np.float32)[:, None].repeat(channels, axis=1) / 10

    heard = pcm.heard(voice + np.float32(0.6))

    assert abs(float(heard.mean())) < 1e-4
    assert np.abs(heard).max() == pytest.approx(0.1, abs=0.01)
    assert pcm.heard(voice[:0]).shape == (0,)


@pytest.mark.parametrize("law", ["mulaw", "alaw"])
def test_a_telephones_bytes_mean_what_ffmpeg_says(law):
    data = bytes(range(256))
    context = av.CodecContext.create(f"pcm_{law}", "r")
    context.sample_rate, context.layout = 8000, "mono"
    [frame] = context.decode(av.Packet(data))
    assert np.array_equal(pcm.from_bytes(data, law, 1)[:, 0] * 32_768, frame.to_ndarray()[0])
