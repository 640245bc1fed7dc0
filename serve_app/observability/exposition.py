"""`GET /metrics`: what Ray's exporters on all nodes hold about this service, as one Prometheus text.

Each process exports its own numbers under Ray's name and labels. Here they are gathered, summed over processes, and
told under their own names, so a scrape is true whichever ingress replica answers it and the number of series doesn't
grow with replicas.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Iterable

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.utils import floatToGoString

from deployments.logs import get_logger
from serve_app.observability.metrics import PREFIX

log = get_logger(__name__)
RAY_PREFIX = "ray_"
LABELS = (
    *("status", "stage", "error_code", "severity", "service", "outcome", "reason", "rung"),
    *("deployment_name", "state", "model", "gpu", "door", "le"),
)
"""What is kept; Ray's own labels (node, worker, replica, session) are summed away."""
LARGEST = (
    *("sts_gpu_utilization_percent", "sts_gpu_memory_used_bytes", "sts_gpu_memory_total_bytes"),
    *("sts_breaker_state", "sts_model_info", "sts_replicas", "sts_replicas_wanted"),
)
"""Several replicas may report the same GPU, service, model or deployment: the largest value counts."""
NODE_TIMEOUT_S = 3.0
MAX_NODES_AT_ONCE = 16

Sample = tuple[str, tuple[tuple[str, str], ...]]


class Exposition:
    """Gathers the cluster's numbers.

    Args:
        exporters: URLs of the nodes' exporters; may block, is called in a thread.
        client: for the requests.
    """

    def __init__(self, exporters: Callable[[], list[str]], client: httpx.AsyncClient) -> None:
        self._exporters = exporters
        self._client = client
        self._at_once = asyncio.Semaphore(MAX_NODES_AT_ONCE)

    async def render(self) -> str:
        """The Prometheus text. A node that doesn't answer in time is left out and logged."""
        urls = await asyncio.wait_for(asyncio.to_thread(self._exporters), NODE_TIMEOUT_S)
        texts = await asyncio.gather(*(self._read(url) for url in urls))
        return await asyncio.to_thread(merge, texts)

    async def _read(self, url: str) -> str:
        async with self._at_once:
            try:
                response = await self._client.get(url, timeout=NODE_TIMEOUT_S)
                response.raise_for_status()
            except httpx.HTTPError as error:
                log.warning("metrics_node_missing", url=url, error=f"{type(error).__name__}: {error}")
                return ""
            return response.text


def merge(texts: Iterable[str]) -> str:
    """Sum the service's samples of several exporters into one Prometheus text."""
    values: dict[Sample, float] = defaultdict(float)
    kinds: dict[str, tuple[str, str]] = {}
    for text in texts:
        for family in _families(text):
            family_name = family.name.removeprefix(RAY_PREFIX)
            kinds[family_name] = (family.type, family.documentation)
            for sample in family.samples:
                name = sample.name.removeprefix(RAY_PREFIX)
                kept = tuple((label, sample.labels[label]) for label in LABELS if label in sample.labels)
                key = (name, kept)
                values[key] = max(values[key], sample.value) if name in LARGEST else values[key] + sample.value
    return "".join(_family(name, *kinds[name], values) for name in sorted(kinds))


def _families(text: str) -> list[Metric]:
    """The service's families in one exporter's text; none when it can't be read."""
    try:
        return list(text_string_to_metric_families(_own_lines(text)))
    except ValueError as error:
        log.warning("metrics_unreadable", error=str(error)[:500])
        return []


def _own_lines(text: str) -> str:
    wanted = (f"{RAY_PREFIX}{PREFIX}", f"# HELP {RAY_PREFIX}{PREFIX}", f"# TYPE {RAY_PREFIX}{PREFIX}")
    return "".join(f"{line}\n" for line in text.splitlines() if line.startswith(wanted))


def _family(name: str, kind: str, documentation: str, values: dict[Sample, float]) -> str:
    shown = f"{name}_total" if kind == "counter" else name
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(kind, ("",))
    lines = [f"# HELP {shown} {_escaped(documentation)}", f"# TYPE {shown} {'untyped' if kind == 'unknown' else kind}"]
    for suffix in suffixes:
        rows = [(labels, value) for (sample, labels), value in values.items() if sample == f"{name}{suffix}"]
        for labels, value in sorted(rows, key=lambda row: _order(row[0])):
            told = ",".join(f'{label}="{_quotable(text)}"' for label, text in labels)
            number = floatToGoString(value)  # type: ignore[no-untyped-call]
            lines.append(f"{name}{suffix}{{{told}}} {number}" if told else f"{name}{suffix} {number}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quotable(text: str) -> str:
    return _escaped(text).replace('"', '\\"')


def _order(labels: tuple[tuple[str, str], ...]) -> tuple[tuple[str, ...], float]:
    """Sorts a histogram's buckets by their edge."""
    others = tuple(value for label, value in labels if label != "le")
    return others, next((float(value) for label, value in labels if label == "le"), -math.inf)
