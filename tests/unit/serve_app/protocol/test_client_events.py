import base64
import math
from typing import Any

import pytest

from serve_app.protocol import (
    MAX_FRAGMENT_BYTES,
    ErrorCode,
    FragmentAck,
    FragmentAudio,
    FragmentData,
    StreamEnd,
    StreamInit,
    StreamPause,
    StreamResume,
    WireError,
    parse,
)

ADMITTED_FORMATS = ("pcm_s16le", "pcm_f32le", "m4a", "aac", "wav", "mp3", "ogg", "opus", "flac", "webm", "mp4")


def init(*, config: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {"stream_id": "s", "worker_id": "w", "config": {"target_language": "es", **(config or {})}, **changes}


def fragment(*, audio: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    sound = {"format": "m4a", "sample_rate_hz": 48_000, "channels": 2, "duration_ms": 6000, "data_base64": "AAAA"}
    return {
        "fragment_id": "f",
        "stream_id": "s",
        "sequence_number": 0,
        "timestamp": 1_700_000_000_000,
        "audio": sound | (audio or {}),
        **changes,
    }


def test_what_a_stream_init_leaves_out_has_the_defaults_of_the_protocol() -> None:
    config = parse(StreamInit, init()).config
    assert config.model_dump() == {
        "source_language": "en",
        "target_language": "es",
        "voice_profile": "default",
        "chunk_duration_ms": 6000,
        "sample_rate_hz": 48_000,
        "channels": 1,
        "format": "m4a",
        "domain_hints": None,
    }
    opened = parse(StreamInit, init())
    assert (opened.max_inflight, opened.timeout_ms, opened.first_sequence_number) == (None, None, 0)


def test_the_init_of_an_existing_worker_is_taken() -> None:
    config = {
        "source_language": "en",
        "voice_profile": "default",
        "format": "m4a",
        "sample_rate_hz": 48_000,
        "channels": 2,
        "chunk_duration_ms": 6000,
    }
    assert parse(StreamInit, init(config=config)).config.channels == 2


LIMITS = [
    ("config.chunk_duration_ms", 100, 30_000),
    ("config.sample_rate_hz", 8000, 96_000),
    ("config.channels", 1, 2),
    ("max_inflight", 1, 10),
    ("timeout_ms", 1000, 30_000),
    ("first_sequence_number", 0, 2**53 - 1),
]


def with_field(field: str, value: Any) -> dict[str, Any]:
    name = field.removeprefix("config.")
    return init(**{name: value}) if name == field else init(config={name: value})


@pytest.mark.parametrize(("field", "lowest", "highest"), LIMITS)
def test_limits_of_stream_init(field: str, lowest: int, highest: int) -> None:
    parse(StreamInit, with_field(field, lowest))
    parse(StreamInit, with_field(field, highest))
    for outside in (lowest - 1, highest + 1):
        with pytest.raises(WireError) as refused:
            parse(StreamInit, with_field(field, outside))
        assert refused.value.code is ErrorCode.INVALID_CONFIG
        assert refused.value.details["field"] == field
        assert refused.value.details["sent"] == str(outside)
        assert str(lowest if outside < lowest else highest) in refused.value.details["allowed"]


@pytest.mark.parametrize(("field", "lowest", "highest"), LIMITS)
@pytest.mark.parametrize(
    "value", [True, "5", 1e30, 5.0, math.nan, math.inf, -math.inf, 2**53, -1, pytest.param(10**5000, id="huge"), [], {}]
)
def test_numbers_are_taken_strictly(field: str, lowest: int, highest: int, value: Any) -> None:
    with pytest.raises(WireError) as refused:
        parse(StreamInit, with_field(field, value))
    assert refused.value.code is ErrorCode.INVALID_CONFIG
    assert refused.value.details["field"] == field


@pytest.mark.parametrize("name", ADMITTED_FORMATS)
def test_every_format_of_the_protocol_is_admitted(name: str) -> None:
    assert parse(StreamInit, init(config={"format": name})).config.format == name
    assert parse(FragmentData, fragment(audio={"format": name})).audio.format == name


@pytest.mark.parametrize("name", ["exe", "M4A", "", "../m4a"])
def test_any_other_format_is_refused(name: str) -> None:
    with pytest.raises(WireError) as refused:
        parse(StreamInit, init(config={"format": name}))
    assert "'pcm_s16le'" in refused.value.details["allowed"]


@pytest.mark.parametrize("tag", ["en", "en-US", "zh-Hant-TW", "fil"])
def test_bcp_47_tags_are_taken(tag: str) -> None:
    assert parse(StreamInit, init(config={"target_language": tag})).config.target_language == tag


@pytest.mark.parametrize("tag", ["", "e", "english", "en_US", "en-", "en\n", "../en", "\ud800", 5, None])
def test_what_is_no_language_tag_is_refused(tag: Any) -> None:
    with pytest.raises(WireError) as refused:
        parse(StreamInit, init(config={"target_language": tag}))
    assert refused.value.details["field"] == "config.target_language"


def test_domain_hints_come_alone_or_several() -> None:
    assert parse(StreamInit, init()).config.hints == ()
    assert parse(StreamInit, init(config={"domain_hints": None})).config.hints == ()
    assert parse(StreamInit, init(config={"domain_hints": "chess"})).config.hints == ("chess",)
    assert parse(StreamInit, init(config={"domain_hints": ["chess", "Elo"]})).config.hints == ("chess", "Elo")


@pytest.mark.parametrize(
    ("hints", "field"),
    [
        (5, "config.domain_hints"),
        (["x"] * 65, "config.domain_hints"),
        ("x" * 201, "config.domain_hints.0"),
        (["x", 5], "config.domain_hints.1"),
    ],
)
def test_wrong_domain_hints_are_named_by_their_wire_name(hints: Any, field: str) -> None:
    with pytest.raises(WireError) as refused:
        parse(StreamInit, init(config={"domain_hints": hints}))
    assert refused.value.details["field"] == field


@pytest.mark.parametrize("name", ["stream_id", "worker_id"])
@pytest.mark.parametrize("value", ["", "x" * 257, 5, None])
def test_ids_are_short_strings(name: str, value: Any) -> None:
    with pytest.raises(WireError):
        parse(StreamInit, init(**{name: value}))
    assert parse(StreamInit, init(**{name: "x" * 256}))


def test_unknown_fields_of_newer_clients_are_ignored() -> None:
    assert parse(StreamInit, init(future=1, config={"future": 2}))
    assert parse(FragmentData, fragment(future=1, metadata={"pts_ns": 5, "future": 2}))


@pytest.mark.parametrize(
    ("name", "lowest", "highest"), [("sample_rate_hz", 8000, 96_000), ("channels", 1, 2), ("duration_ms", 0, 60_000)]
)
def test_limits_of_a_fragments_audio(name: str, lowest: int, highest: int) -> None:
    parse(FragmentData, fragment(audio={name: lowest}))
    parse(FragmentData, fragment(audio={name: highest}))
    for outside in (lowest - 1, highest + 1):
        with pytest.raises(WireError) as refused:
            parse(FragmentData, fragment(audio={name: outside}))
        assert refused.value.code is ErrorCode.INVALID_FRAGMENT
        assert refused.value.details["field"] == f"audio.{name}"


def test_a_fragment_may_name_its_place_in_nanoseconds() -> None:
    metadata = parse(FragmentData, fragment(metadata={"pts_ns": 2**62, "source_pts_ns": 0})).metadata
    assert metadata is not None
    assert (metadata.pts_ns, metadata.source_pts_ns) == (2**62, 0)
    for wrong in (-1, 2**63, True, 1.5):
        with pytest.raises(WireError):
            parse(FragmentData, fragment(metadata={"pts_ns": wrong}))


def test_audio_comes_as_base64_or_as_bytes() -> None:
    text = fragment(audio={"data_base64": base64.b64encode(b"sound").decode()})
    assert parse(FragmentData, text).audio.payload() == b"sound"
    binary = fragment(audio={"data_base64": None, "data": b"sound"})
    assert parse(FragmentData, binary).audio.payload() == b"sound"


@pytest.mark.parametrize("payload", [{"data": b"x"}, {"data_base64": None}])
def test_audio_comes_exactly_once(payload: dict[str, Any]) -> None:
    with pytest.raises(WireError) as refused:
        parse(FragmentData, fragment(audio=payload))
    assert refused.value.code is ErrorCode.MALFORMED_DATA
    assert "exactly one of data_base64 and data" in refused.value.message


@pytest.mark.parametrize("broken", ["A", "AAA", "AA-_", "AAAA\n", " AAAA", "ÄÄÄÄ", "A===", "secret!"])
def test_broken_base64_is_malformed_data_and_no_failure_of_a_stage(broken: str) -> None:
    audio = parse(FragmentData, fragment(audio={"data_base64": broken})).audio
    with pytest.raises(WireError) as refused:
        audio.payload()
    assert refused.value.code is ErrorCode.MALFORMED_DATA
    assert refused.value.details == {"field": "audio.data_base64"}
    assert broken not in refused.value.message


def audio_of(size: int, *, binary: bool) -> FragmentAudio:
    data = bytes(size)
    sound = {"data_base64": None, "data": data} if binary else {"data_base64": base64.b64encode(data).decode()}
    return parse(FragmentData, fragment(audio=sound)).audio


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("over", [1, 2, 3, 4, 1000])
def test_audio_above_the_limit_is_too_large(over: int, binary: bool) -> None:
    assert len(audio_of(100, binary=binary).payload(100)) == 100
    with pytest.raises(WireError) as refused:
        audio_of(100 + over, binary=binary).payload(100)
    assert refused.value.code is ErrorCode.FRAGMENT_TOO_LARGE
    assert refused.value.details["limit_bytes"] == 100


def test_a_fragment_may_hold_10_mib() -> None:
    assert MAX_FRAGMENT_BYTES == 10 * 1024 * 1024
    audio_of(MAX_FRAGMENT_BYTES, binary=True).payload()
    with pytest.raises(WireError, match="10485761 bytes; 10485760 may come at once"):
        audio_of(MAX_FRAGMENT_BYTES + 1, binary=True).payload()


def test_the_small_events_are_read() -> None:
    assert parse(FragmentAck, {"fragment_id": "f", "status": "applied", "timestamp": 1}).status == "applied"
    assert parse(StreamPause, {"stream_id": "s", "reason": "rest"}).reason == "rest"
    assert parse(StreamResume, {"stream_id": "s"}).stream_id == "s"
    assert parse(StreamEnd, {"stream_id": "s"}).reason is None
