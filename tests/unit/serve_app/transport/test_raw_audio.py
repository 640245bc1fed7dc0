"""Cutting stretches out of raw audio that comes in any pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.audio import pcm
from deployments.contracts.values import RAW_BYTES, AudioFormat
from serve_app.transport.raw_audio import RawAudio


def test_what_can_be_cut_is_what_recognition_decodes_without_a_container():
    for container, size_bytes in RAW_BYTES.items():
        assert pcm.from_bytes(bytes(6 * size_bytes), container, channels=2).shape == (3, 2)


@given(
    container=st.sampled_from(sorted(RAW_BYTES)),
    rate_hz=st.sampled_from([8000, 11_025, 16_000, 22_050, 44_100, 48_000]),
    channels=st.integers(1, 2),
    pieces=st.lists(st.binary(min_size=0, max_size=900), max_size=30),
    drops=st.lists(st.integers(0, 200), max_size=4),
)
def test_a_cut_is_what_was_fed_between_two_times(container, rate_hz, channels, pieces, drops):
    audio = RawAudio(AudioFormat(container, rate_hz, channels))
    fed, frame = b"", RAW_BYTES[container] * channels
    dropped_ms = 0
    for at, piece in enumerate(pieces):
        audio.add(piece)
        fed += piece
        assert audio.received_ms == len(fed) // frame * 1000 // rate_hz
        if at < len(drops):
            dropped_ms = max(dropped_ms, min(drops[at], audio.received_ms))
            audio.drop(dropped_ms)
    end_ms = audio.received_ms
    cut = audio.cut(dropped_ms, end_ms)
    assert cut.data == fed[dropped_ms * rate_hz // 1000 * frame : end_ms * rate_hz // 1000 * frame]
    assert audio.held_bytes == len(fed) - dropped_ms * rate_hz // 1000 * frame


def test_bytes_that_make_no_whole_sample_wait_for_the_rest():
    audio = RawAudio(AudioFormat("pcm_s16le", 16_000, 1))
    audio.add(b"\1" * 31)
    audio.add(b"\2" * 1)
    assert audio.received_ms == 1
    assert audio.cut(0, 1).data == b"\1" * 31 + b"\2"


@pytest.mark.parametrize("before_ms", [0, -5])
def test_dropping_nothing_keeps_all(before_ms):
    audio = RawAudio(AudioFormat("mulaw", 8000, 1))
    audio.add(b"\0" * 80)
    audio.drop(before_ms)
    assert audio.held_bytes == 80


@pytest.mark.parametrize("container", sorted(RAW_BYTES))
@pytest.mark.parametrize("rate_hz", [11_025, 22_050])
def test_cuts_that_follow_each_other_lose_and_repeat_nothing_at_odd_rates(container, rate_hz):
    frame = RAW_BYTES[container] * 2
    fed = bytes(at % 251 for at in range(rate_hz * frame))
    audio = RawAudio(AudioFormat(container, rate_hz, 2))
    audio.add(fed)
    together = b""
    for start_ms in range(0, 1000, 37):
        end_ms = min(start_ms + 37, 1000)
        together += audio.cut(start_ms, end_ms).data
        audio.drop(end_ms)
    assert together == fed
    assert audio.held_bytes == 0
