"""Every metric of the service: what it is called, what it counts and when.

Instruments are Ray's, so they reach Ray's own exporter on every node; `exposition` gathers them into one
`GET /metrics`. Labels are bounded: stage, code, status, severity, model, deployment, GPU and the like. Never a stream,
a worker or a voice.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from deployments.contracts.values import FASTER_VOICE
from deployments.errors import Stage
from deployments.resilience.breaker import BreakerState
from deployments.resilience.retries import CallOutcome
from serve_app.access import Reason
from serve_app.protocol import Backpressure, ErrorEvent, FragmentProcessed
from serve_app.scheduling.admission import START
from serve_app.stream.values import ORIGINAL_AUDIO, SILENCE, Effect, Emit
from serve_app.transcription import Completed, Event, Final, Interim

PREFIX = "sts_"
SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 30.0]
RATIOS = [0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0]
PERCENTS = [0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0]
SPEEDS = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.5, 1.75, 2.0]
BREAKER_LEVELS = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}
DEGRADED = frozenset({FASTER_VOICE, ORIGINAL_AUDIO, SILENCE})
"""Warnings of results with less than was wanted."""
NO_STAGE = "none"
"""The stage label of errors that belong to none: refused messages, broken rules."""


class CounterLike(Protocol):
    """Ray's Counter, as far as it is used here."""

    def inc(self, value: float = 1.0, tags: dict[str, str] | None = None) -> None:
        """Add."""


class GaugeLike(Protocol):
    """Ray's Gauge, as far as it is used here."""

    def set(self, value: float, tags: dict[str, str] | None = None) -> None:
        """Replace."""


class HistogramLike(Protocol):
    """Ray's Histogram, as far as it is used here."""

    def observe(self, value: float, tags: dict[str, str] | None = None) -> None:
        """Add one observation."""


class Instruments(Protocol):
    """Makes instruments: `ray.serve.metrics`, or a stand-in in tests."""

    def Counter(self, name: str, description: str, tag_keys: tuple[str, ...]) -> CounterLike:  # noqa: N802
        """A number that only grows."""

    def Gauge(self, name: str, description: str, tag_keys: tuple[str, ...]) -> GaugeLike:  # noqa: N802
        """A number that goes up and down."""

    def Histogram(  # noqa: N802
        self, name: str, description: str, boundaries: Sequence[float], tag_keys: tuple[str, ...]
    ) -> HistogramLike:
        """A distribution."""


class StreamMetrics:
    """Counts a replica's streams by the effects that its sessions decide."""

    def __init__(self, make: Instruments) -> None:
        def seconds(name: str, description: str, *tags: str) -> HistogramLike:
            return make.Histogram(name, description=description, boundaries=SECONDS, tag_keys=tags)

        self._processing = seconds(
            "sts_fragment_processing_seconds", "From a fragment's acceptance to its result.", "status"
        )
        self._stages: Mapping[str, HistogramLike] = {
            "asr": seconds("sts_asr_duration_seconds", "Decoding and recognition of one fragment."),
            "translation": seconds("sts_translation_duration_seconds", "Translation of one fragment."),
            "tts": seconds("sts_tts_duration_seconds", "Synthesis, fitting and encoding of one fragment."),
        }
        self._queue = seconds("sts_queue_wait_seconds", "Part of a fragment's processing that no stage computed.")
        self._realtime = make.Histogram(
            "sts_realtime_factor",
            description="Computing time of all stages over the fragment's duration.",
            boundaries=RATIOS,
            tag_keys=(),
        )
        self._variance = make.Histogram(
            "sts_duration_variance_percent",
            description="How far the dub's duration is from the original's.",
            boundaries=PERCENTS,
            tag_keys=("status",),
        )
        self._stretch = make.Histogram(
            "sts_stretch_ratio",
            description="Spoken over fitted duration; above 1 the voice was sped up.",
            boundaries=SPEEDS,
            tag_keys=(),
        )
        self._errors = make.Counter(
            "sts_fragment_errors_total",
            description="Failed results by stage and code, and error events (stage none).",
            tag_keys=("stage", "error_code"),
        )
        self._backpressure = make.Counter(
            "sts_backpressure_events_total", description="Backpressure events sent.", tag_keys=("severity",)
        )
        self._degraded = make.Counter(
            "sts_fragments_degraded_total",
            description="Results with less than was wanted, so that they came in time, by what they got instead.",
            tag_keys=("rung",),
        )
        self._quarantined = make.Counter(
            "sts_contents_quarantined_total",
            description="Contents refused from then on because replicas of the stage died on them.",
            tag_keys=("stage",),
        )
        self._refused = make.Counter(
            "sts_connections_refused_total",
            description="Connections turned down for their token, their origin or a limit.",
            tag_keys=("reason",),
        )
        self._in_flight = make.Gauge(
            "sts_fragments_in_flight", description="Fragments between acceptance and result.", tag_keys=()
        )
        self._streams = make.Gauge("sts_streams_active", description="Streams that are open.", tag_keys=())
        self._limit = make.Gauge(
            "sts_admission_limit",
            description="Fragments in flight that would all be done in time, as far as the models' speed is known.",
            tag_keys=(),
        )
        self._in_stage = make.Gauge(
            "sts_stage_fragments",
            description="Fragments that a stage's replicas have been given: running or waiting there.",
            tag_keys=("stage",),
        )
        self._model = make.Gauge(
            "sts_model_info", description="1 for the model that a stage runs.", tag_keys=("stage", "model")
        )
        self._models: dict[Stage, str] = {}
        self.load(0, 0, START)
        for stage in Stage:
            self.in_stage(stage, 0)

    def load(self, streams: int, in_flight: int, limit: float) -> None:
        """Streams open, fragments in flight and the limit of these on this replica."""
        self._streams.set(streams)
        self._in_flight.set(in_flight)
        self._limit.set(limit)

    def in_stage(self, stage: Stage, fragments: int) -> None:
        """Fragments of this ingress replica that a stage has been given and not answered."""
        self._in_stage.set(fragments, tags={"stage": stage.value})

    def model(self, stage: Stage, model: str) -> None:
        """The model that a stage runs now."""
        before = self._models.get(stage)
        if before not in (None, model):
            self._model.set(0, tags={"stage": stage.value, "model": str(before)})
        self._models[stage] = model
        self._model.set(1, tags={"stage": stage.value, "model": model})

    def quarantined(self, stage: Stage) -> None:
        """Count a content that made replicas of the stage die."""
        self._quarantined.inc(tags={"stage": stage.value})

    def refused(self, reason: Reason) -> None:
        """Count a connection that was turned down."""
        self._refused.inc(tags={"reason": reason})

    def observe(self, effect: Effect) -> None:
        """Count what an effect tells; most tell nothing."""
        if not isinstance(effect, Emit) or effect.again:
            return
        match effect.event:
            case FragmentProcessed() as result:
                self._result(result)
            case Backpressure(severity=severity):
                self._backpressure.inc(tags={"severity": severity})
            case ErrorEvent(code=code):
                self._errors.inc(tags={"stage": NO_STAGE, "error_code": code})

    def _result(self, result: FragmentProcessed) -> None:
        timings = result.stage_timings.model_dump()
        computed_ms = sum(timings.values())
        self._processing.observe(result.processing_time_ms / 1000, tags={"status": result.status})
        self._queue.observe(max(0, result.processing_time_ms - computed_ms) / 1000)
        for stage, histogram in self._stages.items():
            if timings[f"{stage}_ms"]:
                histogram.observe(timings[f"{stage}_ms"] / 1000)
        if result.metadata.original_duration_ms and result.error is None:
            self._realtime.observe(computed_ms / result.metadata.original_duration_ms)
        if result.metadata.duration_variance_percent is not None:
            self._variance.observe(result.metadata.duration_variance_percent, tags={"status": result.status})
        if result.metadata.speed_ratio is not None:
            self._stretch.observe(result.metadata.speed_ratio)
        for rung in DEGRADED.intersection(result.warnings or ()):
            self._degraded.inc(tags={"rung": rung})
        if result.error is not None:
            self._errors.inc(tags={"stage": result.error.stage, "error_code": result.error.code})


class TranscriptionMetrics:
    """Counts live transcription sessions by what they tell.

    Args:
        make: instruments.
        refused: counts a connection that was turned down.
    """

    def __init__(self, make: Instruments, refused: Callable[[Reason], None]) -> None:
        def seconds(name: str, description: str) -> HistogramLike:
            return make.Histogram(name, description=description, boundaries=SECONDS, tag_keys=("door",))

        def total(name: str, description: str) -> CounterLike:
            return make.Counter(name, description=description, tag_keys=("door",))

        self.refused = refused
        self._sessions = make.Gauge(
            "sts_transcription_sessions", description="Transcription sessions that are open.", tag_keys=("door",)
        )
        self._first = seconds(
            "sts_transcription_first_interim_seconds", "From the arrival of a voice to the first interim of it."
        )
        self._finals = seconds(
            "sts_transcription_final_seconds", "From the arrival of an utterance's last sound to its final."
        )
        self._audio = total("sts_transcription_audio_seconds_total", "Audio of sessions that were completed.")
        self._dropped = total("sts_transcription_interims_dropped_total", "Interims that no model had time for.")
        self._revised = total("sts_transcription_revised_words_total", "Words that changed after they were shown.")
        self._failed = make.Counter(
            "sts_transcription_errors_total",
            description="Finals that are empty because recognition failed.",
            tag_keys=("door", "error_code"),
        )

    def sessions(self, door: str, count: int) -> None:
        """Sessions of a door that are open on this replica."""
        self._sessions.set(count, tags={"door": door})

    def told(self, door: str, event: Event) -> None:
        """Count what an event tells."""
        tags = {"door": door}
        match event:
            case Interim(latency_s=latency_s) if latency_s is not None:
                self._first.observe(latency_s, tags=tags)
            case Final():
                if event.latency_s is not None:
                    self._finals.observe(event.latency_s, tags=tags)
                if event.failure is not None:
                    self._failed.inc(tags={**tags, "error_code": event.failure.code})
            case Completed(statistics):
                for counter, value in (
                    (self._audio, statistics.audio_ms / 1000),
                    (self._dropped, statistics.interims_dropped),
                    (self._revised, statistics.revised_words),
                ):
                    if value:  # Ray refuses to add nothing
                        counter.inc(value, tags=tags)


class GpuMetrics:
    """What the node's GPUs do; absent where there is none."""

    def __init__(self, make: Instruments) -> None:
        self._utilization = make.Gauge(
            "sts_gpu_utilization_percent",
            description="Share of the last sample period in which the GPU was busy.",
            tag_keys=("gpu",),
        )
        self._memory = make.Gauge(
            "sts_gpu_memory_used_bytes", description="Memory of the GPU in use by all processes.", tag_keys=("gpu",)
        )
        self._total = make.Gauge("sts_gpu_memory_total_bytes", description="Memory of the GPU.", tag_keys=("gpu",))

    def sample(self, gpu: str, utilization_percent: float, memory_used_bytes: int, memory_total_bytes: int) -> None:
        """One reading of one GPU, named by its UUID."""
        self._utilization.set(utilization_percent, tags={"gpu": gpu})
        self._memory.set(memory_used_bytes, tags={"gpu": gpu})
        self._total.set(memory_total_bytes, tags={"gpu": gpu})


class ReplicaMetrics:
    """Serve's replicas by deployment; each ingress replica tells all of them."""

    def __init__(self, make: Instruments) -> None:
        self._replicas = make.Gauge(
            "sts_replicas",
            description="Replicas of a deployment that are starting, running or stopping.",
            tag_keys=("deployment_name", "state"),
        )
        self._wanted = make.Gauge(
            "sts_replicas_wanted",
            description="Replicas that a deployment should have, by its configuration or its autoscaling.",
            tag_keys=("deployment_name",),
        )

    def counted(self, deployment: str, states: Mapping[str, int], wanted: int) -> None:
        """What Serve's controller says of one deployment."""
        for state, count in states.items():
            self._replicas.set(count, tags={"deployment_name": deployment, "state": state})
        self._wanted.set(wanted, tags={"deployment_name": deployment})


class ServiceMetrics:
    """Calls to outside services, such as DeepL, and the state of their circuit breakers."""

    def __init__(self, make: Instruments) -> None:
        self._attempts = make.Counter(
            "sts_service_attempts_total",
            description="Attempts to call an outside service by how they ended; retries count.",
            tag_keys=("service", "outcome"),
        )
        self._seconds = make.Histogram(
            "sts_service_attempt_seconds",
            description="Time of one attempt to call an outside service.",
            boundaries=SECONDS,
            tag_keys=("service",),
        )
        self._breaker = make.Gauge(
            "sts_breaker_state",
            description="Circuit breaker of an outside service: 0 closed, 1 half-open, 2 open.",
            tag_keys=("service",),
        )

    def attempted(self, service: str, outcome: CallOutcome, elapsed_s: float) -> None:
        """One attempt has ended, or was not made because the breaker is open."""
        self._attempts.inc(tags={"service": service, "outcome": outcome.value})
        self._seconds.observe(elapsed_s, tags={"service": service})

    def breaker_changed(self, service: str, state: BreakerState) -> None:
        """The breaker has a new state."""
        self._breaker.set(BREAKER_LEVELS[state], tags={"service": service})
