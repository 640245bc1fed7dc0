"""What all measurements share: percentiles, intervals, targets, the machine's name, tables, JSON files and plots."""

import json
import math
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).resolve().parent / "results"
QUICK_RESULTS = RESULTS / "quick"
RESAMPLES = 1000
PACKAGES = ("ray", "ctranslate2", "onnxruntime")
"""Whose versions decide the figures most."""


class _Run:
    quick = False


def quick() -> None:
    """From here on this process runs quick: its results go to bench/results/quick/, not over those of a full run."""
    _Run.quick = True


def folder() -> Path:
    """Where this run's results go; there is one."""
    path = QUICK_RESULTS if _Run.quick else RESULTS
    path.mkdir(parents=True, exist_ok=True)
    return path


@dataclass(frozen=True, slots=True)
class Target:
    """What a measurement was to reach, and what it did."""

    what: str
    """Begins a sentence, such as: p95 of the overhead, 8 streams."""
    found: float
    bound: float
    unit: str = ""
    at_least: bool = False
    """The bound is the lowest that is good enough; else the highest."""
    because: str = ""
    """One sentence: what decides it. Read where the target is missed."""
    headline: bool = False
    """The README tells it."""

    @property
    def met(self) -> bool:
        """Whether what was found is good enough; what could not be measured (NaN) is not."""
        return self.found >= self.bound if self.at_least else self.found <= self.bound


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """n, p50, p95, p99 and max, rounded to a tenth."""
    if not values:
        return {"n": 0}
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    named = {"p50": p50, "p95": p95, "p99": p99, "max": max(values)}
    return {"n": len(values)} | {name: round(float(value), 1) for name, value in named.items()}


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    named = {"cpu": model, "cores": os.cpu_count(), "memory_gib": round(psutil.virtual_memory().total / 2**30, 1)}
    return named | {"python": platform.python_version(), "packages": _versions()}


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def median(values: Sequence[float]) -> dict[str, float]:
    """n, the median and the bounds of its 95 % interval, by resampling; unrounded."""
    if not values:
        return {"n": 0}
    drawn = np.random.default_rng(0).choice(np.asarray(values, dtype=float), (RESAMPLES, len(values)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return {"n": len(values), "median": float(np.median(values)), "low": float(low), "high": float(high)}


def write(name: str, figures: dict[str, Any], targets: Sequence[Target] = ()) -> Path:
    """Leave the figures with the machine, the day and the targets in <name>.json of the run's folder."""
    path = folder() / f"{name}.json"
    about: dict[str, Any] = {"machine": machine(), "date": datetime.now(UTC).date().isoformat(), "quick": _Run.quick}
    judged = {"targets": [_told(target) for target in targets]} if targets else {}
    path.write_text(json.dumps(about | figures | judged, indent=2) + "\n", encoding="utf-8")
    return path


def _told(target: Target) -> dict[str, Any]:
    found = None if math.isnan(target.found) else target.found  # JSON has no NaN
    return asdict(target) | {"found": found, "met": target.met}


def judge(targets: Sequence[Target]) -> None:
    """Print each target beside what was found."""
    table = Table("target", "found", "wanted", "", title="Targets")
    for one in targets:
        sign = "≥" if one.at_least else "≤"
        told = "met" if one.met else "missed"
        table.add_row(one.what, f"{one.found:.4g} {one.unit}", f"{sign} {one.bound:.4g} {one.unit}", told)
    Console().print(table)


@contextmanager
def plot(name: str, n_axes: int = 1, width: float = 5.0) -> Iterator[list[Any]]:
    """The axes of a picture, side by side, saved to <name>.png of the run's folder at the end."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to import, and not every measurement draws

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(1, n_axes, figsize=(width * n_axes, 3.4), layout="constrained", squeeze=False)
    try:
        yield list(axes[0])
        figure.savefig(folder() / f"{name}.png", dpi=110)
    finally:
        plt.close(figure)


def show(title: str, rows: Sequence[tuple[str, dict[str, float]]], unit: str = "ms") -> None:
    """Print one row of percentiles a measurement."""
    table = Table("", "n", "p50", "p95", "p99", "max", title=f"{title} ({unit})")
    for name, row in rows:
        table.add_row(name, *(str(row.get(key, "–")) for key in ("n", "p50", "p95", "p99", "max")))
    Console().print(table)
