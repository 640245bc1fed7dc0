"""What the operator's guide names exists: alerts, metrics, panels, events, codes, objects; and its snippets work."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from livedub.cli import app as command_line
from serve_app.observability.metrics import GpuMetrics, ServiceMetrics, StreamMetrics, TranscriptionMetrics
from serve_app.protocol import ERROR_TABLE

PROJECT = Path(__file__).resolve().parents[2]
GUIDE = (PROJECT / "docs" / "operating.md").read_text(encoding="utf-8")
MONITORING = PROJECT / "k8s" / "monitoring"
ALERTS = yaml.safe_load((MONITORING / "alerts.yaml").read_text(encoding="utf-8"))
NOT_IN_THE_MANIFESTS = {"livedub-auth"}
"""Made by a command of the guide."""
MADE_BY_KUBERAY = {"livedub-head-svc"}


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)


def inline():
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", GUIDE, flags=re.DOTALL | re.MULTILINE))


def section(heading):
    return re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#|\Z)", GUIDE, re.DOTALL | re.MULTILINE)[2]


# --- watching ---


def rules():
    return [rule for group in ALERTS["groups"] for rule in group["rules"]]


def test_every_alert_has_its_section_and_every_section_its_alert():
    under_alerts = GUIDE.partition("\n## Alerts\n")[2].partition("\n## ")[0]
    headings = re.findall(r"^### (\w+)$", under_alerts, re.MULTILINE)
    assert sorted(headings) == sorted(rule["alert"] for rule in rules())
    for heading in headings:
        assert len(section(heading).split()) > 20  # a meaning and a remedy


def test_every_alert_points_at_its_section():
    for rule in rules():
        assert rule["annotations"]["runbook"] == f"docs/operating.md#{rule['alert'].lower()}"


def test_every_alert_that_is_named_exists():
    assert set(re.findall(r"\bLivedub[A-Z]\w+", GUIDE)) == {rule["alert"] for rule in rules()}


def test_every_metric_that_is_named_exists():
    made = []

    class Instruments:
        def __getattr__(self, kind):
            return lambda name, **_: made.append(name) or self

        def set(self, value, tags=None):
            """Nothing is kept."""

    for metrics in (StreamMetrics, ServiceMetrics, GpuMetrics):
        metrics(Instruments())
    TranscriptionMetrics(Instruments(), lambda _reason: None)
    named = set(re.findall(r"\bsts_\w+\w", GUIDE))
    assert named
    assert named <= set(made)


def test_every_panel_that_is_named_exists():
    dashboard = json.loads((MONITORING / "grafana" / "dashboards" / "livedub.json").read_text(encoding="utf-8"))
    panels = {panel["title"].lower() for panel in dashboard["panels"]}
    prose = re.sub(r"^```.*?^```", "", GUIDE, flags=re.DOTALL | re.MULTILINE)
    named = set(re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", prose)) - {"Not tried"}
    wanted = {"Replicas running" if name == "running" else name for name in named}
    assert wanted
    assert {name.lower() for name in wanted} <= panels


def test_every_event_of_the_logs_that_is_named_is_logged():
    sources = "".join(
        path.read_text(encoding="utf-8")
        for top in ("serve_app", "deployments")
        for path in (PROJECT / top).rglob("*.py")
    )
    suffixes = r"(?:failed|died|processed|quarantined|refused)"
    named = {name for name in inline() if re.fullmatch(rf"[a-z]+(?:_[a-z]+)*_{suffixes}", name)}
    assert len(named) > 5
    assert {name for name in named if f'"{name}"' not in sources} == set()


def test_every_code_that_is_named_exists():
    table = section("Errors")
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+|TIMEOUT|INTERNAL)`", table))
    assert named
    assert named <= set(ERROR_TABLE)


# --- objects and snippets ---


def test_every_object_that_is_named_is_in_the_manifests():
    manifests = "".join(path.read_text(encoding="utf-8") for path in (PROJECT / "k8s").rglob("*.yaml"))
    named = set(re.findall(r"\blivedub-[a-z-]+[a-z]\b", GUIDE))
    assert named - NOT_IN_THE_MANIFESTS - MADE_BY_KUBERAY
    for name in named - NOT_IN_THE_MANIFESTS - MADE_BY_KUBERAY:
        assert re.search(rf"\b{name}\b", manifests), name


def test_every_option_of_a_bench_that_is_named_exists():
    for module, arguments in re.findall(r"python -m (bench\.\w+)([^\n`#]*)", GUIDE):
        source = (PROJECT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
        for option in re.findall(r"--[a-z-]+", arguments):
            assert f'"{option}"' in source


def test_every_option_that_stands_alone_exists():
    group = typer.main.get_command(command_line)
    context = typer.Context(group)
    commands = [group.get_command(context, name) for name in group.list_commands(context)]
    known = {option for command in commands for param in command.params for option in param.opts}
    benches = "".join(path.read_text(encoding="utf-8") for path in (PROJECT / "bench").glob("*.py"))
    named = {code.split()[0] for code in inline() if code.startswith("--")} - {"--build-arg"}  # of the container engine
    assert named
    assert {option for option in named - known if f'"{option}"' not in benches} == set()


def test_the_example_of_the_formula_is_right():
    numbers = r"([\d.]+) × ([\d.]+) ÷ ([\d.]+) × ([\d.]+) = ([\d.]+)"
    utilisation, fragment_s, took_s, share, streams = map(float, re.search(numbers, GUIDE).groups())
    assert utilisation * fragment_s / took_s * share == pytest.approx(streams)


def kubectl():
    beside = Path(sys.executable).with_name("kubectl")
    found = str(beside) if beside.exists() else shutil.which("kubectl")
    if found is None:
        pytest.skip("kubectl is not installed")
    return found


def test_the_overlay_of_the_guide_builds(tmp_path):
    shutil.copytree(PROJECT / "k8s", tmp_path / "k8s", ignore=shutil.ignore_patterns("monitoring"))
    site = tmp_path / "k8s" / "overlays" / "site"
    site.mkdir()
    overlay, doors = blocks("yaml")
    (site / "kustomization.yaml").write_text(overlay + doors)
    built = subprocess.run([kubectl(), "kustomize", str(site)], check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    by_kind = {manifest["kind"]: manifest for manifest in yaml.safe_load_all(built.stdout)}
    cluster = by_kind["RayService"]["spec"]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        [container] = group["template"]["spec"]["containers"]
        assert container["image"] == "registry.example.com/livedub:0.1.0-cuda"
        assert {"secretRef": {"name": "livedub-auth"}} in container["envFrom"]
    settings = [m for m in yaml.safe_load_all(built.stdout) if m["metadata"]["name"].startswith("livedub-settings")]
    assert settings[0]["data"]["LIVEDUB_TTS__ACCEPT_CPML"] == "true"
    assert settings[0]["data"]["LIVEDUB_GPUS"] == "awaited"


def test_the_unit_of_the_guide_is_one_that_systemd_takes(tmp_path):
    systemd = shutil.which("systemd-analyze")
    if systemd is None:
        pytest.skip("systemd-analyze is not installed")
    [unit] = blocks("ini")
    assert "KillMode=mixed" in unit
    path = tmp_path / "livedub.service"
    path.write_text(unit.replace("/opt/livedub/.venv/bin/livedub", "/bin/true"))
    told = subprocess.run([systemd, "verify", str(path)], check=False, capture_output=True, text=True)
    assert not re.findall(r"livedub\.service:\d+:.*", told.stderr)
