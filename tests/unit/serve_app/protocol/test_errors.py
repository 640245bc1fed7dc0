import pytest

from deployments.errors import Stage, StageError
from serve_app.protocol import ERROR_TABLE, ErrorCode, error_event

ANY = "asr translation tts"
PROTOCOL = """
TIMEOUT                                 | asr translation tts | yes
MODEL_ERROR WORKER_CRASHED GPU_OOM      | asr tts             | yes
QUEUE_FULL                              | asr translation tts | yes
TRANSLATION_API_UNAVAILABLE RATE_LIMIT_EXCEEDED          | translation | yes
TRANSLATION_QUOTA_EXCEEDED TRANSLATION_AUTH_FAILED       | translation | no
INVALID_AUDIO FRAGMENT_TOO_LARGE UNSUPPORTED_LANGUAGE    | asr | no
SYNTHESIS_FAILED DURATION_MISMATCH_EXCEEDED INVALID_TEXT | tts | no
STREAM_NOT_FOUND INVALID_CONFIG INVALID_VOICE_PROFILE UNSUPPORTED_LANGUAGE_PAIR INVALID_FRAGMENT  | | no
MALFORMED_DATA INVALID_SEQUENCE AUTH_FAILED SESSION_REPLACED                                      | | no
STREAM_PAUSED BACKPRESSURE_EXCEEDED RATE_LIMITED SERVER_DRAINING INTERNAL                         | | yes
"""
"""The table of the wire contract: codes, stages, retryable."""

WIDER = {
    "MODEL_ERROR": {"translation"},
    "WORKER_CRASHED": {"translation"},
    "UNSUPPORTED_LANGUAGE": {"translation"},
    "INVALID_TEXT": {"translation"},
    "INTERNAL": {"asr", "translation", "tts"},
}
"""Stages that our table adds: a translator can crash, lack a language and refuse a text too; a bug hits anywhere."""


def contract() -> dict[str, tuple[set[str], bool]]:
    rows = [[cell.split() for cell in line.split("|")] for line in PROTOCOL.strip().splitlines()]
    return {code: (set(stages), retryable == ["yes"]) for codes, stages, retryable in rows for code in codes}


def tree(error: type[StageError]) -> list[type[StageError]]:
    return [error, *(leaf for child in error.__subclasses__() for leaf in tree(child))]


RAISED = [error for error in tree(StageError) if not error.__subclasses__()]


def test_the_table_has_the_codes_of_the_protocol_and_no_other() -> None:
    assert {code.value for code in ErrorCode} == {code.value for code in ERROR_TABLE} == set(contract())


@pytest.mark.parametrize("code", ErrorCode)
def test_transient_codes_are_retryable_and_permanent_ones_are_not(code: ErrorCode) -> None:
    stages, retryable = contract()[code]
    assert ERROR_TABLE[code].retryable == retryable
    assert set(ERROR_TABLE[code].stages) == stages | WIDER.get(code, set())


@pytest.mark.parametrize("error", RAISED)
def test_the_tree_of_stage_errors_agrees_with_the_table(error: type[StageError]) -> None:
    rule = ERROR_TABLE[ErrorCode(error.code)]
    assert error.retryable == rule.retryable
    assert set(rule.stages) <= set(Stage)
    assert rule.stages


def test_every_code_that_has_a_stage_can_be_raised_by_one() -> None:
    assert {error.code for error in RAISED} == {code.value for code, rule in ERROR_TABLE.items() if rule.stages}


@pytest.mark.parametrize("code", ErrorCode)
def test_an_error_event_takes_retryable_from_the_table(code: ErrorCode) -> None:
    event = error_event(code, "why")
    assert event.to_wire() == {
        "code": code.value,
        "message": "why",
        "severity": "error",
        "retryable": contract()[code][1],
    }
    assert type(event.to_wire()["code"]) is str


def test_an_error_event_about_a_fragment_carries_everything() -> None:
    event = error_event(
        ErrorCode.INVALID_FRAGMENT,
        "why",
        severity="warning",
        stream_id="s",
        fragment_id="f",
        sequence_number=0,
        details={"field": "audio"},
    )
    assert event.to_wire() == {
        "code": "INVALID_FRAGMENT",
        "message": "why",
        "severity": "warning",
        "retryable": False,
        "stream_id": "s",
        "fragment_id": "f",
        "sequence_number": 0,
        "details": {"field": "audio"},
    }
