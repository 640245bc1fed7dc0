"""The Ingress deployment: the Ray shell around sockets, sessions and the pipeline. Everything meets here."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any, cast

import httpx
import ray
from ray import serve
from ray.serve import metrics
from ray.serve.handle import DeploymentHandle

from deployments.contracts.values import AsrCapabilities, Outcome
from deployments.errors import Stage
from deployments.logs import configure_logs, get_logger
from deployments.replica.user_config import UserConfig
from serve_app.access import Access, AccessOptions, AuthOptions
from serve_app.configuration.loading import load_user_config
from serve_app.configuration.schema import IngressConfig
from serve_app.observability.exposition import Exposition
from serve_app.observability.metrics import Instruments, ReplicaMetrics, StreamMetrics, TranscriptionMetrics
from serve_app.observability.sticky_gauges import lasting
from serve_app.operations.controller_watch import ControllerWatch
from serve_app.operations.readiness import Readiness
from serve_app.operations.replica_status import Census
from serve_app.operations.siblings import Siblings
from serve_app.planning.capacity import Fleet, machine
from serve_app.protocol import Machine
from serve_app.stages import pipeline
from serve_app.stages.fair_stages import FairStages
from serve_app.stages.ray_stages import RayStages
from serve_app.stream.attempt_context import AttemptContext
from serve_app.stream.values import StreamSettings, Submit
from serve_app.transport import deepgram, openai_http, openai_realtime, openai_translations
from serve_app.transport.engine_io import PATHS, engine_sockets
from serve_app.transport.http import build_app
from serve_app.transport.registry import Opening
from serve_app.transport.server import SocketServer
from serve_app.transport.transcriber import Transcribers
from serve_app.transport.transcription_events import TranscriptionEvents
from serve_app.transport.websocket import AsgiApp, ClosableSockets

log = get_logger(__name__)


class Ingress:
    """One replica: its sockets, its streams, its handles to the models.

    Args:
        asr: handle of the Asr deployment.
        translation: handle of the Translation deployment.
        tts: handle of the Tts deployment.
        config: of the Socket.IO server.
        auth: who may connect.
        access: where callers may come from.
        overrides: environment variables that win over `user_config`.
        log_level: of this process.
    """

    def __init__(
        self,
        asr: DeploymentHandle[Any],
        translation: DeploymentHandle[Any],
        tts: DeploymentHandle[Any],
        config: IngressConfig,
        auth: AuthOptions,
        access: AccessOptions,
        overrides: Mapping[str, str],
        log_level: str = "INFO",
    ) -> None:
        configure_logs(log_level)
        self._config = config
        self._user_config = UserConfig(partial(load_user_config, environ=overrides), "ingress_user_config_refused")
        live = load_user_config({}, overrides)
        self._limits = live.streams
        self._transcription_limits = live.transcription
        self._origins = access.origins
        self._access = Access(auth, access)
        self._access.limits = live.limits
        instruments = lasting(cast("Instruments", metrics))
        self._metrics = StreamMetrics(instruments)
        self._replica_metrics = ReplicaMetrics(instruments)
        self._stages = RayStages(
            asr, translation, tts, on_conviction=self._metrics.quarantined, on_load=self._metrics.in_stage
        )
        self._shared = FairStages(self._stages)
        self._fleets: dict[str, Fleet] = {}
        self._nodes = 1
        self._readiness = Readiness(self._stages.capabilities, config.stage_timeout_s, self._answered)
        self._controller = ControllerWatch(self._counted, self._stop)
        self._draining = False
        """As `user_config` says."""
        self._stopping = False
        """Serve is stopping this replica."""
        self._sockets = SocketServer(
            self._dub,
            self._readiness.wait,
            lambda: self._limits,
            self._metrics,
            self._opened,
            access=self._access,
            machine=self._machine,
            ping_interval_s=config.ping_interval_s,
            ping_timeout_s=config.ping_timeout_s,
            max_fragment_bytes=config.max_fragment_bytes,
        )
        self._transcribers = Transcribers(
            self._shared.call,
            self._hearing,
            lambda: self._transcription_limits,
            TranscriptionMetrics(instruments, self._metrics.refused),
            self._access,
            self._sockets.principals,
        )
        self._sockets.serve(TranscriptionEvents(self._transcribers, self._readiness.wait, self._shared.call).handlers)
        self._siblings = Siblings(_own_handle, self._sockets)
        self._exposition = Exposition(_exporters, httpx.AsyncClient(trust_env=False))

    def __serve_build_asgi_app__(self) -> Any:
        """Called by Ray Serve: what this replica answers."""
        doors = dict.fromkeys(PATHS, engine_sockets(self._sockets.app, self._config))
        routes: dict[str, AsgiApp] = {
            deepgram.PATH: ClosableSockets(deepgram.DeepgramDoor(self._transcribers), self._config),
            openai_realtime.PATH: ClosableSockets(openai_realtime.TranscriptionDoor(self._transcribers), self._config),
            openai_translations.PATH: ClosableSockets(
                openai_translations.TranslationsDoor(self._transcribers, self._readiness.wait, self._shared.call),
                self._config,
            ),
            **openai_http.OpenAIDoor(self._transcribers, self._readiness.wait, self._shared.call).routes,
        }
        return build_app(doors, self._ready, self._exposition.render, self._origins, self._machine, routes)

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Called by Ray Serve at the start and whenever `user_config` changes; drops no connection.

        Raises:
            ConfigError: the `user_config` that the replica starts with is wrong.
        """
        live = self._user_config.take(user_config)
        if live is None:
            return
        self._limits = live.streams
        self._transcription_limits = live.transcription
        self._access.limits = live.limits
        self._sockets.apply_limits()
        self._start_watch()
        self._draining = live.draining
        self._apply_draining()

    def check_health(self) -> None:
        """Called by Ray Serve, first when the start is over."""
        self._user_config.healthy()

    def _apply_draining(self) -> None:
        wanted = self._draining or self._stopping
        if wanted and not self._sockets.draining:
            log.info("draining", streams=self._sockets.streams, stopping=self._stopping)
            self._sockets.drain()
            self._transcribers.drain()
        self._sockets.draining = self._transcribers.draining = wanted

    async def epoch(self, stream_id: str) -> int:
        """Called by a replica on which a stream has opened: the largest number that an opening of it has."""
        return self._sockets.epoch(stream_id)

    async def let_go(self, stream_id: str, session_id: str, epoch: int, subject: str) -> bool:
        """Called by the replica on which a stream has opened: a worker that restarted may have left it here.

        Returns:
            False when it stays here, because another subject opened it before.
        """
        return self._sockets.let_go(Opening(stream_id, session_id, epoch, subject))

    async def _opened(self, stream_id: str, session_id: str) -> None:
        await self._siblings.opened(stream_id, session_id)

    async def _dub(self, settings: StreamSettings, submit: Submit, context: AttemptContext) -> Outcome:
        capabilities = await self._readiness.wait()
        job = pipeline.DubRequest(
            settings=settings,
            fragment=submit.fragment,
            deadline=submit.deadline,
            fallback_mode=self._limits.fallback_mode,
            wants_original=capabilities.tts.wants_original,
            context=context,
            clock=asyncio.get_running_loop().time,
            degrade=self._limits.degrade,
        )
        return await pipeline.dub(job, self._shared)

    async def _hearing(self) -> AsrCapabilities:
        return (await self._readiness.wait()).asr

    def _machine(self) -> Machine:
        measured = {stage.capitalize(): found.measured for stage, found in self._readiness.capabilities.items()}
        return machine(measured, self._fleets, self._nodes)

    async def _ready(self) -> dict[str, str]:
        self._start_watch()
        return self._readiness.states

    def _start_watch(self) -> None:
        self._readiness.start()
        self._controller.start()

    def _answered(self, stage: Stage, capabilities: Any) -> None:
        """A model can do this now; forecasts have to know how much of it at once."""
        self._metrics.model(stage, capabilities.model)
        at_once = capabilities.at_once * max(1, self._fleets.get(stage.capitalize(), Fleet()).running)
        if at_once:
            self._shared.serves(stage, at_once)
        self._sockets.admission.serves(stage, at_once or self._shared.room(stage))

    def _counted(self, replicas: dict[str, Census], nodes: int) -> None:
        self._nodes = nodes
        for deployment, found in replicas.items():
            self._fleets[deployment] = Fleet(found.states["running"], found.num_gpus)
            self._replica_metrics.counted(deployment, found.states, found.wanted)

    def _stop(self) -> None:
        self._stopping = True
        self._apply_draining()


def _own_handle() -> DeploymentHandle[Any]:
    return serve.get_deployment_handle("Ingress", app_name=serve.get_replica_context().app_name)


def _exporters() -> list[str]:
    """Where each node of the cluster exports its metrics."""
    urls = []
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    for node in nodes:
        if node.get("Alive") and node.get("MetricsExportPort"):
            with suppress(KeyError):
                urls.append(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics")
    return urls
