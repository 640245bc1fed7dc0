from typing import Any

import pytest

from serve_app.protocol import (
    ClientEvent,
    ErrorCode,
    FragmentAck,
    FragmentData,
    StreamEnd,
    StreamInit,
    WireError,
    parse,
)

SOUND = {"format": "m4a", "sample_rate_hz": 48_000, "channels": 1, "duration_ms": 6000, "data_base64": "AAAA"}
FRAGMENT = {"fragment_id": "f", "stream_id": "s", "sequence_number": 0, "timestamp": 0, "audio": SOUND}


def refused(event: type[ClientEvent], data: object) -> WireError:
    with pytest.raises(WireError) as caught:
        parse(event, data)
    return caught.value


@pytest.mark.parametrize("data", [None, "text", 5, [], [{}], b"bytes"])
@pytest.mark.parametrize("event", [StreamInit, FragmentData, StreamEnd])
def test_what_is_no_object_is_malformed(event: type[ClientEvent], data: object) -> None:
    error = refused(event, data)
    assert error.code is ErrorCode.MALFORMED_DATA
    assert f"{event.EVENT} needs an object, got {'nothing' if data is None else type(data).__name__}" == error.message


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"sequence_number": -1}, ErrorCode.INVALID_SEQUENCE, "sequence_number"),
        ({"sequence_number": 2**53}, ErrorCode.INVALID_SEQUENCE, "sequence_number"),
        ({"sequence_number": "5"}, ErrorCode.MALFORMED_DATA, "sequence_number"),
        ({"sequence_number": True}, ErrorCode.MALFORMED_DATA, "sequence_number"),
        ({"sequence_number": 1e30}, ErrorCode.MALFORMED_DATA, "sequence_number"),
        ({"sequence_number": float("nan")}, ErrorCode.MALFORMED_DATA, "sequence_number"),
        ({"timestamp": -1}, ErrorCode.INVALID_FRAGMENT, "timestamp"),
        ({"fragment_id": ""}, ErrorCode.INVALID_FRAGMENT, "fragment_id"),
        ({"fragment_id": 5}, ErrorCode.MALFORMED_DATA, "fragment_id"),
        ({"audio": None}, ErrorCode.MALFORMED_DATA, "audio"),
        ({"audio": {}}, ErrorCode.MALFORMED_DATA, "audio.format"),
        ({"audio": SOUND | {"format": "exe"}}, ErrorCode.INVALID_FRAGMENT, "audio.format"),
        ({"audio": SOUND | {"channels": 3}}, ErrorCode.INVALID_FRAGMENT, "audio.channels"),
        ({"audio": SOUND | {"data": b"x"}}, ErrorCode.MALFORMED_DATA, "audio"),
        ({"metadata": {"pts_ns": -1}}, ErrorCode.INVALID_FRAGMENT, "metadata.pts_ns"),
    ],
)
def test_codes_of_a_wrong_fragment_follow_the_kind_of_mistake(
    change: dict[str, Any], code: ErrorCode, field: str
) -> None:
    error = refused(FragmentData, FRAGMENT | change)
    assert error.code is code
    assert error.details["field"] == field


@pytest.mark.parametrize("field", FRAGMENT)
def test_a_missing_field_is_malformed_and_nothing_was_sent(field: str) -> None:
    error = refused(FragmentData, {name: value for name, value in FRAGMENT.items() if name != field})
    assert error.code is ErrorCode.MALFORMED_DATA
    assert error.details == {"field": field, "sent": "nothing", "allowed": "Field required"}


def test_everything_wrong_with_an_init_is_its_config() -> None:
    for data in ({}, {"stream_id": 5}, {"stream_id": "s", "worker_id": "w", "config": "en"}):
        assert refused(StreamInit, data).code is ErrorCode.INVALID_CONFIG


def test_a_message_names_the_field_what_was_sent_and_what_is_allowed() -> None:
    error = refused(FragmentAck, {"fragment_id": "f", "status": "lost", "timestamp": 1})
    assert error.message == "fragment:ack: status: Input should be 'received' or 'applied'; got 'lost'"
    assert error.details == {"field": "status", "sent": "'lost'", "allowed": "Input should be 'received' or 'applied'"}
    assert str(error) == error.message


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("x" * 10_000_000, id="long"),
        b"x" * 1000,
        ["x" * 1000] * 1000,
        {"x" * 1000: 1},
        pytest.param(10**5000, id="huge"),
        1.0000000000001e300,
    ],
)
@pytest.mark.parametrize("field", ["fragment_id", "sequence_number", "audio"])
def test_a_message_is_never_longer_than_a_line(field: str, value: object) -> None:
    error = refused(FragmentData, FRAGMENT | {field: value})
    assert len(error.message) < 250
    assert "\n" not in error.message
    assert "x" * 81 not in error.message


def test_audio_of_the_wrong_type_doesnt_come_back_in_the_message() -> None:
    error = refused(FragmentData, FRAGMENT | {"audio": SOUND | {"data_base64": b"secret sound" * 100}})
    assert error.code is ErrorCode.MALFORMED_DATA
    assert error.details["sent"] == "bytes of 1200"
    assert "secret" not in error.message


def test_line_breaks_that_were_sent_are_shown_escaped() -> None:
    assert "\n" not in refused(FragmentAck, {"fragment_id": "f", "status": "a\nb", "timestamp": 1}).message


def test_an_error_without_details_has_an_empty_dict() -> None:
    assert WireError(ErrorCode.INTERNAL, "x").details == {}
