"""What all measurements share: percentiles, the machine's name, tables and JSON files."""

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).resolve().parent / "results"


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
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version()}


def write(name: str, figures: dict[str, Any]) -> Path:
    """Leave the figures with the machine and the day in bench/results/<name>.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    day = datetime.now(UTC).date().isoformat()
    path.write_text(json.dumps({"machine": machine(), "date": day, **figures}, indent=2) + "\n", encoding="utf-8")
    return path


def show(title: str, rows: Sequence[tuple[str, dict[str, float]]], unit: str = "ms") -> None:
    """Print one row of percentiles a measurement."""
    table = Table("", "n", "p50", "p95", "p99", "max", title=f"{title} ({unit})")
    for name, row in rows:
        table.add_row(name, *(str(row.get(key, "–")) for key in ("n", "p50", "p95", "p99", "max")))
    Console().print(table)
