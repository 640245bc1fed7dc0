"""The application: from a configuration to bound deployments. What `import_path: serve_app.app:build` names."""

import os
from collections.abc import Mapping
from typing import Any, cast

import ray
from ray import serve
from ray.serve import metrics
from ray.serve.exceptions import RayServeException

from deployments.asr import AsrOptions
from deployments.asr.deployment import Asr
from deployments.resilience.caller import Observable
from deployments.translation import TranslationOptions
from deployments.translation.deployment import Translation
from deployments.tts import TtsOptions
from deployments.tts.deployment import Tts
from serve_app.configuration.loading import ConfigError, live_variables, load_args, load_user_config, load_voices
from serve_app.ingress import Ingress
from serve_app.observability.gpus import watch_gpus
from serve_app.observability.metrics import GpuMetrics, Instruments, ServiceMetrics
from serve_app.observability.sticky_gauges import lasting
from serve_app.operations.failures import name_of, told_plainly
from serve_app.operations.preflight import require

# Serve pickles a replica's constructor arguments again once it is built, so they are options, never a loaded engine.


class AsrReplica(Asr):
    """Asr as Serve builds it: makes its engine, watches its GPUs."""

    def __init__(self, options: AsrOptions, interim: AsrOptions | None, **settings: Any) -> None:
        with told_plainly("Asr", name_of(options)):
            super().__init__(
                options.build(),
                options.concurrency,
                slowdown=options.slowdown,
                interim=interim.build() if interim else None,
                interim_concurrency=interim.concurrency if interim else 1,
                **settings,
            )
        watch_gpus(GpuMetrics(cast("Instruments", metrics)).sample)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Called by Ray Serve: what `autoscaling` decides by."""
        return self._finals.threads.workload.read()


class TranslationReplica(Translation):
    """Translation as Serve builds it: makes its engine, counts its calls to outside services."""

    def __init__(self, options: TranslationOptions, **settings: Any) -> None:
        with told_plainly("Translation", name_of(options)):
            engine = options.build()
            if isinstance(engine, Observable):
                engine.observe(ServiceMetrics(lasting(cast("Instruments", metrics))))
            super().__init__(engine, options.concurrency, slowdown=options.slowdown, **settings)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Called by Ray Serve: what `autoscaling` decides by."""
        return self._threads.workload.read()


class TtsReplica(Tts):
    """Tts as Serve builds it: makes its engine, watches its GPUs."""

    def __init__(self, options: TtsOptions, **settings: Any) -> None:
        faster = options.faster
        with told_plainly("Tts", name_of(options)):
            super().__init__(
                options.build(),
                concurrency=options.concurrency,
                slowdown=options.slowdown,
                faster=faster.build() if faster else None,
                faster_concurrency=faster.concurrency if faster else 1,
                faster_slowdown=faster.slowdown if faster else 1.0,
                **settings,
            )
        watch_gpus(GpuMetrics(cast("Instruments", metrics)).sample)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Called by Ray Serve: what `autoscaling` decides by."""
        return self._first.threads.workload.read()


class Refused(ConfigError, RayServeException):
    """A wrong or unfulfilled configuration, as Serve shows it plainly.

    Of its own exceptions Serve tells the message alone; of any other it tells the traceback and tries thrice more.
    """


def build(args: Mapping[str, Any]) -> serve.Application:
    """Validate the configuration and bind the four deployments.

    Replicas, resources, batching and autoscaling are not decided here but in the YAML's `deployments`, under the names
    Ingress, Asr, Translation and Tts.

    Args:
        args: the application's `args`, see `AppConfig`. Environment variables win over them.

    Raises:
        Refused: naming the field, or all that is missing on this cluster, before anything loads.
    """
    try:
        return _bound(args)
    except ConfigError as error:
        raise Refused(str(error)) from None


def _bound(args: Mapping[str, Any]) -> serve.Application:
    require(args, os.environ, _cluster_gpus())
    config = load_args(args, os.environ)
    voices = load_voices(config.voices)
    overrides = live_variables(os.environ)
    load_user_config({}, overrides)
    level = config.log_level
    asr = serve.deployment(name="Asr")(AsrReplica).bind(
        config.asr,
        config.asr_interim,
        decode_processes=config.decoding.processes,
        log_level=level,
        measure=config.asr.measured_ms is not None,
    )
    translation = serve.deployment(name="Translation")(TranslationReplica).bind(
        config.translation, log_level=level, measure=config.translation.measured_ms is not None
    )
    tts = serve.deployment(name="Tts")(TtsReplica).bind(
        config.tts,
        voices=voices,
        limits=config.fit,
        decode_processes=config.decoding.processes,
        log_level=level,
        measured_ms=config.tts.measured_ms,
    )
    ingress = serve.deployment(name="Ingress")(serve.ingress()(Ingress))
    return ingress.bind(asr, translation, tts, config.ingress, config.auth, config.access, overrides, level)


def _cluster_gpus() -> float | None:
    """GPUs of the running cluster; None where none runs."""
    if not ray.is_initialized():
        return None
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources.get("GPU", 0.0)
