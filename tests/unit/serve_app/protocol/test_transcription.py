"""What clients of live transcription send."""

import base64
from typing import Any

import pytest

from serve_app.protocol import (
    LIVE_FORMATS,
    MAX_CHUNK_BYTES,
    AudioChunk,
    AudioStart,
    ErrorCode,
    TranscriptionConfig,
    WireError,
    parse,
)
from serve_app.protocol.transcription import ACK_BYTES, WINDOW_BYTES


def test_what_an_audio_start_leaves_out_has_the_defaults_of_the_protocol() -> None:
    start = parse(AudioStart, {})
    assert (start.stream_id, start.mode, start.reconnections) == (None, "transcribe", 0)
    assert start.config.model_dump() == {
        "source_language": "en",
        "translate_to": [],
        "format": "pcm_s16le",
        "sample_rate_hz": 16_000,
        "channels": 1,
        "interims": True,
        "endpointing_ms": 500,
        "domain_hints": None,
    }


@pytest.mark.parametrize(("given", "meant"), [("es", ["es"]), (["es", "pt-BR"], ["es", "pt-BR"])])
def test_one_language_may_come_as_a_bare_string(given: Any, meant: list[str]) -> None:
    assert parse(AudioStart, {"config": {"translate_to": given}}).config.translate_to == meant


@pytest.mark.parametrize(
    "config",
    [
        {"format": "g729"},
        {"sample_rate_hz": 7999},
        {"sample_rate_hz": 48_001},
        {"channels": 3},
        {"endpointing_ms": 299},
        {"translate_to": ["es", "not a language"]},
        {"translate_to": [f"x{letter}" for letter in "abcdefghi"]},
        {"source_language": ""},
    ],
    ids=str,
)
def test_a_start_out_of_bounds_is_refused_by_its_field(config: dict[str, Any]) -> None:
    with pytest.raises(WireError) as refused:
        parse(AudioStart, {"config": config})
    assert refused.value.code == ErrorCode.INVALID_CONFIG
    assert refused.value.details["field"].startswith(f"config.{next(iter(config))}")


@pytest.mark.parametrize(
    ("config", "frame_bytes"),
    [
        ({}, 2),
        ({"channels": 2}, 4),
        ({"format": "pcm_f32le", "channels": 2}, 8),
        ({"format": "mulaw"}, 1),
        ({"format": "alaw", "channels": 2}, 2),
        ({"format": "opus", "channels": 2}, 1),
        ({"format": "webm"}, 1),
    ],
)
def test_a_chunk_of_raw_audio_holds_whole_samples_of_all_channels(config: dict[str, Any], frame_bytes: int) -> None:
    assert TranscriptionConfig(**config).frame_bytes == frame_bytes


def test_every_format_is_told_to_the_session_as_it_is_named() -> None:
    for name in LIVE_FORMATS:
        found = TranscriptionConfig(format=name, sample_rate_hz=8000).audio_format
        assert (found.container, found.sample_rate_hz, found.channels) == (name, 8000, 1)


def test_a_chunk_comes_as_bytes_or_as_base64() -> None:
    assert parse(AudioChunk, {"data": b"\x00\xff"}).payload() == b"\x00\xff"
    assert parse(AudioChunk, {"data_base64": base64.b64encode(b"\x00\xff").decode()}).payload() == b"\x00\xff"


@pytest.mark.parametrize("payload", [{}, {"data": b"a", "data_base64": "YQ=="}, {"data": "YQ=="}, {"data": [1]}, b"a"])
def test_a_chunk_that_is_none_is_malformed(payload: Any) -> None:
    with pytest.raises(WireError) as refused:
        parse(AudioChunk, payload)
    assert refused.value.code == ErrorCode.MALFORMED_DATA


def test_broken_base64_of_a_chunk_is_named_by_its_field() -> None:
    with pytest.raises(WireError) as refused:
        parse(AudioChunk, {"data_base64": "A"}).payload()
    assert refused.value.details == {"field": "data_base64"}


def test_a_chunk_that_is_too_large_says_how_large_one_may_be() -> None:
    with pytest.raises(WireError) as refused:
        parse(AudioChunk, {"data": bytes(MAX_CHUNK_BYTES + 1)}).payload(MAX_CHUNK_BYTES)
    assert refused.value.code == ErrorCode.FRAGMENT_TOO_LARGE
    assert refused.value.details == {
        "field": "data", "size_bytes": MAX_CHUNK_BYTES + 1, "limit_bytes": MAX_CHUNK_BYTES,
    }  # fmt: skip


def test_a_client_that_waits_for_room_is_told_of_it_before_its_window_is_full() -> None:
    assert 0 < ACK_BYTES < WINDOW_BYTES
