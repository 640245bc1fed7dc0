"""A chain of filter processes that stays open: a request in, its answer out, each ended by a NUL byte.

It knows nothing of translation. Every wait is bounded, and a chain that has died or hung is of no more use: after an
error it is to be closed.
"""

import os
import selectors
import subprocess
import time
from collections.abc import Callable, Sequence

END = b"\0"
_READ_BYTES = 65_536


class ChainDied(Exception):
    """One of the processes has ended."""


class ChainHung(Exception):
    """No complete answer came in time."""


class FilterChain:
    """Processes joined by pipes, as `a | b | c` in a shell. For one thread at a time.

    Args:
        commands: program and arguments of each process. None gets a shell.
        clock: seconds, monotonic.

    Raises:
        ChainDied: a program can't be started.
    """

    def __init__(self, commands: Sequence[Sequence[str]], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._processes: list[subprocess.Popen[bytes]] = []
        # Only the first process's input and the last one's output are ours. All else that is ours to close is closed,
        # so that the death of one process ends its neighbours, and ours ends them all.
        inner, self._input = os.pipe()
        os.set_blocking(self._input, False)
        try:
            for command in commands:
                process = subprocess.Popen(  # noqa: S603  # nosec B603 - from installed mode files
                    command, stdin=inner, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
                )
                os.close(inner)
                self._processes.append(process)
                assert process.stdout is not None  # noqa: S101  # nosec B101 - for mypy: PIPE
                inner = os.dup(process.stdout.fileno())
                process.stdout.close()
        except OSError as error:
            os.close(inner)
            self._output = -1
            self.close()
            raise ChainDied(f"{error.filename} can't be started: {error.strerror}") from error
        self._output = inner

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids, first to last."""
        return tuple(process.pid for process in self._processes)

    def exchange(self, request: bytes, timeout_s: float) -> bytes:
        """Send a request without NUL bytes, and wait for its whole answer.

        Raises:
            ChainDied: a process has ended.
            ChainHung: the time ran out.
        """
        if any(process.poll() is not None for process in self._processes):
            raise ChainDied(self._obituary())
        give_up_at_s = self._clock() + timeout_s
        unsent = memoryview(request + END)
        answer = bytearray()
        # Sent while reading: the pipes are smaller than a long text and its answer.
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            selector.register(self._input, selectors.EVENT_WRITE)
            while not answer.endswith(END):
                events = selector.select(max(0.0, give_up_at_s - self._clock()))
                if not events:
                    raise ChainHung(f"no answer in {timeout_s:.3f} s")
                for key, _ in events:
                    if key.fd == self._output:
                        answer += self._read()
                    else:
                        unsent = unsent[self._write(unsent) :]
                        if not unsent:
                            selector.unregister(self._input)
        return bytes(answer[: -len(END)])

    def _read(self) -> bytes:
        chunk = os.read(self._output, _READ_BYTES)
        if not chunk:
            raise ChainDied(self._obituary())
        return chunk

    def _write(self, unsent: memoryview) -> int:
        try:
            return os.write(self._input, unsent)
        except BrokenPipeError as error:
            raise ChainDied(self._obituary()) from error

    def _obituary(self) -> str:
        ended = [process for process in self._processes if process.poll() is not None]
        return ", ".join(f"{process.args!r} ended with {process.returncode}" for process in ended) or "a process ended"

    def close(self) -> None:
        """Kill all processes and wait for them. May be called again."""
        for descriptor in (self._input, self._output):
            if descriptor >= 0:
                os.close(descriptor)
        self._input = self._output = -1
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        self._processes = []
