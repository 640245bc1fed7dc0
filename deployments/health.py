"""When a replica should be replaced: its model fails again and again, whatever it is given."""

from deployments.errors import ModelFailed, StageError

FAILURES_IN_A_ROW = 10


class Health:
    """Counts a model's failures in a row.

    A broken CUDA context, for one, fails every call until its process ends. Errors that speak of the input or the
    deadline don't count, and one success starts over, so a stream of bad input can't have a replica restarted under
    the others.
    """

    def __init__(self) -> None:
        self._failures = 0

    def succeeded(self) -> None:
        """Note that the model worked."""
        self._failures = 0

    def failed(self, error: StageError) -> None:
        """Note an error; only ModelFailed counts."""
        if isinstance(error, ModelFailed):
            self._failures += 1

    def check(self) -> None:
        """Raise RuntimeError when the replica should be replaced. For Serve's `check_health`."""
        if self._failures >= FAILURES_IN_A_ROW:
            raise RuntimeError(f"the model failed {self._failures} times in a row")
