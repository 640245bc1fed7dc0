"""Listens for signals in a thread of its own, and ends the process where an orderly end can't be had any more.

The signals stay blocked in the whole process and are fetched here. So they are heard while the main thread waits inside
Ray, Ray's own handlers, which exit at once, never run, and Ray's processes inherit the block: a signal to the process
group, or to all of a systemd unit, reaches them too and must not end them before the streams have drained.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

HEARD = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
POLL_S = 0.25
AGAIN_S = 1.0
"""A signal this soon after the first is the same one: `timeout` and a terminal's wrappers send it twice."""
FAILED = 1
NODE = ("gcs_server", "raylet")
"""Processes, as the kernel names them, without which a Ray node is none."""


class Signals:
    """Tells the main thread to stop or to read the file again.

    Args:
        tell: takes a line.
        leave: ends the process with a code, at once.
        unread: whether nobody reads what is told: then a hangup is that of a terminal, and asks to stop.
    """

    def __init__(
        self,
        tell: Callable[[str], None],
        leave: Callable[[int], None] = os._exit,
        unread: Callable[[], bool] = lambda: False,
    ) -> None:
        self._unread = unread
        self._tell = tell
        self._leave = leave
        self._asked_s: float | None = None
        self._give_up_s: float | None = None
        self._watched: dict[int, str] = {}
        self._ending = False
        self.stop = threading.Event()
        self.reload = threading.Event()

    def start(self) -> None:
        """Listen from now on; to be called in the main thread, before there are others."""
        signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
        threading.Thread(target=self._run, name="livedub-signals", daemon=True).start()

    def watch(self) -> None:
        """From now on the process ends with its Ray node."""
        self._watched = {pid: name for pid, name in children().items() if name in NODE}

    def let_end(self) -> None:
        """From now on Ray's processes end, and are helped to."""
        self._ending = True

    def allow(self, seconds: float) -> None:
        """Give the main thread so much time from now; then the process ends."""
        self._give_up_s = time.monotonic() + seconds

    def hear(self, number: int | None, now_s: float) -> None:
        """Act on a signal; None: none came."""
        if number == signal.SIGHUP:
            self._tell("reading the file again")
        if number == signal.SIGHUP and not self._unread():
            self.reload.set()
        elif number is not None and self._asked_s is None:
            self._asked_s = now_s
            self._tell("stopping; the same signal again stops at once")
            self.stop.set()
        elif number is not None and now_s - (self._asked_s or 0.0) >= AGAIN_S:
            self._tell("stopped at once; what was in flight is lost")
            self._end(128 + number)
        elif self._give_up_s is not None and now_s > self._give_up_s:
            self._tell("error: Ray did not stop in time; stopped at once")
            self._end(FAILED)
        elif self._ending:
            _end_the_deaf()
        else:
            gone = [name for pid, name in self._watched.items() if _has_ended(pid)]
            if gone:
                self._tell(f"error: Ray has ended ({', '.join(gone)}), and the service with it")
                self._end(FAILED)

    def _end(self, code: int) -> None:
        for pid in children():
            _kill_with_children(pid)
        self._leave(code)

    def _run(self) -> None:
        while True:
            info = signal.sigtimedwait(HEARD, POLL_S)
            self.hear(None if info is None else info.si_signo, time.monotonic())


def children(parent: int | None = None) -> dict[int, str]:
    """Ids and names of the processes that one (None: this one) started; empty where the system doesn't tell."""
    found = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = place.read_text(errors="replace").partition("(")[2].rpartition(")")
        except OSError:  # it has just ended
            continue
        if rest.split()[1:2] == [str(parent or os.getpid())]:
            found[int(place.parent.name)] = name
    return found


def _has_ended(pid: int) -> bool:
    """Whether a child has ended; it isn't taken from whoever waits for it."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _end_the_deaf() -> None:
    """Kill children that were asked to end by the signal that they have blocked; Ray would wait seconds for each."""
    for pid in children():
        with suppress(OSError):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            pending = next((int(line.split()[1], 16) for line in lines if line.startswith("ShdPnd:")), 0)
            if pending & 1 << (signal.SIGTERM - 1):
                _kill_with_children(pid)


def _kill_with_children(pid: int) -> None:
    """Also what it started: a raylet's agents would see only after seconds that it is gone."""
    for one in (*children(pid), pid):
        with suppress(OSError):
            os.kill(one, signal.SIGKILL)
