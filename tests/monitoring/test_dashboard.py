"""The Grafana dashboard is one that Grafana understands, and asks for what the service tells."""

import itertools
import json
import re
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from serve_app.observability.exposition import LABELS
from serve_app.observability.metrics import (
    GpuMetrics,
    ReplicaMetrics,
    ServiceMetrics,
    StreamMetrics,
    TranscriptionMetrics,
)
from tests.support.dashboard import dashboard, metrics_in, panels
from tests.support.prometheus import MONITORING

RAY_METRICS = {
    "ray_serve_deployment_queued_queries",
    "ray_serve_replica_processing_queries",
    "ray_serve_deployment_replica_starts_total",
}
"""Of Ray Serve 2.60; tests/integration/test_monitoring.py sees that its exporter tells them."""
TARGET_LABELS = {"job", "instance"}
RAY_LABELS = {"deployment"}
COLUMNS = 24


class Names:
    """Instruments that only know their names."""

    def __init__(self) -> None:
        self.made: set[str] = set()

    def __getattr__(self, kind: str):
        def make(name: str, **_: object) -> Names:
            self.made.add(name)
            return self

        return make

    def set(self, value: float, tags: dict[str, str] | None = None) -> None:
        """Nothing is kept."""


@pytest.fixture(scope="module")
def ours() -> set[str]:
    names = Names()
    for kind in (StreamMetrics, GpuMetrics, ServiceMetrics, ReplicaMetrics):
        kind(names)
    TranscriptionMetrics(names, print)
    return names.made


@pytest.fixture(scope="module")
def expressions() -> list[str]:
    return [expression for panel in panels() for expression, _ in panel.expressions]


def alert_expressions() -> list[str]:
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def lost(given: Any, kept: Any, path: str = "") -> list[str]:
    """What one has and the other lacks."""
    if isinstance(given, dict) and isinstance(kept, dict):
        missing = [f"{path}.{name}" for name in given if name not in kept]
        return missing + [p for name in given if name in kept for p in lost(given[name], kept[name], f"{path}.{name}")]
    if isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        return [p for number, pair in enumerate(zip(given, kept, strict=True)) for p in lost(*pair, f"{path}.{number}")]
    return [] if given == kept else [f"{path}: {given!r} became {kept!r}"]


def test_grafana_knows_every_field():
    """Read into Grafana's own types and written again, nothing is lost: they drop what they don't know."""
    plugins.register_default_plugins()
    given = dashboard()
    assert lost(given, json.loads(JSONEncoder().encode(Dashboard.from_json(given)))) == []


def test_a_field_that_grafana_does_not_know_would_be_noticed():
    plugins.register_default_plugins()
    given = dashboard()
    given["panels"][1]["options"]["colourMode"] = "value"
    found = lost(given, json.loads(JSONEncoder().encode(Dashboard.from_json(given))))
    assert found == [".panels.1.options.colourMode"]


def test_panels_have_numbers_of_their_own_and_do_not_overlap():
    placed = dashboard()["panels"]
    numbers = [panel["id"] for panel in placed]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in placed:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= COLUMNS
        columns, lines = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        cells = set(itertools.product(columns, lines))
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_panel_says_what_it_shows_in_which_unit_and_what_is_too_much():
    for panel in dashboard()["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["title"], panel
        assert panel["description"].endswith("."), panel["title"]
        if panel["type"] != "table":
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
            assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"], panel["title"]
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters), panel["title"]


def test_everything_is_asked_of_the_data_source_that_was_chosen():
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    whole = dashboard()
    variables = [variable for variable in whole["templating"]["list"] if variable["type"] == "query"]
    targets = [target for panel in whole["panels"] for target in panel.get("targets", ())]
    asking = [*variables, *targets, *(panel for panel in whole["panels"] if panel["type"] != "row")]
    assert all(one["datasource"] == chosen for one in asking)


def test_every_series_is_chosen_by_job_and_instance(expressions):
    for expression in expressions:
        chosen = re.findall(r"\{([^}]*)\}", expression)
        assert len(chosen) == len(re.findall(r"\b(?:sts|ray)_\w+", expression)), expression
        assert all(matchers.startswith('job=~"$job",instance=~"$instance"') for matchers in chosen), expression


def test_every_variable_is_defined_and_used():
    whole = dashboard()
    defined = {variable["name"] for variable in whole["templating"]["list"]}
    text = json.dumps({name: whole[name] for name in ("panels", "links", "templating")})
    used = set(re.findall(r"\$\{?([a-z_]\w*)\}?", text)) - {"__rate_interval", "__all"}
    assert used == defined


def test_all_metrics_of_the_service_are_shown_and_no_others(expressions, ours):
    shown = set().union(*map(metrics_in, expressions))
    assert shown - RAY_METRICS == ours
    assert shown & RAY_METRICS == RAY_METRICS


def test_alerts_ask_for_metrics_of_the_service_alone(ours):
    asked = set().union(*map(metrics_in, alert_expressions()))
    assert asked
    assert asked <= ours


def test_labels_are_such_as_the_service_tells(expressions):
    known = {*LABELS, *TARGET_LABELS, *RAY_LABELS}
    for expression in [*expressions, *alert_expressions()]:
        grouped = re.findall(r"\bby \(([^)]*)\)", expression)
        matched = re.findall(r'(\w+)\s*(?:=~|!=|!~|=)\s*"', expression)
        named = {label.strip() for group in grouped for label in group.split(",")} | set(matched)
        assert named <= known, expression


def test_lines_named_by_a_label_are_grouped_by_it():
    for panel in panels():
        for expression, legend in panel.expressions:
            grouped = {
                name.strip() for group in re.findall(r"\bby \(([^)]*)\)", expression) for name in group.split(",")
            }
            assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= grouped, panel.title


def test_grafana_finds_dashboard_and_data_source():
    folder = MONITORING / "grafana" / "provisioning"
    [source] = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text(encoding="utf-8"))["datasources"]
    [provider] = yaml.safe_load((folder / "dashboards" / "livedub.yaml").read_text(encoding="utf-8"))["providers"]
    scraped = yaml.safe_load((MONITORING / "prometheus.yaml").read_text(encoding="utf-8"))["global"]["scrape_interval"]
    assert source["type"] == "prometheus"
    assert source["jsonData"]["timeInterval"] == scraped
    assert provider["options"]["path"]


def test_what_failed_is_red_and_what_succeeded_is_green():
    [panel] = [panel for panel in dashboard()["panels"] if panel["title"] == "Results by status"]
    colors = {
        one["matcher"]["options"]: one["properties"][0]["value"]["fixedColor"]
        for one in panel["fieldConfig"]["overrides"]
    }
    assert colors == {"success": "green", "partial": "yellow", "failed": "red"}
