"""The whole tree of errors crosses process borders, and no code stands for two errors."""

import pickle
from collections import Counter

import pytest

from deployments.errors import PermanentError, Stage, StageError, TransientError


def tree(kind: type[StageError] = StageError) -> list[type[StageError]]:
    return [kind, *(grandchild for child in kind.__subclasses__() for grandchild in tree(child))]


LEAVES = [kind for kind in tree() if not kind.__subclasses__()]


@pytest.mark.parametrize("kind", tree())
@pytest.mark.parametrize("stage", Stage)
def test_every_error_survives_pickling(kind: type[StageError], stage: Stage) -> None:
    sent = kind(stage, "the model said no", {"duration_ms": 6000, "ratio": 1.5, "unit": "ms"})

    received = pickle.loads(pickle.dumps(sent))  # noqa: S301

    assert type(received) is kind
    assert (received.stage, received.message) == (stage, "the model said no")
    assert dict(received.details) == {"duration_ms": 6000, "ratio": 1.5, "unit": "ms"}
    assert (received.code, received.retryable, str(received)) == (sent.code, sent.retryable, str(sent))


def test_no_code_stands_for_two_errors() -> None:
    assert [code for code, count in Counter(kind.code for kind in LEAVES).items() if count > 1] == []


@pytest.mark.parametrize("kind", LEAVES)
def test_every_error_is_either_transient_or_permanent_and_says_so(kind: type[StageError]) -> None:
    assert issubclass(kind, TransientError) != issubclass(kind, PermanentError)
    assert kind.retryable is issubclass(kind, TransientError)


def test_details_are_read_only_and_not_the_callers_own() -> None:
    details = {"duration_ms": 1}
    error = StageError(Stage.TTS, "no", details)
    details["duration_ms"] = 2

    assert error.details == {"duration_ms": 1}
    with pytest.raises(TypeError):
        error.details["duration_ms"] = 3  # type: ignore[index]


def test_an_error_reads_as_stage_code_and_message() -> None:
    assert str(StageError(Stage.ASR, "the model said no")) == "asr: MODEL_ERROR: the model said no"
