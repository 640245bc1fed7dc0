"""What else the machine did while something was measured: on a shared machine, the first question about a figure."""

import os
import time

import psutil


class ForeignLoad:
    """Counts the CPU time that went to others than this process and all that it started."""

    def __init__(self) -> None:
        self._started_s = time.monotonic()
        self._busy_s, self._own_s = _busy_s(), _own_s()

    def percent(self) -> float:
        """Since it was made: of all cores together, the share that others used, 0 to 100."""
        wall_s = (time.monotonic() - self._started_s) * (os.cpu_count() or 1)
        others_s = (_busy_s() - self._busy_s) - (_own_s() - self._own_s)
        return round(100 * min(1.0, max(0.0, others_s / wall_s)), 1)


def _busy_s() -> float:
    """Of the whole machine; what a hypervisor gave to others counts too."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)


def _own_s() -> float:
    """Of this process, of all that lives below it, and of what has ended there and was waited for."""
    found = 0.0
    for process in (own := psutil.Process(), *own.children(recursive=True)):
        try:
            found += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return found
