"""Gauges are told again, with all their labels, and never an old value after a new one."""

import queue

import pytest

from deployments.resilience.retries import CallOutcome
from serve_app.observability import sticky_gauges as lasting
from serve_app.observability.metrics import ServiceMetrics, StreamMetrics
from serve_app.observability.sticky_gauges import LastingInstruments
from tests.unit.serve_app.observability.test_metrics import Registry

TIMEOUT_S = 5.0


@pytest.fixture
def registry() -> Registry:
    return Registry()


def test_a_gauge_is_told_again_as_it_was_set_last(registry):
    instruments = LastingInstruments(registry)
    StreamMetrics(instruments).load(2, 5, 90.0)
    before = len(registry.values("sts_streams_active"))
    instruments.tell()
    assert registry.values("sts_streams_active")[before:] == [(2, {})]
    assert registry.values("sts_fragments_in_flight")[before:] == [(5, {})]


def test_every_set_of_labels_is_told(registry):
    instruments = LastingInstruments(registry)
    gauge = instruments.Gauge("sts_x", description="X.", tag_keys=("service",))
    for service, value in (("a", 1), ("b", 2), ("a", 3)):
        gauge.set(value, {"service": service})
    instruments.tell()
    assert registry.values("sts_x")[3:] == [(3, {"service": "a"}), (2, {"service": "b"})]


def test_a_value_that_stays_is_told_once(registry):
    instruments = LastingInstruments(registry)
    gauge = instruments.Gauge("sts_x", description="X.", tag_keys=("service",))
    for value in (1, 1, 0, 0, 1):
        gauge.set(value, {"service": "a"})
    assert [value for value, _ in registry.values("sts_x")] == [1, 0, 1]


def test_nothing_is_told_before_it_is_known(registry):
    instruments = LastingInstruments(registry)
    instruments.Gauge("sts_x", description="X.", tag_keys=())
    instruments.tell()
    assert registry.values("sts_x") == []


def test_counters_and_histograms_are_counted_once(registry):
    instruments = LastingInstruments(registry)
    metrics = ServiceMetrics(instruments)
    metrics.attempted("deepl", next(iter(CallOutcome)), 0.2)
    instruments.tell()
    assert len(registry.values("sts_service_attempts_total")) == 1
    assert len(registry.values("sts_service_attempt_seconds")) == 1


def test_a_thread_keeps_telling(monkeypatch):
    told: queue.Queue = queue.Queue()

    class Gauge:
        def set(self, value, tags=None):
            told.put((value, tags))

    class Make:
        def Gauge(self, name, description, tag_keys):  # noqa: N802
            return Gauge()

    monkeypatch.setattr(lasting, "PERIOD_S", 0.001)
    lasting.lasting(Make()).Gauge("sts_x", description="X.", tag_keys=()).set(7)
    assert [told.get(timeout=TIMEOUT_S) for _ in range(3)] == [(7, None)] * 3
