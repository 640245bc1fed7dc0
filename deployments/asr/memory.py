"""How much of a GPU's memory this process takes, at most, while something runs. It knows no model.

CTranslate2 has no limit of its own for the memory that it takes: its environment variables say how it allocates and
what it keeps for later. So what the largest call takes is measured once, at the start.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

SAMPLE_EVERY_S = 0.01
_STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Usage:
    """A device's memory at one moment, in bytes."""

    own: int | None
    """Of this process; None: the driver doesn't tell, as in a container with process numbers of its own."""
    device: int
    """Of all processes."""
    total: int


class ReadUsage(Protocol):
    """Reads the device that this process computes on. It may raise OSError."""

    def __call__(self) -> Usage:
        """The device as it is now."""


@dataclass(slots=True)
class Peak:
    """What was taken at most since it began; complete once it has ended."""

    bytes: int = 0
    total_bytes: int = 0
    failure: OSError | None = None
    """Why reading ended early."""

    def see(self, before: Usage, now: Usage) -> None:
        """Take one reading. Where the process's own use is not told, the device's growth counts as its use."""
        used = now.device - before.device if now.own is None else now.own
        self.bytes = max(self.bytes, used)
        self.total_bytes = now.total


@contextmanager
def peak(read: ReadUsage, before: Usage, every_s: float = SAMPLE_EVERY_S) -> Iterator[Peak]:
    """Read every 10 ms in a thread, and once at the end; a peak that is shorter may go unseen.

    Args:
        read: what is read.
        before: a reading from before anything was taken.
        every_s: between two readings.
    """
    found, stop = Peak(), threading.Event()

    def watch() -> None:
        try:
            while True:
                ended = stop.is_set()
                found.see(before, read())
                if ended:
                    return
                stop.wait(every_s)
        except OSError as error:
            found.failure = error

    thread = threading.Thread(target=watch, name="livedub-asr-memory", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join(_STOP_TIMEOUT_S)


def nvml_usage() -> Usage:
    """The first device that CUDA_VISIBLE_DEVICES lets this process see, by NVIDIA's management library.

    Raises:
        OSError: the library is not there or doesn't answer.
    """
    import pynvml  # noqa: PLC0415  asked for only where memory is bounded

    try:
        pynvml.nvmlInit()
        name = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
        by_index = name.isdecimal()
        device = pynvml.nvmlDeviceGetHandleByIndex(int(name)) if by_index else pynvml.nvmlDeviceGetHandleByUUID(name)
        memory = pynvml.nvmlDeviceGetMemoryInfo(device)
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(device)
    except pynvml.NVMLError as error:
        raise OSError(f"NVML can't read the GPU: {error}") from error
    own = next((process.usedGpuMemory for process in processes if process.pid == os.getpid()), None)
    return Usage(None if own is None else int(own), int(memory.used), int(memory.total))
