"""Runs Debian's Prometheus on this machine with the project's own scrape configuration, and asks it."""

import contextlib
import copy
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from serve_app.operations.place import free_port
from tests.support.speed import seconds

MONITORING = Path(__file__).resolve().parents[2] / "k8s" / "monitoring"
START_TIMEOUT_S = 20
STOP_TIMEOUT_S = 10
SNAKE = {"sourceLabels": "source_labels", "targetLabel": "target_label"}
"""Fields of a PodMonitor's relabelings as Prometheus' own configuration spells them."""


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    url: str

    def ask(self, path: str, **parameters: object) -> Any:
        """`data` of an answer of its HTTP API.

        Raises:
            ValueError: it says why it can't answer.
        """
        parameters = {name: str(value) for name, value in parameters.items()}
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=10, trust_env=False).json()
        if answer["status"] != "success":
            raise ValueError(f"{answer['error']}: {parameters}")
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The vector of now: each entry has `metric` and `value`."""
        return list(self.ask("query", query=expression)["result"])

    def value(self, expression: str) -> float:
        """The one number that the expression gives now."""
        [entry] = self.query(expression)
        return float(entry["value"][1])

    def series(self, expression: str, start_s: float, end_s: float, step_s: float) -> list[dict[str, Any]]:
        """The matrix over a time: each entry has `metric` and `values`."""
        found = self.ask("query_range", query=expression, start=start_s, end=end_s, step=step_s)
        return list(found["result"])


def pod_relabelings() -> list[dict[str, Any]]:
    """The PodMonitor's, in the spelling of Prometheus' own configuration."""
    monitor = yaml.safe_load((MONITORING / "podmonitor.yaml").read_text(encoding="utf-8"))
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    return [{SNAKE.get(name, name): value for name, value in step.items()} for step in endpoint["metricRelabelings"]]


def local_config(targets: Mapping[str, str], pods: Mapping[str, str], interval_s: int) -> dict[str, Any]:
    """prometheus.yaml with other addresses and a shorter interval.

    Args:
        targets: job to host:port; each is scraped as the shipped job is.
        pods: job to host:port of exporters of Ray, scraped as the PodMonitor does it.
        interval_s: between scrapes and evaluations.
    """
    config: dict[str, Any] = yaml.safe_load((MONITORING / "prometheus.yaml").read_text(encoding="utf-8"))
    config["global"] = dict.fromkeys(config["global"], f"{interval_s}s")
    config["rule_files"] = [str(MONITORING / name) for name in config["rule_files"]]
    [shipped] = config["scrape_configs"]
    jobs = []
    for name, target in targets.items():
        jobs.append(copy.deepcopy(shipped) | {"job_name": name, "static_configs": [{"targets": [target]}]})
    for name, target in pods.items():
        static = [{"targets": [target]}]
        jobs.append({"job_name": name, "static_configs": static, "metric_relabel_configs": pod_relabelings()})
    return config | {"scrape_configs": jobs}


@contextlib.contextmanager
def prometheus(config: dict[str, Any], folder: Path) -> Iterator[Prometheus]:
    """One that listens on this machine alone and keeps its data in `folder`, for as long as this is entered."""
    program = shutil.which("prometheus")
    if program is None:
        raise FileNotFoundError("prometheus is not installed; `make packages-test` does it")
    file = folder / "prometheus.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    arguments = [
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([program, *arguments], stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    try:
        _wait_until_ready(f"http://{address}", process, folder / "prometheus.log")
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    give_up_s = time.monotonic() + seconds(START_TIMEOUT_S)
    while time.monotonic() < give_up_s and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/-/ready", timeout=2, trust_env=False).is_success:
                return
        time.sleep(0.1)
    raise RuntimeError(f"prometheus did not start: {log.read_text(encoding='utf-8')[-2000:]}")
