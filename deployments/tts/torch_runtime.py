"""What every engine on torch shares: the device that it takes, and torch's failures as ours.

Importing this module is cheap; its functions need torch.
"""

from collections.abc import Callable
from typing import Literal, TypeVar

from deployments.errors import GpuOutOfMemory, ModelFailed, Stage

T = TypeVar("T")


def choose_device(wanted: Literal["auto", "cpu", "cuda"], gpu_memory_fraction: float | None) -> Literal["cpu", "cuda"]:
    """The device to load on; on CUDA this process then takes no more than its part of the card's memory.

    Raises:
        ValueError: cuda is wanted and there is none.
    """
    import torch  # noqa: PLC0415 - heavy, and only replicas need it

    found = torch.cuda.is_available()
    if wanted == "cuda" and not found:
        raise ValueError("device: cuda is asked for, and torch sees no CUDA device")
    if not found or wanted == "cpu":
        return "cpu"
    if gpu_memory_fraction is not None:
        torch.cuda.set_per_process_memory_fraction(gpu_memory_fraction)
    return "cuda"


def translated(work: Callable[[], T]) -> T:
    """The work's result, without gradients; what torch raises comes as one of our errors.

    Raises:
        GpuOutOfMemory: it didn't fit; what was reserved for it is given back to the device.
        ModelFailed: torch raised anything else.
    """
    import torch  # noqa: PLC0415

    try:
        with torch.inference_mode():
            return work()
    except torch.cuda.OutOfMemoryError as error:
        failure: ModelFailed | GpuOutOfMemory = GpuOutOfMemory(Stage.TTS, str(error)[:300])
    except RuntimeError as error:
        if "ALLOC_FAILED" not in str(error) and "out of memory" not in str(error):
            raise ModelFailed(Stage.TTS, f"{type(error).__name__}: {error}"[:300]) from error
        failure = GpuOutOfMemory(Stage.TTS, str(error)[:300])
    torch.cuda.empty_cache()  # only here: inside `except` the traceback still holds the tensors
    raise failure
