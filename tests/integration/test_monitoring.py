"""Debian's Prometheus scrapes the running service as on one machine and as on a cluster, and answers all questions.

Those that dashboard and alerts have, after a load in which everything happens that they show.
"""

import asyncio
import math
import re
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from serve_app.observability.exposition import merge
from tests.support import clips
from tests.support.dashboard import filled, metrics_in, panels
from tests.support.deepl_stub import deepl_stub
from tests.support.prometheus import MONITORING, Prometheus, local_config, prometheus
from tests.support.speed import seconds
from tests.support.variety import MS, Load, with_deepl
from tests.support.worker import Worker

LOAD_S = 12.0
RATE_INTERVAL = "30s"
INTERVAL_S = 2
LATE_S = 15.0
"""How much later than workers Prometheus may know: Ray tells each second, then comes a scrape."""
QUIET_S = 6
"""Longer than Ray's exporter keeps a gauge that nobody sets."""
JOBS = ("livedub", "pods/livedub")
"""`GET /metrics`, and Ray's own exporter read as the PodMonitor says."""
GPU_TEXT = """
# TYPE ray_sts_gpu_utilization_percent gauge
ray_sts_gpu_utilization_percent{gpu="GPU-1",WorkerId="a"} 61
# TYPE ray_sts_gpu_memory_used_bytes gauge
ray_sts_gpu_memory_used_bytes{gpu="GPU-1",WorkerId="a"} 12884901888
# TYPE ray_sts_gpu_memory_total_bytes gauge
ray_sts_gpu_memory_total_bytes{gpu="GPU-1",WorkerId="a"} 25769803776
"""
ELSEWHERE = {
    "sts_gpu_utilization_percent": "gpus",
    "sts_gpu_memory_used_bytes": "gpus",
    "sts_gpu_memory_total_bytes": "gpus",
    "ray_serve_deployment_queued_queries": "pods/livedub",
    "ray_serve_replica_processing_queries": "pods/livedub",
    "ray_serve_deployment_replica_starts_total": "pods/livedub",
}
"""Metrics that don't come by every way, and the job that tells them: a machine without a GPU tells nothing of GPUs, so
an exporter is told here; Serve's own are on Ray's exporter alone."""


@contextmanager
def exporter(text: str) -> Iterator[str]:
    """host:port of what answers with this text."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def ray_folder() -> Iterator[Path]:
    """Ray's own place; short, since it also holds sockets, whose names are limited."""
    folder = Path(tempfile.mkdtemp(prefix="prom"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def watched(serve, ray_folder, tmp_path_factory):
    """A server under a load of all kinds, seen by Prometheus; and the load."""
    folder = tmp_path_factory.mktemp("prometheus")
    with deepl_stub() as stub, exporter(merge([GPU_TEXT])) as gpus:
        server = serve("fakes", with_deepl(stub), environ={"DEEPL_API_KEY": "k", "RAY_TMPDIR": str(ray_folder)})
        [port] = ray_folder.glob("ray/session_latest/metrics_export_port_*")
        targets = {"livedub": f"127.0.0.1:{server.port}", "gpus": gpus}
        pods = {"pods/livedub": f"127.0.0.1:{port.read_text().strip()}"}
        with prometheus(local_config(targets, pods, INTERVAL_S), folder) as seen:
            load = Load(server.url, stub)
            asyncio.run(load.run(LOAD_S))
            yield server, seen, load


def numbers(entries: list[dict]) -> list[float]:
    return [float(entry["value"][1]) for entry in entries]


def asked() -> list[tuple[str, str, str]]:
    """Panel, expression and job, for each way by which its metrics come."""
    found = []
    for panel in panels():
        for expression, _ in panel.expressions:
            elsewhere = {ELSEWHERE[name] for name in metrics_in(expression) if name in ELSEWHERE}
            found += [(panel.title, expression, job) for job in elsewhere or JOBS]
    return found


def alert_values() -> list[tuple[str, str]]:
    """Name and expression of each alert without its threshold: what has to be there whether it fires or not."""
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    found = []
    for rule in groups[0]["rules"]:
        value = re.sub(r" or absent\(.*\)$", "", rule["expr"].strip())
        stripped = re.sub(r" (?:>|==) [\d.]+$", "", value)
        assert stripped != value
        found.append((rule["alert"], stripped))
    return found


def test_every_expression_of_the_dashboard_has_an_answer(watched):
    _, seen, _ = watched
    silent = []
    for title, expression, job in asked():
        values = numbers(seen.query(filled(expression, job, RATE_INTERVAL)))
        if not values or not all(map(math.isfinite, values)):
            silent.append((title, job, expression, values))
    assert silent == []


def test_every_alert_is_evaluated_and_has_something_to_judge(watched):
    _, seen, _ = watched
    [group] = seen.ask("rules")["groups"]
    assert {rule["name"]: (rule["health"], rule.get("lastError", "")) for rule in group["rules"]} == {
        name: ("ok", "") for name, _ in alert_values()
    }
    silent = [(name, value) for name, value in alert_values() if not seen.query(value)]
    assert silent == []


def test_alerts_hear_of_what_went_wrong(watched):
    """They wait for their time before they fire; that they do is what promtool's tests say."""
    _, seen, _ = watched
    pending = {alert["labels"]["alertname"] for alert in seen.ask("alerts")["alerts"]}
    assert {"LivedubBreakerOpen", "LivedubErrorRateHigh"} <= pending
    assert "LivedubGpuMemoryHigh" not in pending


@pytest.mark.parametrize("job", JOBS)
def test_prometheus_counts_what_workers_saw(watched, job):
    _, seen, load = watched
    statuses = Counter(result["status"] for result in load.results)
    codes = Counter(error["code"] for error in load.errors)
    codes += Counter(result["error"]["code"] for result in load.results if result.get("error"))
    assert {"MODEL_ERROR", "SYNTHESIS_FAILED", "BACKPRESSURE_EXCEEDED", "TRANSLATION_API_UNAVAILABLE"} <= set(codes)
    give_up_s = time.monotonic() + seconds(LATE_S)
    while True:
        counted = by(seen, "status", f'sts_fragment_processing_seconds_count{{job="{job}"}}')
        refused = by(seen, "error_code", f'sts_fragment_errors_total{{job="{job}"}}')
        if (counted, refused) == (statuses, codes) or time.monotonic() > give_up_s:
            break
        time.sleep(0.5)
    assert counted == statuses
    assert refused == codes


def by(seen: Prometheus, label: str, selected: str) -> dict[str, float]:
    """The sum by label."""
    entries = seen.query(f"sum by ({label}) ({selected})")
    return {entry["metric"][label]: float(entry["value"][1]) for entry in entries}


async def test_what_does_not_change_stays_in_the_metrics(watched):
    """A stream that waits, and an open breaker: Ray's exporter forgets what nobody sets."""
    server, seen, _ = watched
    async with Worker(server.url) as worker:
        await worker.init("waiting")
        await worker.send(0, clips.adts_fragments(MS)[0], audio__duration_ms=MS)
        await worker.wait_results(1)
        deadline_s = time.monotonic() + 30
        quiet = f"min_over_time(sts_streams_active[{QUIET_S}s]) == 1"
        whole = f"count_over_time(sts_streams_active[{QUIET_S}s]) >= {QUIET_S // INTERVAL_S}"
        while {entry["metric"]["job"] for entry in seen.query(f"({quiet}) and ({whole})")} != set(JOBS):
            assert time.monotonic() < deadline_s, seen.query(f"sts_streams_active[{2 * QUIET_S}s]")
            await asyncio.sleep(0.5)
        assert set(numbers(seen.query("max by (job) (sts_breaker_state)"))) <= {1.0, 2.0}
        assert worker.disconnects == 0


def test_replicas_and_models_are_told(watched):
    _, seen, _ = watched
    for job in JOBS:
        running = seen.query(f'max by (deployment_name) (sts_replicas{{job="{job}",state="running"}})')
        assert {entry["metric"]["deployment_name"] for entry in running} == {"Ingress", "Asr", "Translation", "Tts"}
        assert min(numbers(running)) == 1
        models = seen.query(f'max by (stage, model) (sts_model_info{{job="{job}"}}) == 1')
        assert {entry["metric"]["stage"]: entry["metric"]["model"] for entry in models} == {
            "asr": "fake",
            "translation": "deepl",
            "tts": "fake",
        }
