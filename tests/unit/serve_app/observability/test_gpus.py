"""GPUs are sampled where there are any, by a stand-in for NVIDIA's library."""

# ruff: noqa: N802 - the names are NVIDIA's

import queue
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from serve_app.observability import gpus

TIMEOUT_S = 5.0


class Missing(Exception):
    """NVIDIA's error."""


class Library:
    """As much of pynvml as is used."""

    NVMLError = Missing

    def __init__(self, count: int = 0, *, there: bool = True) -> None:
        self.count = count
        self.there = there
        self.broken: set[int] = set()

    def nvmlInit(self) -> None:
        if not self.there:
            raise Missing("no library")

    def nvmlDeviceGetCount(self) -> int:
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetUUID(self, device: int) -> str:
        return f"GPU-{device}"

    def nvmlDeviceGetUtilizationRates(self, device: int) -> SimpleNamespace:
        if device in self.broken:
            raise Missing("not supported")
        return SimpleNamespace(gpu=50 + device)

    def nvmlDeviceGetMemoryInfo(self, device: int) -> SimpleNamespace:
        return SimpleNamespace(used=2**30, total=2**34)


@pytest.mark.parametrize("library", [Library(there=False), Library(0)], ids=["no library", "no GPU"])
def test_without_a_gpu_nothing_is_watched(library, monkeypatch):
    monkeypatch.setattr(gpus, "pynvml", library)
    assert gpus.watch_gpus(lambda *_: None) is None


def test_every_gpu_is_told_at_once_and_again_each_period(monkeypatch):
    monkeypatch.setattr(gpus, "pynvml", Library(2))
    monkeypatch.setattr(gpus, "PERIOD_S", 0.001)
    told: queue.Queue = queue.Queue()
    stop = gpus.watch_gpus(lambda *sample: told.put(sample))
    assert stop is not None
    samples = [told.get(timeout=TIMEOUT_S) for _ in range(2 * gpus.PERIODS_A_LOG_LINE)]
    stop.set()
    assert samples[:4] == [("GPU-0", 50.0, 2**30, 2**34), ("GPU-1", 51.0, 2**30, 2**34)] * 2


def test_a_gpu_that_cannot_be_read_does_not_hide_the_others(monkeypatch):
    library = Library(2)
    library.broken.add(0)
    monkeypatch.setattr(gpus, "pynvml", library)
    told: queue.Queue = queue.Queue()
    with capture_logs() as logged:
        stop = gpus.watch_gpus(lambda *sample: told.put(sample))
        assert told.get(timeout=TIMEOUT_S)[0] == "GPU-1"
        stop.set()
    assert (logged[0]["event"], logged[0]["gpu"]) == ("gpu_unreadable", 0)
