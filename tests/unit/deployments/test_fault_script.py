"""Fakes do on cue what their script says, and a script that can't be played is refused."""

import pytest
from pydantic import ValidationError

from deployments import fault_script as script
from deployments.contracts.values import ITSELF, FragmentRef
from deployments.errors import GpuOutOfMemory, ModelFailed, RateLimitExceeded, Stage
from deployments.fault_script import ERRORS_BY_CODE, Script, Step


def ref(stream_id: str = "radio-1", sequence_number: int = 0) -> FragmentRef:
    return FragmentRef(stream_id, f"{stream_id}/{sequence_number}", sequence_number)


class Recorder:
    """Records what a script does to the world."""

    def __init__(self, *steps: Step, delay_ms: int = 0) -> None:
        self.done: list[float | str] = []
        self.script = Script(steps, delay_ms=delay_ms, sleep=self.done.append, crash=lambda: self.done.append("crash"))

    def play(self, fragment: FragmentRef) -> None:
        self.script.play(fragment, Stage.ASR)


def test_the_first_step_that_matches_counts() -> None:
    first, second = Step(stream="radio-*", fragments=(3,)), Step()
    played = Script((first, second))

    assert played.decide(ref("radio-1", 3)) is first
    assert played.decide(ref("radio-1", 4)) is second
    assert played.decide(ref("tv-1", 3)) is second


def test_no_match_is_no_step() -> None:
    assert Script((Step(stream="tv"),)).decide(ref("radio-1")) is None


def test_stream_patterns_distinguish_case() -> None:
    assert Script((Step(stream="Radio"),)).decide(ref("radio")) is None


def test_times_are_counted_for_each_fragment_so_that_a_retry_goes_well() -> None:
    played = Script((Step(times=2),))

    assert [played.decide(ref(sequence_number=1)) is None for _ in range(3)] == [False, False, True]
    assert played.decide(ref(sequence_number=2)) is not None
    assert played.decide(ref("other", 1)) is not None


def test_a_worn_out_step_leaves_the_fragment_to_the_next() -> None:
    played = Script((Step(times=1, error="GPU_OOM"), Step(delay_ms=5)))

    assert [step and step.error for step in (played.decide(ref()), played.decide(ref()))] == ["GPU_OOM", None]


def test_the_counters_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "MAX_COUNTED", 2)
    played = Script((Step(times=1),))
    for sequence_number in (1, 2, 3):
        played.decide(ref(sequence_number=sequence_number))

    assert len(played._applied) == 2
    assert played.decide(ref(sequence_number=3)) is None
    assert played.decide(ref(sequence_number=1)) is not None


def test_a_delay_is_slept_in_seconds_and_takes_the_place_of_the_engines_own() -> None:
    stage = Recorder(Step(fragments=(1,), delay_ms=250), delay_ms=100)
    stage.play(ref(sequence_number=1))
    stage.play(ref(sequence_number=2))

    assert stage.done == [0.25, 0.1]


def test_without_a_delay_nothing_sleeps() -> None:
    stage = Recorder(Step(delay_ms=0), delay_ms=100)
    stage.play(ref())

    assert stage.done == []


@pytest.mark.parametrize("code", sorted(ERRORS_BY_CODE))
def test_every_code_is_raised_as_its_own_error_in_the_right_stage(code: str) -> None:
    with pytest.raises(ERRORS_BY_CODE[code]) as raised:
        Recorder(Step(error=code)).play(ref())

    assert (raised.value.code, raised.value.stage) == (code, Stage.ASR)


def test_the_delay_comes_before_the_error() -> None:
    stage = Recorder(Step(delay_ms=70, error="RATE_LIMIT_EXCEEDED"))
    with pytest.raises(RateLimitExceeded):
        stage.play(ref())

    assert stage.done == [0.07]


def test_a_crash_kills_the_process() -> None:
    stage = Recorder(Step(delay_ms=10, crash=True))
    stage.play(ref())

    assert stage.done == [0.01, "crash"]


def test_the_registry_holds_the_leaves_of_the_tree() -> None:
    assert ERRORS_BY_CODE["GPU_OOM"] is GpuOutOfMemory
    assert ERRORS_BY_CODE["MODEL_ERROR"] is ModelFailed


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"error": "GPU_OOPS"}, "GPU_OOPS"),
        ({"delay_ms": -1}, "delay_ms"),
        ({"times": 0}, "times"),
        ({"explode": True}, "explode"),
    ],
)
def test_a_step_that_cannot_be_played_is_refused(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Step.model_validate(wrong)


def test_a_replica_that_measures_itself_meets_no_step_and_uses_none_up() -> None:
    world = Recorder(Step(times=1, crash=True, delay_ms=900), delay_ms=50)
    world.play(ITSELF)
    assert world.done == [0.05]
    assert world.script.decide(ref()) is not None
