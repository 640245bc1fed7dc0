import json
from typing import Any

import pytest
from pydantic import ValidationError

from serve_app.protocol import (
    SERVER_EVENTS,
    Assets,
    AudioAck,
    AudioEcho,
    AudioReady,
    Backpressure,
    Capabilities,
    DubbedAudio,
    ErrorBreakdown,
    ErrorCode,
    FragmentError,
    FragmentMetrics,
    FragmentProcessed,
    FragmentQueued,
    ServerEvent,
    StageTimings,
    StreamComplete,
    StreamReady,
    StreamStatistics,
    TranscriptAsset,
    TranscriptComplete,
    TranscriptFinal,
    TranscriptionStatistics,
    TranscriptSegment,
    TranscriptUpdate,
    WordTiming,
    error_event,
)

WORD = WordTiming(text="hello", start_ms=0, end_ms=400, confidence=0.5)
SEGMENT = TranscriptSegment(start_ms=0, end_ms=900, text="hello", confidence=1.0, words=(WORD,))
RESULT = FragmentProcessed(
    fragment_id="f",
    stream_id="s",
    sequence_number=0,
    status="success",
    dubbed_audio=DubbedAudio(format="m4a", sample_rate_hz=48_000, channels=2, duration_ms=6000, data=b"\x00\xffdub"),
    transcript="hello",
    translated_text="",
    processing_time_ms=100,
    stage_timings=StageTimings(asr_ms=1),
    warnings=("duration_declared_wrong",),
    metadata=FragmentMetrics(original_duration_ms=6000),
    assets=Assets(
        transcript=TranscriptAsset(asset_id="a", parent_asset_ids=("f",), language="en", segments=(SEGMENT,))
    ),
)
STATISTICS = {
    "success_count": 1, "partial_count": 0, "failed_count": 0, "avg_processing_time_ms": 100,
}  # fmt: skip
COMPLETE = StreamComplete(
    stream_id="s",
    total_fragments=1,
    **STATISTICS,
    total_duration_ms=6000,
    error_breakdown=ErrorBreakdown(by_stage={}, by_code={}),
    statistics=StreamStatistics(**STATISTICS, p95_processing_time_ms=100),
)
PRESSURE = Backpressure(
    stream_id="s",
    severity="low",
    action="none",
    current_inflight=1,
    max_inflight=3,
    queue_depth=1,
    threshold_exceeded=None,
    recommended_delay_ms=0,
)
FINAL = TranscriptFinal(
    stream_id="s",
    start_ms=0,
    end_ms=900,
    text="hello",
    words=(WORD,),
    confidence=0.5,
    language="en",
    utterance_over=True,
    translations={"es": "hola"},
    translation_errors={"fr": FragmentError(stage="translation", code="TIMEOUT", message="late", retryable=True)},
    model="ears",
)
FINISHED = TranscriptComplete(
    stream_id="s",
    session_id="x",
    reason="ended",
    transcript="hello",
    dropped_characters=0,
    translations={"es": "hola"},
    metrics=TranscriptionStatistics(**dict.fromkeys(TranscriptionStatistics.model_fields, 1)),
)
EXAMPLES: list[ServerEvent] = [
    AudioReady(stream_id="s", session_id="x", idle_timeout_s=300, max_session_s=3600, max_transcript_characters=50_000),
    AudioAck(stream_id="s", taken_bytes=131_072),
    AudioEcho(stream_id="s", data=b"\x00\xffsound"),
    TranscriptUpdate(stream_id="s", start_ms=0, end_ms=700, committed="it was", tentative=" the"),
    FINAL,
    FINISHED,
    StreamReady(stream_id="s", session_id="x", max_inflight=3, capabilities=Capabilities()),
    FragmentQueued(fragment_id="f", timestamp=1, queue_position=0),
    RESULT,
    COMPLETE,
    PRESSURE,
    error_event(ErrorCode.RATE_LIMITED, "slower", details={"limit": 5}),
]


def test_there_is_an_example_of_every_event() -> None:
    assert {type(event) for event in EXAMPLES} == set(SERVER_EVENTS)


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.EVENT)
def test_a_client_reads_back_what_was_sent(event: ServerEvent) -> None:
    received = json.loads(json.dumps(event.to_wire()))
    assert type(event).model_validate(received, strict=False) == event


def test_a_client_reads_binary_audio_and_fields_in_any_order() -> None:
    payload = RESULT.to_wire(binary=True)
    backwards = dict(reversed(payload.items()))
    assert FragmentProcessed.model_validate(backwards, strict=False) == RESULT


def test_audio_goes_as_base64_or_as_bytes_never_both() -> None:
    text, binary = RESULT.to_wire()["dubbed_audio"], RESULT.to_wire(binary=True)["dubbed_audio"]
    assert text["data_base64"] == "AP9kdWI="
    assert "data" not in text
    assert binary["data"] == b"\x00\xffdub"
    assert "data_base64" not in binary


def test_a_result_without_audio_is_the_same_either_way() -> None:
    bare = RESULT.model_copy(update={"dubbed_audio": None})
    assert bare.to_wire() == bare.to_wire(binary=True)
    assert "dubbed_audio" not in bare.to_wire()


def test_optional_fields_are_absent_and_empty_texts_are_not() -> None:
    payload = RESULT.to_wire()
    assert "error" not in payload
    assert payload["translated_text"] == ""
    assert payload["metadata"] == {"original_duration_ms": 6000}
    assert set(payload["assets"]) == {"transcript"}


def test_backpressure_keeps_its_null() -> None:
    assert PRESSURE.to_wire()["threshold_exceeded"] is None


@pytest.mark.parametrize("broken", ["A", "not base64!"])
def test_a_client_refuses_broken_audio(broken: str) -> None:
    payload = RESULT.to_wire()
    payload["dubbed_audio"]["data_base64"] = broken
    with pytest.raises(ValidationError):
        FragmentProcessed.model_validate(payload, strict=False)


@pytest.mark.parametrize("value", [None, 5, {}])
def test_audio_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError):
        DubbedAudio.model_validate(value)


def test_events_cant_be_changed() -> None:
    with pytest.raises(ValidationError):
        PRESSURE.severity = "high"  # type: ignore[misc]


def test_numbers_that_json_doesnt_know_are_never_sent() -> None:
    with pytest.raises(ValidationError):
        FragmentMetrics(original_duration_ms=1, speed_ratio=float("nan"))


def test_what_an_event_takes_while_it_waits_is_about_what_its_texts_and_sounds_take() -> None:
    assert RESULT.bulk_bytes == len(b"\x00\xffdub")
    assert AudioEcho(stream_id="s", data=b"12345").bulk_bytes == 5
    assert FINAL.bulk_bytes >= len(json.dumps(FINAL.to_wire()["words"]))
    assert FINISHED.bulk_bytes == len("hello") + len("hola")
    assert PRESSURE.bulk_bytes == 0


def test_an_echo_goes_as_base64_or_as_bytes_never_both() -> None:
    echo = AudioEcho(stream_id="s", data=b"\x00\xff")
    assert echo.to_wire() == {"stream_id": "s", "data_base64": "AP8="}
    assert echo.to_wire(binary=True) == {"stream_id": "s", "data": b"\x00\xff"}
