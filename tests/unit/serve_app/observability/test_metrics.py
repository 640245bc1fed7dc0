"""Effects become numbers under fixed names with bounded labels."""

# ruff: noqa: N802 - the names are Ray's

from dataclasses import dataclass, field, replace

import pytest
from ray.serve.metrics import APPLICATION_TAG, DEPLOYMENT_TAG, REPLICA_TAG

from deployments.contracts.values import Outcome
from deployments.errors import DurationMismatch, InvalidAudio, Stage
from deployments.resilience.breaker import BreakerState
from deployments.resilience.retries import CallOutcome
from serve_app.observability.exposition import LABELS
from serve_app.observability.metrics import (
    GpuMetrics,
    ReplicaMetrics,
    ServiceMetrics,
    StreamMetrics,
    TranscriptionMetrics,
)
from serve_app.protocol import ErrorCode, error_event
from serve_app.stream.backpressure import Level
from serve_app.stream.event_builders import pressure, queued
from serve_app.stream.result_builder import present
from serve_app.stream.values import Cancel, Close, Emit, Submit
from serve_app.transcription import Completed, Final, Interim, SpeechStarted, Statistics
from tests.unit.serve_app.scripted import FRAGMENT, OUTCOME, SETTINGS, SPEECH, transcript

NAMES = {
    "sts_fragment_processing_seconds": ("Histogram", ("status",)),
    "sts_asr_duration_seconds": ("Histogram", ()),
    "sts_translation_duration_seconds": ("Histogram", ()),
    "sts_tts_duration_seconds": ("Histogram", ()),
    "sts_queue_wait_seconds": ("Histogram", ()),
    "sts_realtime_factor": ("Histogram", ()),
    "sts_duration_variance_percent": ("Histogram", ("status",)),
    "sts_stretch_ratio": ("Histogram", ()),
    "sts_fragment_errors_total": ("Counter", ("stage", "error_code")),
    "sts_backpressure_events_total": ("Counter", ("severity",)),
    "sts_fragments_degraded_total": ("Counter", ("rung",)),
    "sts_contents_quarantined_total": ("Counter", ("stage",)),
    "sts_connections_refused_total": ("Counter", ("reason",)),
    "sts_fragments_in_flight": ("Gauge", ()),
    "sts_streams_active": ("Gauge", ()),
    "sts_admission_limit": ("Gauge", ()),
    "sts_stage_fragments": ("Gauge", ("stage",)),
    "sts_model_info": ("Gauge", ("stage", "model")),
}


@dataclass
class Instrument:
    kind: str
    tag_keys: tuple[str, ...]
    description: str
    boundaries: list[float] = field(default_factory=list)
    values: list[tuple[float, dict[str, str]]] = field(default_factory=list)

    def inc(self, value: float = 1.0, tags: dict[str, str] | None = None) -> None:
        assert value > 0, "Ray refuses to add nothing"
        self._take("Counter", value, tags)

    def set(self, value: float, tags: dict[str, str] | None = None) -> None:
        self._take("Gauge", value, tags)

    def observe(self, value: float, tags: dict[str, str] | None = None) -> None:
        self._take("Histogram", value, tags)

    def _take(self, kind: str, value: float, tags: dict[str, str] | None) -> None:
        assert kind == self.kind
        assert set(tags or {}) == set(self.tag_keys)
        assert all(isinstance(text, str) for text in (tags or {}).values())
        self.values.append((value, dict(tags or {})))


class Registry:
    """Instruments that remember, made as Ray makes its own."""

    def __init__(self) -> None:
        self.made: dict[str, Instrument] = {}

    def Counter(self, name, description, tag_keys):
        return self._make("Counter", name, description, tag_keys)

    def Gauge(self, name, description, tag_keys):
        return self._make("Gauge", name, description, tag_keys)

    def Histogram(self, name, description, boundaries, tag_keys):
        assert list(boundaries) == sorted(set(boundaries))
        return self._make("Histogram", name, description, tag_keys)

    def _make(self, kind, name, description, tag_keys):
        assert name not in self.made
        assert description.endswith(".")
        self.made[name] = Instrument(kind, tuple(tag_keys), description)
        return self.made[name]

    def values(self, name: str) -> list[tuple[float, dict[str, str]]]:
        return self.made[name].values


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def metrics(registry) -> StreamMetrics:
    return StreamMetrics(registry)


def result(outcome: Outcome, processing_ms: int = 500) -> Emit:
    return Emit(present(SETTINGS, FRAGMENT, outcome, ticket=1, start_ms=0, processing_ms=processing_ms))


def test_every_metric_has_its_name_kind_and_labels(registry, metrics):
    assert {name: (made.kind, made.tag_keys) for name, made in registry.made.items()} == NAMES


def test_no_label_can_grow_without_bound_and_none_is_lost_on_the_way_to_the_scrape(registry, metrics):
    GpuMetrics(registry)
    ServiceMetrics(registry)
    ReplicaMetrics(registry)
    TranscriptionMetrics(registry, metrics.refused)
    labels = {label for made in registry.made.values() for label in made.tag_keys}
    assert labels == {
        *("status", "stage", "error_code", "severity", "reason", "gpu"),
        *("service", "outcome", "deployment_name", "state", "model", "rung", "door"),
    }
    assert labels < set(LABELS)
    assert not labels & {DEPLOYMENT_TAG, REPLICA_TAG, APPLICATION_TAG}, "Ray Serve keeps these for itself"


def test_a_success_is_measured_stage_by_stage(registry, metrics):
    metrics.observe(result(OUTCOME))
    assert registry.values("sts_fragment_processing_seconds") == [(0.5, {"status": "success"})]
    assert registry.values("sts_asr_duration_seconds") == [(0.04, {})]
    assert registry.values("sts_translation_duration_seconds") == [(0.03, {})]
    assert registry.values("sts_tts_duration_seconds") == [(0.05, {})]
    assert registry.values("sts_queue_wait_seconds") == [(0.38, {})]
    assert registry.values("sts_realtime_factor") == [(0.02, {})]
    assert registry.values("sts_duration_variance_percent") == [(0.0, {"status": "success"})]
    assert registry.values("sts_stretch_ratio") == [(1.0, {})]
    assert registry.values("sts_fragment_errors_total") == []


def test_a_quarantined_content_counts_for_its_stage(registry, metrics):
    metrics.quarantined(Stage.TTS)
    assert registry.values("sts_contents_quarantined_total") == [(1.0, {"stage": "tts"})]


def test_a_refused_connection_counts_for_its_reason(registry, metrics):
    metrics.refused("origin")
    assert registry.values("sts_connections_refused_total") == [(1.0, {"reason": "origin"})]


def test_a_partial_result_counts_with_its_status(registry, metrics):
    metrics.observe(result(replace(OUTCOME, speech=replace(SPEECH, partial=True, variance_percent=15.0))))
    assert registry.values("sts_fragment_processing_seconds") == [(0.5, {"status": "partial"})]
    assert registry.values("sts_duration_variance_percent") == [(15.0, {"status": "partial"})]


def test_a_failure_counts_by_stage_and_code_and_spoils_no_average(registry, metrics):
    metrics.observe(result(Outcome(failure=InvalidAudio(Stage.ASR, "noise"))))
    assert registry.values("sts_fragment_errors_total") == [(1.0, {"stage": "asr", "error_code": "INVALID_AUDIO"})]
    assert registry.values("sts_fragment_processing_seconds") == [(0.5, {"status": "failed"})]
    for name in ("sts_asr_duration_seconds", "sts_realtime_factor", "sts_stretch_ratio"):
        assert registry.values(name) == []


def test_a_dub_that_did_not_fit_still_tells_how_far_it_was(registry, metrics):
    details = {"actual_variance_percent": 42.0, "speed_ratio": 2.0}
    metrics.observe(result(Outcome(transcript(), failure=DurationMismatch(Stage.TTS, "too long", details))))
    assert registry.values("sts_duration_variance_percent") == [(42.0, {"status": "failed"})]
    assert registry.values("sts_stretch_ratio") == [(2.0, {})]


def test_waiting_is_never_negative(registry, metrics):
    metrics.observe(result(OUTCOME, processing_ms=1))
    assert registry.values("sts_queue_wait_seconds") == [(0.0, {})]


def test_error_events_count_without_a_stage(registry, metrics):
    metrics.observe(Emit(error_event(ErrorCode.MALFORMED_DATA, "no")))
    expected = {"stage": "none", "error_code": "MALFORMED_DATA"}
    assert registry.values("sts_fragment_errors_total") == [(1.0, expected)]


def test_backpressure_counts_by_severity(registry, metrics):
    metrics.observe(Emit(pressure(SETTINGS, Level.MEDIUM, 4, 4, 3000)))
    assert registry.values("sts_backpressure_events_total") == [(1.0, {"severity": "medium"})]


@pytest.mark.parametrize("rung", ["faster_voice", "original_audio", "silence"])
def test_results_with_less_than_was_wanted_count_by_what_they_got(rung, registry, metrics):
    speech = replace(SPEECH, warnings=("duration_variance_high", rung))
    metrics.observe(result(replace(OUTCOME, speech=speech)))
    assert registry.values("sts_fragments_degraded_total") == [(1.0, {"rung": rung})]


def test_load_replaces_and_starts_at_nothing(registry, metrics):
    metrics.load(2, 5, 100.5)
    assert registry.values("sts_streams_active") == [(0, {}), (2, {})]
    assert registry.values("sts_fragments_in_flight") == [(0, {}), (5, {})]
    assert registry.values("sts_admission_limit")[-1] == (100.5, {})


def test_fragments_in_a_stage_start_at_nothing_and_are_told_by_stage(registry, metrics):
    metrics.in_stage(Stage.TTS, 3)
    assert registry.values("sts_stage_fragments") == [
        *((0, {"stage": stage.value}) for stage in Stage),
        (3, {"stage": "tts"}),
    ]


def test_a_stage_runs_one_model_at_a_time(registry, metrics):
    for model in ("small", "small", "medium"):
        metrics.model(Stage.ASR, model)
    small, medium = {"stage": "asr", "model": "small"}, {"stage": "asr", "model": "medium"}
    assert registry.values("sts_model_info") == [(1, small), (1, small), (0, small), (1, medium)]


def test_replicas_are_told_by_deployment_and_state(registry):
    ReplicaMetrics(registry).counted("Tts", {"running": 2, "stopping": 1}, 3)
    assert registry.values("sts_replicas") == [
        (2, {"deployment_name": "Tts", "state": "running"}),
        (1, {"deployment_name": "Tts", "state": "stopping"}),
    ]
    assert registry.values("sts_replicas_wanted") == [(3, {"deployment_name": "Tts"})]


@pytest.mark.parametrize(
    "effect",
    [Submit(1, FRAGMENT, 8.0), Cancel(1), Close(0, 1000, "x"), Emit(queued(SETTINGS, FRAGMENT, 0, 0.0))],
    ids=lambda effect: type(effect).__name__,
)
def test_other_effects_count_nothing(effect, registry, metrics):
    before = {name: list(made.values) for name, made in registry.made.items()}
    metrics.observe(effect)
    assert {name: made.values for name, made in registry.made.items()} == before


def test_a_kept_result_that_is_sent_again_is_counted_once(registry, metrics):
    first = result(OUTCOME)
    metrics.observe(first)
    metrics.observe(replace(first, again=True))
    assert len(registry.values("sts_fragment_processing_seconds")) == 1


def test_gpus_are_told_by_their_uuid(registry):
    GpuMetrics(registry).sample("GPU-1", 75.0, 1024, 4096)
    assert registry.values("sts_gpu_utilization_percent") == [(75.0, {"gpu": "GPU-1"})]
    assert registry.values("sts_gpu_memory_used_bytes") == [(1024, {"gpu": "GPU-1"})]
    assert registry.values("sts_gpu_memory_total_bytes") == [(4096, {"gpu": "GPU-1"})]


def test_calls_to_services_and_their_breaker_are_told_by_service(registry):
    metrics = ServiceMetrics(registry)
    metrics.attempted("deepl", next(iter(CallOutcome)), 0.2)
    metrics.breaker_changed("deepl", BreakerState.OPEN)
    [(count, labels)] = registry.values("sts_service_attempts_total")
    assert (count, set(labels)) == (1.0, {"service", "outcome"})
    assert registry.values("sts_service_attempt_seconds") == [(0.2, {"service": "deepl"})]
    assert registry.values("sts_breaker_state") == [(2, {"service": "deepl"})]


def test_a_transcription_session_is_measured_by_what_it_tells(registry, metrics):
    transcription = TranscriptionMetrics(registry, metrics.refused)
    transcription.sessions("deepgram", 3)
    for event in (
        SpeechStarted(300),
        Interim(0, 900, "", "And", latency_s=0.6),
        Interim(0, 1400, "And", " Mister"),
        Final(0, 3000, "And Mister", latency_s=0.9),
        Final(3000, 6000, "", failure=InvalidAudio(Stage.ASR, "broken"), latency_s=0.2),
        Final(6000, 9000, ""),
        Completed(Statistics(audio_ms=9000, interims_dropped=2)),
    ):
        transcription.told("deepgram", event)
    door = {"door": "deepgram"}
    assert registry.values("sts_transcription_sessions") == [(3, door)]
    assert registry.values("sts_transcription_first_interim_seconds") == [(0.6, door)]
    assert registry.values("sts_transcription_final_seconds") == [(0.9, door), (0.2, door)]
    assert registry.values("sts_transcription_audio_seconds_total") == [(9.0, door)]
    assert registry.values("sts_transcription_interims_dropped_total") == [(2, door)]
    assert registry.values("sts_transcription_revised_words_total") == []
    assert registry.values("sts_transcription_errors_total") == [(1.0, {**door, "error_code": "INVALID_AUDIO"})]
