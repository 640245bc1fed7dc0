"""Reads the Grafana dashboard: its panels, and what they ask of Prometheus."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DASHBOARD = Path(__file__).resolve().parents[2] / "k8s" / "monitoring" / "grafana" / "dashboards" / "livedub.json"
METRIC = re.compile(r"\b(?:sts|ray_\w+?)_\w+\b")
SUFFIX = re.compile(r"_(?:bucket|count|sum)$")


@dataclass(frozen=True)
class Panel:
    """One panel that asks something."""

    title: str
    kind: str
    expressions: tuple[tuple[str, str], ...]
    """PromQL and the format of its legend."""
    place: Mapping[str, int]
    """x, y, w and h in the grid."""
    field: Mapping[str, Any]
    """Unit, thresholds and the like."""


def dashboard() -> dict[str, Any]:
    """The JSON as it is."""
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return loaded


def panels() -> Iterator[Panel]:
    """All but the rows' titles."""
    for panel in dashboard()["panels"]:
        if panel["type"] == "row":
            continue
        asked = tuple((target["expr"], target["legendFormat"]) for target in panel["targets"])
        yield Panel(panel["title"], panel["type"], asked, panel["gridPos"], panel["fieldConfig"]["defaults"])


def filled(expression: str, job: str, rate_interval: str) -> str:
    """The expression with the dashboard's variables filled in as Grafana does it."""
    for name, value in {"$__rate_interval": rate_interval, "$job": job, "$instance": ".*"}.items():
        expression = expression.replace(name, value)
    if "$" in expression:
        raise ValueError(f"a variable that nobody fills in: {expression}")
    return expression


def metrics_in(expression: str) -> set[str]:
    """Names of the metrics that it asks for, a histogram's without its suffix."""
    return {SUFFIX.sub("", name) for name in METRIC.findall(expression)}
