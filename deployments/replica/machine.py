"""What this process may use of its machine."""

import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_THREADS = Path("/proc/self/task")


def usable_cores(cgroups: Path = _CGROUPS, own: Path = Path("/proc/self/cgroup")) -> float:
    """Cores that this process may use: those that it may run on, or the quota of its control group if that is less.

    Args:
        cgroups: where control groups of version 2 are mounted.
        own: names the group of this process.
    """
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    return min([cores, *_quotas(cgroups, own)])


def waited_s(threads: Path = _THREADS) -> float:
    """Seconds that the threads of this process have waited for a core, all together; 0 where the kernel doesn't tell.

    Args:
        threads: where each has a folder with its `schedstat`: ns of computing, ns of waiting, number of turns.
    """
    waited_ns = 0
    for told in threads.glob("*/schedstat"):
        try:
            waited_ns += int(told.read_text().split()[1])
        except (OSError, ValueError, IndexError):  # the thread has just ended
            continue
    return waited_ns / 1e9


def _quotas(cgroups: Path, own: Path) -> list[float]:
    """Of the group and all groups around it."""
    try:
        group = next(line[3:] for line in own.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return []
    path = cgroups / group.strip("/")
    found = []
    for folder in (path, *path.parents):
        if not folder.is_relative_to(cgroups):
            break
        try:
            quota, period = (folder / "cpu.max").read_text().split()
        except (OSError, ValueError):
            continue
        if quota.isdigit() and int(period) > 0:
            found.append(int(quota) / int(period))
    return found
