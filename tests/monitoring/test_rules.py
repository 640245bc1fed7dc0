"""What Prometheus is given is valid, and alerts fire when they should: promtool of Debian's package says so."""

import re
import subprocess

import pytest
import yaml

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
