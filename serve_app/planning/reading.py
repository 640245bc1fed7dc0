"""From a Serve configuration to what a plan is made of. It knows the engines' options and the figures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deployments.asr import AsrOptions
from deployments.asr.faster_whisper import FasterWhisperOptions
from deployments.translation import TranslationOptions
from deployments.translation.deepl import DeepLOptions
from deployments.tts import TtsOptions
from deployments.tts.kokoro import KokoroOptions
from deployments.tts.xtts import XttsOptions
from serve_app.configuration.schema import AppConfig
from serve_app.planning.figures import (
    CARDS,
    CPU,
    INGRESS_MEMORY_MIB,
    INGRESS_MS,
    MEASURED_FRAGMENT_S,
    Card,
    Figure,
    How,
    cpu_ms,
    gpu_memory_gib,
    host_memory_mib,
    real_time_factor,
)
from serve_app.planning.plan import Work
from serve_app.protocol import MeasuredTimes

_SERVES_OWN = 5
"""Of `max_ongoing_requests`, where the file has none."""
_UNKNOWN_MEMORY = Figure(1024, How.ESTIMATED, "nothing is known of this engine")


class PlanError(ValueError):
    """Nothing can be planned; the message says what is missing and how to get it."""


@dataclass(frozen=True, slots=True)
class Given:
    """Own measurements, in ms a fragment of the planned length; they win over figures that are known."""

    asr_ms: float | None = None
    translation_ms: float | None = None
    tts_ms: float | None = None
    server: str = ""
    """Where `told` comes from."""
    told: MeasuredTimes = field(default_factory=MeasuredTimes)
    """What the stages of a running server measured at their start; it counts where nothing else is given."""

    def ms(self, stage: str, fragment_s: float) -> Figure | None:
        """Of one call of a stage: asr, translation or tts."""
        typed: float | None = {"asr": self.asr_ms, "translation": self.translation_ms, "tts": self.tts_ms}[stage]
        if typed is not None:
            return Figure(typed, How.GIVEN, f"--{stage}-ms")
        return self._measured(f"{stage}_ms", fragment_s)

    def cpu_ms(self, stage: str, fragment_s: float) -> Figure | None:
        """CPU time of one call of a stage, all threads together."""
        return self._measured(f"{stage}_cpu_ms", fragment_s)

    def _measured(self, field: str, fragment_s: float) -> Figure | None:
        value: float | None = self.told.model_dump()[field]
        source = f"a sentence that the model said at its start, {self.server}/ready"
        return None if value is None else Figure(value * fragment_s / MEASURED_FRAGMENT_S, How.MEASURED, source)


def card_named(name: str, memory_gib: float | None) -> Card | None:
    """The GPU of that name, as people write it; None for `cpu`. One that is not known has the memory that is given."""
    words = name.lower().replace("_", " ").replace("-", " ").split()
    wanted = "-".join(word for word in words if word not in ("nvidia", "geforce", "tesla"))
    if wanted == CPU:
        return None
    known = CARDS.get(wanted, Card(wanted, None))
    return known if memory_gib is None else Card(known.name, memory_gib)


def works_of(
    application: Mapping[str, Any], config: AppConfig, card: Card | None, fragment_s: float, given: Given
) -> list[Work]:
    """The four deployments as they are configured, with what a fragment costs each.

    Args:
        application: the Serve application's entry of the file.
        config: its `args`, checked.
        card: the GPUs to plan for; None: there are none.
        fragment_s: how long a fragment is.
        given: own measurements.

    Raises:
        PlanError: a figure is missing, or a GPU.
    """
    deployments = {d["name"]: d for d in application.get("deployments") or [] if "name" in d}
    missing: list[str] = []
    works = [_ingress(deployments.get("Ingress", {}))]
    for name, options in (("Asr", config.asr), ("Translation", config.translation), ("Tts", config.tts)):
        reader = _Reader(name, options, card, fragment_s, given)
        work = reader.work(deployments.get(name, {}))
        if isinstance(work, Work):
            works.append(work)
        else:
            missing.append(work)
    if missing:
        raise PlanError("; ".join(missing))
    return works


def _ingress(deployment: Mapping[str, Any]) -> Work:
    sockets = _number(deployment, "max_ongoing_requests", _SERVES_OWN)
    sockets = min(sockets, _number(deployment.get("autoscaling_config") or {}, "target_ongoing_requests", sockets))
    return Work(
        "Ingress",
        INGRESS_MS,
        INGRESS_MEMORY_MIB,
        num_cpus=_resource(deployment, "num_cpus", 1.0),
        cpu_ms=INGRESS_MS.value,
        most_streams=max(sockets, 1.0),
        autoscaled=_autoscaled(deployment),
        fewest_replicas=_fewest_replicas(deployment),
    )


def _resource(deployment: Mapping[str, Any], name: str, default: float) -> float:
    return _number(deployment.get("ray_actor_options") or {}, name, default)


def _number(options: object, name: str, default: float) -> float:
    if not isinstance(options, Mapping):
        raise PlanError(f"{name}: needs an object that holds it; got {options!r}")
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise PlanError(f"{name}: needs a number; got {value!r}")
    return float(value)


def _fewest_replicas(deployment: Mapping[str, Any]) -> int:
    return max(1, round(_number(deployment.get("autoscaling_config") or {}, "min_replicas", 1)))


def _autoscaled(deployment: Mapping[str, Any]) -> bool:
    return "autoscaling_config" in deployment or deployment.get("num_replicas") == "auto"


@dataclass(frozen=True, slots=True)
class _Reader:
    """One stage."""

    name: str
    options: AsrOptions | TranslationOptions | TtsOptions
    card: Card | None
    fragment_s: float
    given: Given

    def work(self, deployment: Mapping[str, Any]) -> Work | str:
        """The stage as work, or what is missing."""
        num_gpus = _resource(deployment, "num_gpus", 0.0)
        on_gpu = num_gpus > 0
        if on_gpu and self.card is None:
            return f"{self.name} asks for {num_gpus:g} GPU: name one with --gpu, or plan a configuration for CPUs"
        ms = self._ms(on_gpu=on_gpu)
        if isinstance(ms, str):
            return ms
        return Work(
            self.name,
            ms,
            self._memory_mib(on_gpu=on_gpu),
            num_cpus=_resource(deployment, "num_cpus", 1.0),
            num_gpus=num_gpus,
            cpu_ms=0.0 if on_gpu else self._cpu_ms(),
            side_by_side=self._side_by_side(on_gpu=on_gpu),
            gpu_memory_gib=gpu_memory_gib(self._engine, self._model) if on_gpu else None,
            gpu_memory_fraction=self._gpu_memory_fraction if on_gpu else None,
            autoscaled=_autoscaled(deployment),
            fewest_replicas=_fewest_replicas(deployment),
        )

    def _side_by_side(self, *, on_gpu: bool) -> int:
        """On a card, and in XTTS everywhere, what comes at once shares the time; else each call has its own threads."""
        return 1 if on_gpu or isinstance(self.options, XttsOptions) else self.options.concurrency

    def _ms(self, *, on_gpu: bool) -> Figure | str:
        given = self.given.ms(self.name.lower(), self.fragment_s)
        if given is not None:
            return given
        if isinstance(self.options, DeepLOptions):
            return Figure(
                self.options.timeout_ms, How.CONFIGURED, "the longest that one attempt may take; DeepL tells no figure"
            )
        found = self._on_card() if on_gpu else self._on_cpu()
        if found is not None:
            return found
        where = self.card.name if on_gpu and self.card else CPU
        what = f"{self._engine} {self._model}".strip()
        return f"no figure for {what} on {where}{self._known(on_gpu=on_gpu)}"

    def _cpu_ms(self) -> float:
        given = self.given.cpu_ms(self.name.lower(), self.fragment_s)
        if given is not None:
            return given.value
        computed = cpu_ms(self._engine, self._model)
        return 0.0 if computed is None else computed.value * self.fragment_s / MEASURED_FRAGMENT_S

    def _on_card(self) -> Figure | None:
        factor = real_time_factor(self._engine, self._model, self.card.name) if self.card else None
        return factor and Figure(factor.value * self.fragment_s * 1000, factor.how, factor.source)

    def _on_cpu(self) -> Figure | None:
        computed = cpu_ms(self._engine, self._model)
        if computed is None:
            return None
        ms = computed.value * self.fragment_s / MEASURED_FRAGMENT_S
        threads = self._threads
        if threads == 1:
            return Figure(ms, computed.how, computed.source)
        return Figure(ms / threads, How.ESTIMATED, f"{ms:.0f} ms of CPU over {threads} threads; {computed.source}")

    def _known(self, *, on_gpu: bool) -> str:
        cards = [card for card in CARDS if real_time_factor(self._engine, self._model, card)] if on_gpu else []
        known = f" (known: {', '.join(cards)})" if cards else ""
        return f"{known}: measure it with `python -m bench.stages CONFIG` and give --{self.name.lower()}-ms"

    def _memory_mib(self, *, on_gpu: bool) -> Figure:
        return host_memory_mib(self._engine, "" if on_gpu else self._model) or _UNKNOWN_MEMORY

    @property
    def _engine(self) -> str:
        return self.options.engine

    @property
    def _gpu_memory_fraction(self) -> float | None:
        match self.options:
            case FasterWhisperOptions() | XttsOptions():
                return self.options.gpu_memory_fraction
            case _:
                return None

    @property
    def _model(self) -> str:
        return self.options.model if isinstance(self.options, FasterWhisperOptions) else ""

    @property
    def _threads(self) -> int:
        match self.options:
            case FasterWhisperOptions(cpu_threads=threads):
                return threads or 4  # CTranslate2's choice
            case KokoroOptions(threads=threads):
                return threads
            case XttsOptions():
                return 2
            case _:
                return 1
