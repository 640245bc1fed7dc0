"""The numbers of all nodes become one valid Prometheus text."""

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from serve_app.observability.exposition import Exposition, merge

RAY = 'Component="core_worker",NodeAddress="10.0.0.1",SessionName="s",WorkerId="{worker}",replica="Ingress#{worker}"'


def exporter(worker: str, *, requests: float = 1, streams: float = 1, gpu: float = 10) -> str:
    """What a node's exporter says, in Ray's own shape."""
    ray = RAY.format(worker=worker)
    return f"""# HELP ray_node_cpu Ray's own
# TYPE ray_node_cpu gauge
ray_node_cpu{{{ray}}} 99.0
# HELP ray_sts_backpressure_events_total Backpressure events sent.
# TYPE ray_sts_backpressure_events_total counter
ray_sts_backpressure_events_total{{{ray},severity="low"}} {requests}
# HELP ray_sts_streams_active Streams that are open.
# TYPE ray_sts_streams_active gauge
ray_sts_streams_active{{{ray}}} {streams}
# HELP ray_sts_asr_duration_seconds Recognition.
# TYPE ray_sts_asr_duration_seconds histogram
ray_sts_asr_duration_seconds_bucket{{{ray},le="10.0"}} 2.0
ray_sts_asr_duration_seconds_bucket{{{ray},le="0.5"}} 1.0
ray_sts_asr_duration_seconds_bucket{{{ray},le="+Inf"}} 3.0
ray_sts_asr_duration_seconds_count{{{ray}}} 3.0
ray_sts_asr_duration_seconds_sum{{{ray}}} 12.5
# HELP ray_sts_gpu_memory_used_bytes Memory.
# TYPE ray_sts_gpu_memory_used_bytes gauge
ray_sts_gpu_memory_used_bytes{{{ray},gpu="GPU-1"}} {gpu}
"""


def read(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The text as Prometheus reads it."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_counters_histograms_and_gauges_are_summed_over_processes():
    values = read(merge([exporter("a", requests=2, streams=3), exporter("b", requests=5, streams=4)]))
    assert values["sts_backpressure_events_total", (("severity", "low"),)] == 7
    assert values["sts_streams_active", ()] == 7
    assert values["sts_asr_duration_seconds_count", ()] == 6
    assert values["sts_asr_duration_seconds_sum", ()] == 25
    assert values["sts_asr_duration_seconds_bucket", (("le", "0.5"),)] == 2
    assert values["sts_asr_duration_seconds_bucket", (("le", "+Inf"),)] == 6


def test_a_gpu_that_several_report_counts_once():
    values = read(merge([exporter("a", gpu=12_345_678_901), exporter("b", gpu=10)]))
    assert values["sts_gpu_memory_used_bytes", (("gpu", "GPU-1"),)] == 12_345_678_901


def test_only_our_metrics_under_our_names_and_labels():
    text = merge([exporter("a")])
    assert "ray_" not in text
    assert "node_cpu" not in text
    assert "WorkerId" not in text
    assert "replica" not in text


def test_types_and_help_stand_before_their_samples():
    families = {family.name: family for family in text_string_to_metric_families(merge([exporter("a")]))}
    assert families["sts_backpressure_events"].type == "counter"
    assert families["sts_backpressure_events"].documentation == "Backpressure events sent."
    assert families["sts_streams_active"].type == "gauge"
    assert families["sts_asr_duration_seconds"].type == "histogram"


def test_buckets_stand_in_the_order_of_their_edges():
    lines = [line for line in merge([exporter("a")]).splitlines() if "_bucket" in line]
    assert [line.split('"')[1] for line in lines] == ["0.5", "10.0", "+Inf"]


def test_large_counts_keep_every_digit():
    """Six digits would make rates of a busy counter zero."""
    assert read(merge([exporter("a", requests=1_234_567)]))[
        "sts_backpressure_events_total", (("severity", "low"),)
    ] == (1_234_567)


def test_label_values_and_help_are_escaped():
    awkward = 'a"b\\c\nd'
    escaped = awkward.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    text = (
        "# HELP ray_sts_x one\\ntwo \\\\ three\n# TYPE ray_sts_x gauge\n"
        f'ray_sts_x{{gpu="{escaped}",WorkerId="w"}} 1.0\n'
    )
    merged = merge([text])
    assert read(merged) == {("sts_x", (("gpu", awkward),)): 1.0}
    [family] = text_string_to_metric_families(merged)
    assert family.documentation == "one\ntwo \\ three"


def test_a_metric_without_a_type_is_told_as_untyped():
    merged = merge(["ray_sts_x 1.0\n"])
    assert "# TYPE sts_x untyped" in merged
    assert read(merged) == {("sts_x", ()): 1.0}


def test_nothing_anywhere_is_an_empty_text():
    assert merge([]) == ""
    assert merge(["", "# nothing of ours\nray_node_cpu 1\n"]) == ""


def test_a_text_that_cannot_be_read_is_left_out():
    with capture_logs() as logged:
        values = read(merge(['ray_sts_x{gpu="} oops\n', exporter("b")]))
    assert values["sts_streams_active", ()] == 1
    assert [entry["event"] for entry in logged] == ["metrics_unreadable"]


@pytest.fixture
async def client():
    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "down":
            raise httpx.ConnectError("refused")
        if request.url.host == "slow":
            raise httpx.ReadTimeout("3 s")
        if request.url.host == "broken":
            return httpx.Response(500, text=exporter("x"))
        return httpx.Response(200, text=exporter(request.url.host))

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        yield client


async def test_all_nodes_are_gathered(client):
    exposition = Exposition(lambda: ["http://a/metrics", "http://b/metrics"], client)
    assert read(await exposition.render())["sts_streams_active", ()] == 2


async def test_a_node_that_fails_is_left_out_and_logged(client):
    urls = [f"http://{host}/metrics" for host in ("down", "a", "broken", "slow", "b")]
    with capture_logs() as logged:
        text = await Exposition(lambda: urls, client).render()
    assert read(text)["sts_streams_active", ()] == 2
    assert {entry["url"] for entry in logged} == {urls[0], urls[2], urls[3]}


async def test_no_node_at_all_is_an_empty_text(client):
    assert await Exposition(list, client).render() == ""
