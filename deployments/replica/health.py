"""When a replica should be replaced: its model fails again and again, whatever it is given."""

from deployments.errors import GpuOutOfMemory, ModelFailed, StageError

FAILURES_IN_A_ROW = 10
OUT_OF_MEMORY_IN_A_ROW = 3
"""Fewer: each one has ended a stream, and memory that three emptied caches didn't bring back won't come back."""


class Health:
    """Counts a model's failures in a row.

    A broken CUDA context, for one, fails every call until its process ends. Errors that speak of the input or the
    deadline don't count, and one success starts over, so a stream of bad input can't have a replica restarted under
    the others.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._out_of_memory = 0

    def succeeded(self) -> None:
        """Note that the model worked."""
        self._failures = self._out_of_memory = 0

    def failed(self, error: StageError) -> None:
        """Note an error; only ModelFailed and GpuOutOfMemory count."""
        if isinstance(error, ModelFailed):
            self._failures += 1
        elif isinstance(error, GpuOutOfMemory):
            self._out_of_memory += 1

    def check(self) -> None:
        """Raise RuntimeError when the replica should be replaced. For Serve's `check_health`."""
        if self._failures >= FAILURES_IN_A_ROW:
            raise RuntimeError(f"the model failed {self._failures} times in a row")
        if self._out_of_memory >= OUT_OF_MEMORY_IN_A_ROW:
            raise RuntimeError(f"the device was out of memory {self._out_of_memory} times in a row")
