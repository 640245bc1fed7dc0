"""The Ingress deployment: the Ray shell around sockets, sessions and the pipeline. Everything meets here."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import astuple
from functools import partial
from typing import Any, cast

import httpx
import ray
from ray import serve
from ray.serve import metrics
from ray.serve.context import _get_global_client
from ray.serve.handle import DeploymentHandle

from deployments.contracts import AsrCapabilities, TranslationCapabilities, TtsCapabilities
from deployments.errors import Stage
from deployments.live import UserConfig
from deployments.logs import configure_logs, get_logger
from serve_app import pipeline
from serve_app.config import IngressConfig, load_user_config
from serve_app.doors import AuthOptions, Doors, DoorsOptions
from serve_app.exposition import Exposition
from serve_app.handles import HandleStages
from serve_app.hosting import ClosableSockets
from serve_app.http import build_app
from serve_app.lasting import lasting
from serve_app.metrics import Instruments, ReplicaMetrics, StreamMetrics
from serve_app.planning.capacity import Fleet, machine
from serve_app.protocol import ErrorCode, Machine, WireError
from serve_app.sharing import SharedStages
from serve_app.socket import SocketServer
from serve_app.standing import Standing, census, count_nodes
from serve_app.stream.negotiation import Abilities
from serve_app.stream.values import Outcome, Running, StreamSettings, Submit
from serve_app.streams import Opening

log = get_logger(__name__)
MODELS = ("Asr", "Translation", "Tts")
WATCH_PERIOD_S = 5.0
WATCH_PERIOD_STARTING_S = 0.5
BROADCAST_TIMEOUT_S = 5.0
NUMBERED_WITHIN_S = 1.0
"""The longest that a `stream:ready` waits for the other ingress replicas."""
EPOCHS_TIMEOUT_S = 2.0
"""A replica that hangs must not keep the others from being told for long."""
STANDING_PERIOD_S = 1.0
STANDING_TIMEOUT_S = 5.0
ABILITIES_WAIT_S = 5.0
"""How long a `stream:init` waits for models that are still loading; shorter than a worker waits for its answer."""


class Ingress:
    """One replica: its sockets, its streams, its handles to the models.

    Args:
        asr: handle of the Asr deployment.
        translation: handle of the Translation deployment.
        tts: handle of the Tts deployment.
        config: of the Socket.IO server.
        auth: who may connect.
        doors: where callers may come from.
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
        doors: DoorsOptions,
        overrides: Mapping[str, str],
        log_level: str = "INFO",
    ) -> None:
        configure_logs(log_level)
        self._config = config
        self._user_config = UserConfig(partial(load_user_config, environ=overrides), "ingress_user_config_refused")
        live = load_user_config({}, overrides)
        self._limits = live.streams.limits()
        self._origins = doors.origins
        self._doors = Doors(auth, doors)
        self._doors.limits = live.limits
        instruments = lasting(cast("Instruments", metrics))
        self._metrics = StreamMetrics(instruments)
        self._replica_metrics = ReplicaMetrics(instruments)
        self._stages = HandleStages(
            asr, translation, tts, on_conviction=self._metrics.quarantined, on_load=self._metrics.in_stage
        )
        self._shared = SharedStages(self._stages)
        self._states: dict[str, str] = dict.fromkeys(MODELS, "starting")
        self._capabilities: dict[str, Any] = {}
        self._fleets: dict[str, Fleet] = {}
        self._nodes = 1
        self._known = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None
        self._standing: asyncio.Task[None] | None = None
        self._draining = False
        """As `user_config` says."""
        self._stopping = False
        """Serve is stopping this replica."""
        self._replicas: DeploymentHandle[Any] | None = None
        self._telling: set[asyncio.Task[None]] = set()
        self._sockets = SocketServer(
            self._dub,
            self._abilities,
            lambda: self._limits,
            self._metrics,
            self._tell_replicas,
            doors=self._doors,
            machine=self._machine,
            ping_interval_s=config.ping_interval_s,
            ping_timeout_s=config.ping_timeout_s,
            max_fragment_bytes=config.max_fragment_bytes,
        )
        self._exposition = Exposition(_exporters, httpx.AsyncClient(trust_env=False))

    def __serve_build_asgi_app__(self) -> Any:
        """Called by Ray Serve: what this replica answers."""
        sockets = ClosableSockets(self._sockets.app, self._config.limits())
        return build_app(sockets, self._readiness, self._exposition.render, self._origins, self._machine)

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Called by Ray Serve at the start and whenever `user_config` changes; drops no connection.

        Raises:
            ConfigError: the `user_config` that the replica starts with is wrong.
        """
        live = self._user_config.take(user_config)
        if live is None:
            return
        self._limits = live.streams.limits()
        self._doors.limits = live.limits
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
        self._sockets.draining = wanted

    async def epoch(self, stream_id: str) -> int:
        """Called by a replica on which a stream has opened: the largest number that an opening of it has."""
        return self._sockets.epoch(stream_id)

    async def let_go(self, stream_id: str, session_id: str, epoch: int, subject: str) -> bool:
        """Called by the replica on which a stream has opened: a worker that restarted may have left it here.

        Returns:
            False when it stays here, because another subject opened it before.
        """
        return self._sockets.let_go(Opening(stream_id, session_id, epoch, subject))

    async def _tell_replicas(self, stream_id: str, session_id: str) -> None:
        """Until the stream has its number: whoever opens it once this worker has its answer then comes after it."""
        numbered = asyncio.Event()
        telling = asyncio.create_task(self._announce(stream_id, session_id, numbered))
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)
        with suppress(TimeoutError):
            await asyncio.wait_for(numbered.wait(), NUMBERED_WITHIN_S)

    async def _announce(self, stream_id: str, session_id: str, numbered: asyncio.Event) -> None:
        """Ask all replicas for the stream's number, take the next one, tell it: see `epochs`."""
        others = await self._ask_replicas("epoch", stream_id, timeout_s=EPOCHS_TIMEOUT_S)
        opening = self._sockets.settle(stream_id, session_id, others)
        numbered.set()
        if opening is None:
            return
        let_go = await self._ask_replicas("let_go", *astuple(opening), timeout_s=BROADCAST_TIMEOUT_S)
        if not all(let_go):
            self._sockets.expel(opening)

    async def _ask_replicas(self, method: str, stream_id: str, *args: object, timeout_s: float) -> list[int]:
        """What the replicas answer, this one too; those that can't are left out."""
        try:
            if self._replicas is None:
                application = serve.get_replica_context().app_name
                self._replicas = serve.get_deployment_handle("Ingress", app_name=application)
            told = self._replicas.broadcast(method, stream_id, *args)
            answers = await asyncio.wait_for(told.results_async(return_exceptions=True), timeout_s)
        except Exception as error:  # noqa: BLE001 - the stream is open here whatever Ray raises
            answers = [error]
        errors = [answer for answer in answers if isinstance(answer, BaseException)]
        if errors:
            error_text = f"{type(errors[0]).__name__}: {errors[0]}"[:500]
            log.warning("replicas_not_told", stream_id=stream_id, question=method, error=error_text)
        return [answer for answer in answers if isinstance(answer, int)]

    async def _dub(self, settings: StreamSettings, submit: Submit, running: Running) -> Outcome:
        abilities = await self._abilities()
        job = pipeline.Job(
            settings=settings,
            fragment=submit.fragment,
            deadline=submit.deadline,
            fallback_mode=self._limits.fallback_mode,
            wants_original=abilities.tts.wants_original,
            said=submit.said,
            carry=submit.carry,
            running=running,
            clock=asyncio.get_running_loop().time,
            degrade=self._limits.degrade,
        )
        return await pipeline.dub(job, self._shared)

    async def _abilities(self) -> Abilities:
        """What the models can do together.

        Raises:
            WireError: INTERNAL (retryable) while a model is still loading.
        """
        if not self._known.is_set():
            self._start_watch()
            try:
                await asyncio.wait_for(self._known.wait(), ABILITIES_WAIT_S)
            except TimeoutError:
                waiting = ", ".join(name for name in MODELS if name not in self._capabilities)
                message = f"the models are still loading ({waiting}); try again in a few seconds"
                raise WireError(ErrorCode.INTERNAL, message, {"waiting_for": waiting}) from None
        asr: AsrCapabilities = self._capabilities["Asr"]
        translation: TranslationCapabilities = self._capabilities["Translation"]
        tts: TtsCapabilities = self._capabilities["Tts"]
        return Abilities(asr, translation, tts)

    def _machine(self) -> Machine:
        measured = {name: told.measured for name, told in self._capabilities.items()}
        return machine(measured, self._fleets, self._nodes)

    async def _readiness(self) -> dict[str, str]:
        self._start_watch()
        return dict(self._states)

    def _start_watch(self) -> None:
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._keep_asking(), name="model watch")
        if self._standing is None or (self._standing.done() and not self._stopping):
            self._standing = asyncio.create_task(self._watch_standing(), name="standing watch")

    async def _watch_standing(self) -> None:
        """Notice that Serve stops this replica, and drain: Serve would wait for its sockets, then cut them off."""
        own = serve.get_replica_context()
        standing = Standing(own.app_name, own.deployment, own.replica_tag)
        while not self._stopping:
            try:
                details = await asyncio.wait_for(_details(), STANDING_TIMEOUT_S)
                self._stopping = standing.read(details)
                self._nodes = count_nodes(details, own.app_name)
                for deployment, found in census(details, own.app_name).items():
                    self._fleets[deployment] = Fleet(found.states["running"], found.num_gpus)
                    self._replica_metrics.counted(deployment, found.states, found.wanted)
            except Exception as error:  # noqa: BLE001 - a controller that restarts must not end streams
                log.warning("controller_unavailable", error=f"{type(error).__name__}: {error}"[:500])
            if not self._stopping:
                await asyncio.sleep(STANDING_PERIOD_S)
        self._apply_draining()

    async def _keep_asking(self) -> None:
        """Ask the models again and again what they can do: that is readiness, and follows live changes."""
        while True:
            await asyncio.gather(*(self._ask(name) for name in MODELS))
            await asyncio.sleep(WATCH_PERIOD_S if self._known.is_set() else WATCH_PERIOD_STARTING_S)

    def _foretell(self, name: str) -> None:
        """Let forecasts know how much the stage computes at once."""
        stage = Stage(name.lower())
        at_once = self._capabilities[name].at_once * max(1, self._fleets.get(name, Fleet()).running)
        self._sockets.admission.serves(stage, at_once or self._shared.room(stage))

    async def _ask(self, name: str) -> None:
        try:
            self._capabilities[name] = await self._stages.abilities(name, self._config.stage_timeout_s)
            self._states[name] = "ready"
            self._metrics.model(Stage(name.lower()), self._capabilities[name].model)
            self._foretell(name)
        except TimeoutError:
            self._states[name] = "does not answer"
        except Exception as error:  # noqa: BLE001 - whatever Ray raises while replicas come and go
            self._states[name] = f"{type(error).__name__}"
            log.warning("model_unavailable", deployment=name, error=str(error)[-500:])
        if len(self._capabilities) == len(MODELS):
            self._known.set()


async def _details() -> dict[str, Any]:
    """What Serve's controller says of every replica: what `serve.status()` sums up, without blocking the loop."""
    client: Any = await asyncio.to_thread(_get_global_client)
    details: dict[str, Any] = await client._controller.get_serve_instance_details.remote()  # noqa: SLF001
    return details


def _exporters() -> list[str]:
    """Where each node of the cluster exports its metrics."""
    urls = []
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    for node in nodes:
        if node.get("Alive") and node.get("MetricsExportPort"):
            with suppress(KeyError):
                urls.append(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics")
    return urls
