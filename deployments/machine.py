"""What this process may use of its machine."""

import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def usable_cores(cgroups: Path = _CGROUPS, own: Path = Path("/proc/self/cgroup")) -> float:
    """Cores that this process may use: those that it may run on, or the quota of its control group if that is less.

    Args:
        cgroups: where control groups of version 2 are mounted.
        own: names the group of this process.
    """
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    return min([cores, *_quotas(cgroups, own)])


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
