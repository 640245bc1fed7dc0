"""Samples the GPUs of the node for a model replica, in a thread of its own. Does nothing where there is no GPU."""

import threading
from collections.abc import Callable

import pynvml

from deployments.logs import get_logger

log = get_logger(__name__)
PERIOD_S = 1.0
"""Ray's exporter forgets what was not set for two report intervals, at the least 2 s."""
PERIODS_A_LOG_LINE = 60
MIB = 1024 * 1024

Sample = Callable[[str, float, int, int], None]
"""Takes a GPU's UUID, its utilization in percent, its memory in use and all of it, in bytes."""


def count_gpus() -> int:
    """NVIDIA GPUs of this machine; 0 without their library."""
    try:
        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return 0


def watch_gpus(sample: Sample) -> threading.Event | None:
    """Report all GPUs of this node each second until the returned event is set; None without library or GPU."""
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError:
        return None
    if not count:
        return None
    stop = threading.Event()
    threading.Thread(target=_watch, args=(sample, count, stop), name="livedub-gpus", daemon=True).start()
    return stop


def _watch(sample: Sample, count: int, stop: threading.Event) -> None:
    periods = 0
    while not stop.wait(PERIOD_S if periods else 0):
        for index in range(count):
            try:
                device = pynvml.nvmlDeviceGetHandleByIndex(index)
                uuid = str(pynvml.nvmlDeviceGetUUID(device))
                utilization = float(pynvml.nvmlDeviceGetUtilizationRates(device).gpu)
                memory = pynvml.nvmlDeviceGetMemoryInfo(device)
                used_bytes, total_bytes = int(memory.used), int(memory.total)
            except pynvml.NVMLError as error:
                log.warning("gpu_unreadable", gpu=index, error=str(error))
                continue
            sample(uuid, utilization, used_bytes, total_bytes)
            if periods % PERIODS_A_LOG_LINE == 0:
                log.info("gpu", gpu=uuid, utilization_percent=utilization, memory_used_mib=used_bytes // MIB)
        periods += 1
