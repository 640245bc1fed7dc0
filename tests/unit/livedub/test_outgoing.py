import pytest
from hypothesis import given
from hypothesis import strategies as st

from livedub.outgoing import CHUNK_BYTES, Outgoing
from serve_app.protocol import AudioReady, TranscriptionConfig

SECOND = 32_000
"""Bytes of 16 kHz, 16 bit, mono."""


def ready(window_bytes: int = 1_000_000) -> AudioReady:
    return AudioReady(
        stream_id="s", session_id="x", window_bytes=window_bytes, idle_timeout_s=1, max_session_s=1,
        max_transcript_characters=1,
    )  # fmt: skip


def outgoing(window_bytes: int = 1_000_000, **config) -> Outgoing:
    made = Outgoing(TranscriptionConfig(**config))
    made.connected(ready(window_bytes))
    return made


def sent(audio: Outgoing) -> bytes:
    """All that may be sent now."""
    return b"".join(iter(audio.next, None))


def test_what_is_given_leaves_once_in_order_in_chunks():
    audio, data = outgoing(), bytes(range(256)) * 1000
    audio.add(data)
    first = audio.next()
    assert len(first) == CHUNK_BYTES
    assert first + sent(audio) == data
    assert (audio.next(), audio.unsent_bytes) == (None, 0)


def test_beyond_the_window_chunks_wait_until_some_are_taken():
    audio = outgoing(window_bytes=2 * CHUNK_BYTES)
    audio.add(bytes(5 * CHUNK_BYTES))
    assert len(sent(audio)) == 2 * CHUNK_BYTES
    assert audio.unsent_bytes == 3 * CHUNK_BYTES
    audio.taken(CHUNK_BYTES)
    assert len(sent(audio)) == CHUNK_BYTES


def test_what_no_final_covers_is_sent_again_on_a_new_connection_and_times_go_on():
    audio, data = outgoing(), bytes(range(250)) * 4 * SECOND
    data = data[: 3 * SECOND]
    audio.add(data)
    sent(audio)
    audio.covered(500)
    audio.covered(1250)
    audio.connected(ready())
    assert audio.offset_ms == 1250
    assert sent(audio) == data[1250 * 32 :]
    audio.covered(250)
    audio.connected(ready())
    assert audio.offset_ms == 1500
    assert sent(audio) == data[1500 * 32 :]
    audio.covered(1500)
    assert not audio.unheard


def test_packets_of_opus_stay_whole_and_are_not_kept():
    audio = outgoing(format="opus")
    for packet in (b"one", b"three"):
        audio.add(packet)
    assert audio.can_be_resent
    assert [audio.next(), audio.next(), audio.next()] == [b"one", b"three", None]
    assert not audio.unheard
    assert not audio.can_be_resent


def test_raw_audio_is_given_in_whole_samples():
    with pytest.raises(ValueError, match="3 bytes hold no whole number of samples of 4 bytes"):
        outgoing(channels=2).check(b"123")
    outgoing(format="webm").check(b"123")


@given(
    st.lists(st.integers(0, 300), max_size=6),
    st.lists(st.integers(1, 40), max_size=8),
    st.sampled_from([8000, 11_025, 44_100]),
)
def test_whatever_is_covered_and_lost_no_sample_is_missing(sizes_ms, covered_ms, rate_hz):
    """Each connection's audio, cut where its finals end, is together what was given."""
    audio = outgoing(format="pcm_s16le", sample_rate_hz=rate_hz)
    n_samples = sum(sizes_ms) * rate_hz // 1000
    data = b"".join(number.to_bytes(2, "little") for number in range(n_samples))
    audio.add(data)
    heard = b""
    for step_ms in covered_ms:
        session = sent(audio)
        n_bytes = step_ms * rate_hz // 1000 * 2
        if n_bytes > len(session):
            audio.connected(ready())
            break
        heard += session[:n_bytes]
        audio.covered(step_ms)
        audio.connected(ready())
    assert heard + sent(audio) == data
