import dataclasses
from typing import Any

import pytest

from deployments.contracts.values import EncodedAudio, Outcome, Recognition, Speech
from deployments.errors import DurationMismatch, InvalidAudio, ModelFailed, Stage
from serve_app.stream.result_builder import present
from tests.unit.serve_app.stream.recorder import (
    M4A,
    failed,
    make_fragment,
    make_outcome,
    make_settings,
    make_transcript,
)

FRAGMENT = make_fragment(3)


def wire(outcome: Outcome, *, start_ms: int = 12_000, declared_ms: int = 6000) -> dict[str, Any]:
    fragment = dataclasses.replace(FRAGMENT, declared_duration_ms=declared_ms)
    return present(make_settings(), fragment, outcome, ticket=9, start_ms=start_ms, processing_ms=1234).to_wire()


def test_a_success_says_everything_and_carries_no_empty_fields() -> None:
    assert wire(make_outcome()) == {
        "fragment_id": "f3",
        "stream_id": "stream",
        "sequence_number": 3,
        "status": "success",
        "dubbed_audio": {
            "format": "m4a",
            "sample_rate_hz": 48_000,
            "channels": 1,
            "duration_ms": 6000,
            "data_base64": "ZHVi",
        },
        "transcript": "hello",
        "translated_text": "hola",
        "processing_time_ms": 1234,
        "stage_timings": {"asr_ms": 40, "translation_ms": 30, "tts_ms": 50},
        "metadata": {
            "original_duration_ms": 6000,
            "dubbed_duration_ms": 6000,
            "duration_variance_percent": 0.0,
            "speed_ratio": 1.0,
            "asr_model": "ears",
            "translation_model": "tongue",
            "tts_model": "mouth",
            "synthetic_voice": True,
        },
        "assets": {
            "transcript": {
                "asset_id": "session:9:transcript",
                "parent_asset_ids": ("f3",),
                "language": "en",
                "segments": (
                    {
                        "start_ms": 12_100,
                        "end_ms": 12_900,
                        "text": "hello",
                        "confidence": 0.9,
                        "words": ({"text": "hello", "start_ms": 12_100, "end_ms": 12_500, "confidence": 0.8},),
                    },
                ),
            },
            "translation": {
                "asset_id": "session:9:translation",
                "parent_asset_ids": ("session:9:transcript",),
                "source_language": "en",
                "target_language": "es",
            },
            "audio": {
                "asset_id": "session:9:audio",
                "parent_asset_ids": ("session:9:translation",),
                "duration_ms": 6000,
            },
        },
    }


def test_segments_without_words_leave_them_out() -> None:
    [segment] = make_transcript().recognition.segments
    bare = dataclasses.replace(segment, words=())
    transcript = dataclasses.replace(make_transcript(), recognition=Recognition((bare,), "en"))
    [shown] = wire(make_outcome(transcript=transcript))["assets"]["transcript"]["segments"]
    assert "words" not in shown


def test_a_partial_result_has_its_variance_twice_and_its_warning() -> None:
    result = wire(make_outcome(partial=True))
    assert result["status"] == "partial"
    assert result["warnings"] == ("duration_variance_high",)
    assert result["metadata"]["duration_variance_percent"] == 15.0
    assert result["metadata"]["actual_variance_percent"] == 15.0


def test_a_failure_says_stage_code_and_whether_to_retry_and_has_no_audio() -> None:
    result = wire(failed(ModelFailed, Stage.TTS, "no voice"))
    assert result["status"] == "failed"
    assert result["error"] == {"stage": "tts", "code": "MODEL_ERROR", "message": "no voice", "retryable": True}
    assert "dubbed_audio" not in result
    assert result["metadata"] == {"original_duration_ms": 6000}
    assert result["assets"] == {}
    assert result["stage_timings"] == {"asr_ms": 0, "translation_ms": 0, "tts_ms": 0}


def test_a_permanent_failure_is_not_retryable() -> None:
    assert wire(failed(InvalidAudio))["error"]["retryable"] is False


def test_a_duration_mismatch_tells_the_durations() -> None:
    details = {"dubbed_duration_ms": 9000, "actual_variance_percent": 50.0, "speed_ratio": 1.5}
    outcome = Outcome(make_transcript(), failure=DurationMismatch(Stage.TTS, "too long", details))
    metadata = wire(outcome)["metadata"]
    assert metadata["dubbed_duration_ms"] == 9000
    assert metadata["actual_variance_percent"] == metadata["duration_variance_percent"] == 50.0
    assert metadata["speed_ratio"] == 1.5


def test_a_failure_after_speaking_sends_no_audio() -> None:
    outcome = make_outcome(failure=DurationMismatch(Stage.TTS, "too long"))
    assert "dubbed_audio" not in wire(outcome)


def test_a_fragment_without_speech_is_a_success_with_empty_texts_and_the_fill() -> None:
    silent = dataclasses.replace(make_transcript(), recognition=Recognition((), "en"))
    result = wire(make_outcome(transcript=silent, translation=None))
    assert (result["status"], result["transcript"], result["translated_text"]) == ("success", "", "")
    assert result["dubbed_audio"]["data_base64"]
    assert result["assets"]["audio"]["parent_asset_ids"] == ("session:9:transcript",)
    assert "translation" not in result["assets"]


@pytest.mark.parametrize(
    ("declared_ms", "warned"), [(6000, False), (5400, False), (6600, False), (5399, True), (6601, True), (0, True)]
)
def test_a_declared_duration_more_than_ten_percent_off_is_warned_of(declared_ms: int, warned: bool) -> None:
    result = wire(make_outcome(), declared_ms=declared_ms)
    assert ("duration_declared_wrong" in result.get("warnings", ())) == warned
    assert result["metadata"]["original_duration_ms"] == 6000, "the decoded one counts"


def test_without_decoding_the_declared_duration_counts() -> None:
    assert wire(failed(InvalidAudio), declared_ms=4321)["metadata"]["original_duration_ms"] == 4321


def test_warnings_of_pipeline_speech_and_session_stand_together() -> None:
    outcome = make_outcome(partial=True, warnings=("context_lost",))
    assert wire(outcome, declared_ms=100)["warnings"] == (
        "context_lost",
        "duration_variance_high",
        "duration_declared_wrong",
    )


def test_the_dub_keeps_its_own_format() -> None:
    speech = Speech(EncodedAudio(b"12", dataclasses.replace(M4A, container="pcm_s16le")), 6000, 0.0, 1.0, "mouth", 1)
    assert wire(make_outcome(speech=speech))["dubbed_audio"]["format"] == "pcm_s16le"


def test_repetitions_that_were_left_out_are_warned_of() -> None:
    transcript = make_transcript()
    repeats = dataclasses.replace(transcript.recognition, repeats=True)
    outcome = make_outcome(transcript=dataclasses.replace(transcript, recognition=repeats))
    assert "repetition_left_out" in wire(outcome)["warnings"]
    assert "repetition_left_out" not in wire(make_outcome()).get("warnings", ())


@pytest.mark.parametrize(("model", "synthetic"), [("kokoro-82m", True), ("none", False)])
def test_a_synthetic_voice_is_marked(model: str, synthetic: bool) -> None:
    speech = make_outcome().speech
    assert speech is not None
    outcome = make_outcome(speech=dataclasses.replace(speech, model=model, may_be_sold=True if synthetic else None))
    metadata = wire(outcome)["metadata"]
    assert metadata["synthetic_voice"] is synthetic
    assert metadata.get("may_be_sold") == (True if synthetic else None)
