"""A replica is given up after its model failed many times with no success between."""

import pytest

from deployments.errors import DeadlineExceeded, GpuOutOfMemory, InvalidAudio, ModelFailed, Stage
from deployments.replica.health import FAILURES_IN_A_ROW, OUT_OF_MEMORY_IN_A_ROW, Health


def failing(times: int) -> Health:
    health = Health()
    for _ in range(times):
        health.failed(ModelFailed(Stage.ASR, "CUDA error"))
    return health


def test_many_failures_in_a_row_are_told() -> None:
    with pytest.raises(RuntimeError, match=f"{FAILURES_IN_A_ROW} times"):
        failing(FAILURES_IN_A_ROW).check()


def test_fewer_are_not() -> None:
    failing(FAILURES_IN_A_ROW - 1).check()


def test_a_success_starts_over() -> None:
    health = failing(FAILURES_IN_A_ROW - 1)
    health.succeeded()
    health.failed(ModelFailed(Stage.ASR, "CUDA error"))

    health.check()


@pytest.mark.parametrize("error", [InvalidAudio(Stage.ASR, "not audio"), DeadlineExceeded(Stage.ASR, "late")])
def test_bad_input_and_late_work_do_not_count(error: InvalidAudio | DeadlineExceeded) -> None:
    health = failing(FAILURES_IN_A_ROW - 1)
    for _ in range(FAILURES_IN_A_ROW):
        health.failed(error)

    health.check()


def test_a_device_that_stays_out_of_memory_is_given_up_sooner() -> None:
    health = Health()
    for _ in range(OUT_OF_MEMORY_IN_A_ROW - 1):
        health.failed(GpuOutOfMemory(Stage.TTS, "full"))
    health.check()
    health.failed(GpuOutOfMemory(Stage.TTS, "full"))
    with pytest.raises(RuntimeError, match="out of memory"):
        health.check()


def test_memory_that_came_back_starts_over() -> None:
    health = Health()
    for _ in range(OUT_OF_MEMORY_IN_A_ROW - 1):
        health.failed(GpuOutOfMemory(Stage.TTS, "full"))
    health.succeeded()
    health.failed(GpuOutOfMemory(Stage.TTS, "full"))
    health.check()
