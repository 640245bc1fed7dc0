"""What Prometheus is given is valid, and alerts fire when they should: promtool of Debian's package says so."""

import copy
import re
import subprocess

import pytest
import yaml

from tests.support.manifests import NEWEST, OLDEST, render, schema_complaints
from tests.support.prometheus import MONITORING

PROJECT = MONITORING.parents[1]
SEVERITIES = {"critical", "warning"}


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *arguments], cwd=MONITORING, capture_output=True, text=True, timeout=60, check=False
    )


def loaded(name: str) -> dict:
    return yaml.safe_load((MONITORING / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def rules() -> list[dict]:
    return [rule for group in loaded("alerts.yaml")["groups"] for rule in group["rules"]]


@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "prometheus.yaml"), ("check", "rules", "alerts.yaml"), ("test", "rules", "alerts_test.yaml")],
    ids=" ".join,
)
def test_promtool_is_content(arguments):
    said = promtool(*arguments)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "SUCCESS" in said.stdout


def test_promtool_would_notice_an_alert_with_another_threshold(tmp_path):
    """The unit tests of the alerts hold their numbers: each is tried with its threshold moved far off."""
    text = (MONITORING / "alerts.yaml").read_text(encoding="utf-8")
    (tmp_path / "alerts_test.yaml").write_text((MONITORING / "alerts_test.yaml").read_text(encoding="utf-8"))
    for threshold in re.finditer(r"(?<= > )[\d.]+$|(?<= == )0(?= or|$)", text, re.MULTILINE):
        moved = text[: threshold.start()] + "1e9" + text[threshold.end() :]
        (tmp_path / "alerts.yaml").write_text(moved, encoding="utf-8")
        said = promtool("test", "rules", str(tmp_path / "alerts_test.yaml"))
        assert said.returncode != 0, text[threshold.start() - 80 : threshold.end()]


def test_every_alert_says_how_bad_it_is_since_when_and_what_to_do(rules):
    assert rules
    for rule in rules:
        assert rule["alert"].startswith("Livedub")
        assert rule["labels"]["severity"] in SEVERITIES
        assert re.fullmatch(r"\d+m", rule["for"]), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}, rule["alert"]
        assert rule["annotations"]["runbook"] == f"docs/operating.md#{rule['alert'].lower()}"


def test_the_operators_guide_has_a_chapter_for_every_alert(rules):
    guide = (PROJECT / "docs" / "operating.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^#+ (Livedub\w+)$", guide, re.MULTILINE)) == {rule["alert"] for rule in rules}


def test_every_alert_is_seen_to_fire_and_to_keep_quiet(rules):
    fired, quiet = set(), set()
    for test in loaded("alerts_test.yaml")["tests"]:
        for check in test["alert_rule_test"]:
            (fired if check["exp_alerts"] else quiet).add(check["alertname"])
    assert fired == quiet == {rule["alert"] for rule in rules}


def test_a_rate_covers_at_least_four_scrapes(rules):
    interval_s = int(loaded("prometheus.yaml")["global"]["scrape_interval"].removesuffix("s"))
    ranges = [int(minutes) * 60 for rule in rules for minutes in re.findall(r"\[(\d+)m\]", rule["expr"])]
    assert ranges
    assert min(ranges) >= 4 * interval_s


def test_the_operators_rules_are_those_of_prometheus():
    assert loaded("prometheusrule.yaml")["spec"] == loaded("alerts.yaml")


def test_pods_are_scraped_as_often_as_the_service_on_one_machine():
    [endpoint] = loaded("podmonitor.yaml")["spec"]["podMetricsEndpoints"]
    shipped = loaded("prometheus.yaml")["global"]
    assert (endpoint["interval"], endpoint["scrapeTimeout"]) == (shipped["scrape_interval"], shipped["scrape_timeout"])


@pytest.fixture(scope="module")
def applied() -> list[dict]:
    """What `kubectl apply -k k8s/monitoring` sends."""
    return render(MONITORING)


def test_a_cluster_gets_monitor_rules_and_dashboard(applied):
    by_kind = {manifest["kind"]: manifest for manifest in applied}
    assert set(by_kind) == {"PodMonitor", "PrometheusRule", "ConfigMap"}
    assert len(applied) == 3
    dashboard = by_kind["ConfigMap"]
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    shipped = (MONITORING / "grafana" / "dashboards" / "livedub.json").read_text(encoding="utf-8")
    assert dashboard["data"]["livedub.json"] == shipped


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_the_cluster_accepts_them(applied, version):
    assert [complaint for manifest in applied for complaint in schema_complaints(manifest, version)] == []


def test_the_cluster_would_refuse_a_field_that_it_does_not_know(applied):
    monitor = next(manifest for manifest in applied if manifest["kind"] == "PodMonitor")
    monitor = copy.deepcopy(monitor)
    monitor["spec"]["podMetricsEndpoints"][0]["scrapeTimout"] = "8s"
    assert len(schema_complaints(monitor, NEWEST)) == 1


def test_the_monitor_selects_the_pods_that_ray_runs_in(applied):
    """Their labels and the port's name are those of k8s/base; KubeRay adds ray.io/cluster."""
    monitor = next(manifest for manifest in applied if manifest["kind"] == "PodMonitor")["spec"]
    [service] = [each for each in render(MONITORING.parent / "base") if each["kind"] == "RayService"]
    cluster = service["spec"]["rayClusterConfig"]
    templates = [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    wanted = {rule["key"]: rule.get("values") for rule in monitor["selector"]["matchExpressions"]}
    assert wanted.pop("ray.io/cluster") is None
    for template in templates:
        labels = template["metadata"]["labels"]
        assert all(labels[key] in values for key, values in wanted.items())
        ports = {port["name"] for container in template["spec"]["containers"] for port in container["ports"]}
        assert monitor["podMetricsEndpoints"][0]["port"] in ports
