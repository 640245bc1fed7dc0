"""`livedub serve`: starts Ray Serve with a configuration, waits until it is ready, ends it without losing a fragment.

Lighter than `serve run` (no dashboard unless asked for, a small object store), and unlike it has a way to change and
to end: on SIGHUP the file is read again and rolled out; on SIGTERM or SIGINT the streams are told, what is in flight
finishes, then everything stops.
"""

import logging
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from serve_app.configuration.loading import ConfigError
from serve_app.configuration.serve_file import args_of, checked, draining, read_schema
from serve_app.observability.gpus import count_gpus
from serve_app.operations.failures import sentence
from serve_app.operations.place import check_folder, dashboard_token, ray_logs, reserve
from serve_app.operations.preflight import require
from serve_app.operations.signals import Signals
from serve_app.operations.terminal import Console
from serve_app.planning.capacity import sentences

OBJECT_STORE_BYTES = 200 * 1024 * 1024
POLL_S = 0.5
RAY_DEFAULTS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_metrics_report_interval_ms": "1000",
    "RAY_DEDUP_LOGS": "0",
    "RAY_worker_niceness": "0",
    "RAY_COLOR_PREFIX": "0",
    # Proxy and ingress hand fragments over inside their calls rather than by the object store: 3 ms less for each.
    "RAY_max_direct_call_object_size": "4194304",
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "2",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve_app.proxying.middlewares",
    # Replicas call each other by gRPC, which would go by way of http_proxy; what models download still does.
    "no_grpc_proxy": "0.0.0.0/0,::/0",
}
"""Settings of Ray that hold unless the environment says otherwise."""
FAILED = ("DEPLOY_FAILED", "UNHEALTHY")
"""What Serve calls an application or a deployment that did not come up."""
STOP_TIMEOUT_S = 30.0
"""For Ray's part of the end, behind the streams' own time."""


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """What the command line decides."""

    config: Path
    host: str | None = None
    port: int | None = None
    """None: what the file says."""
    dashboard: bool = False
    start_timeout_s: float = 300.0
    drain_timeout_s: float = 30.0
    """How long streams may take to finish what is in flight."""
    address: str | None = None
    """host:port of a Ray cluster that runs already, whose Serve is then this service's alone; None: one of its own."""


class LaunchError(RuntimeError):
    """The service did not come up; the message says why."""


def launch(options: LaunchOptions, console: Console) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP has the file read again. To be called in the main thread.

    Raises:
        ConfigError: before anything starts.
        LaunchError: it did not come up.
    """
    with ExitStack() as held:
        held.enter_context(redirect_stdout(console.stream()))  # before Ray is imported: its loggers keep it
        held.enter_context(redirect_stderr(console.stream()))
        schema = _fit_to_run(options)
        http = {"host": "127.0.0.1", "port": 8000, **(schema.get("http_options") or {})}
        http |= {name: value for name, value in (("host", options.host), ("port", options.port)) if value is not None}
        if options.address is None:
            held.enter_context(reserve(str(http["host"]), int(http["port"])))
            check_folder(os.environ)
        os.environ.update(ray_settings(os.environ))
        signals = Signals(console.tell, unread=lambda: console.unread)
        signals.start()
        server = _Server({**schema, "http_options": http}, options, console, signals)
        try:
            server.start()
            server.serve()
        except Stopped:
            console.tell("stopped before it was ready")
        finally:
            server.stop()


def ray_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """RAY_DEFAULTS, or what the environment says instead; to what gRPC is to reach directly it can only add."""
    direct = RAY_DEFAULTS["no_grpc_proxy"]
    given = environ.get("no_grpc_proxy", "")
    settings = {name: environ.get(name, value) for name, value in RAY_DEFAULTS.items()}
    return settings | {"no_grpc_proxy": given if direct in given else ",".join(filter(None, (given, direct)))}


def deploy(schema: dict[str, Any]) -> None:
    """Give a configuration to the Ray Serve that this process is connected to.

    Raises:
        LaunchError: there is none.
        ValueError: Serve refuses the configuration.
    """
    from ray.serve.context import _get_global_client  # noqa: PLC0415 - as `serve run` itself does it
    from ray.serve.schema import ServeDeploySchema  # noqa: PLC0415

    client = _get_global_client()
    if client is None:
        raise LaunchError("Ray Serve is not running")
    client.deploy_apps(ServeDeploySchema.model_validate(schema))


class Stopped(Exception):
    """A signal came while the service was starting."""


def _fit_to_run(options: LaunchOptions) -> dict[str, Any]:
    """The configuration, correct and with all that it needs at hand; another cluster's GPUs are looked at by `build`.

    Raises:
        ConfigError: naming what is wrong or missing.
    """
    schema = read_schema(options.config)
    require(args_of(schema), os.environ, None if options.address else count_gpus())
    return checked(schema)


def local_url(http: dict[str, Any]) -> str:
    """Where this machine reaches a server with these `http_options`."""
    host = str(http["host"])
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104  # nosec B104 - compared with, not bound to
    host = anywhere.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{host}:{http['port']}"


class _Server:
    def __init__(self, schema: dict[str, Any], options: LaunchOptions, console: Console, signals: Signals) -> None:
        self._schema = schema
        self._options = options
        self._console = console
        self._tell = console.tell
        self._signals = signals
        self._url = local_url(schema["http_options"])
        self._up = False

    def start(self) -> None:
        """Bring everything up."""
        import ray  # noqa: PLC0415 - heavy, and reads the environment when it is imported
        from ray import serve  # noqa: PLC0415

        started_s = time.monotonic()
        address = self._options.address
        self._tell(f"joining Ray at {address}" if address else "starting Ray")
        own = {"include_dashboard": self._options.dashboard, "object_store_memory": OBJECT_STORE_BYTES}
        where = {"address": address} if address else own
        try:
            joined = ray.init(**where, namespace="serve", logging_level=logging.WARNING)
        except ConnectionError as error:
            raise LaunchError(f"no Ray cluster at {address}: {' '.join(str(error).split())}") from None
        except (OSError, RuntimeError, ValueError) as error:
            raise LaunchError(f"Ray did not start: {sentence(str(error))}") from None
        if address is None:
            self._signals.watch()
        self._go_on()
        serve.start(proxy_location=self._schema.get("proxy_location"), http_options=self._schema["http_options"])
        self._go_on()
        deploy(self._schema)
        self._wait_until_running(started_s)
        self._up = True
        self._wait_until_ready(started_s)
        self._console.ready = True
        if self._options.dashboard and joined.dashboard_url:
            self._tell(f"dashboard: http://{joined.dashboard_url} {dashboard_token(os.environ)}")
        self._tell(f"ready after {time.monotonic() - started_s:.1f} s: {self._url} (Socket.IO at /socket.io/)")
        self._tell_capacity()

    def _go_on(self) -> None:
        if self._signals.stop.is_set():
            raise Stopped

    def serve(self) -> None:
        """Wait for the signal to stop; roll out what the file says at each signal to read it again."""
        while not self._signals.stop.wait(POLL_S):
            if self._signals.reload.is_set():
                self._signals.reload.clear()
                with suppress(Stopped):
                    self._roll_out()

    def _roll_out(self) -> None:
        try:
            schema = _fit_to_run(self._options)
        except ConfigError as error:
            self._tell(f"error: {error}. Nothing was changed")
            return
        self._tell(f"rolling out {self._options.config}; address, port and environment stay as they were")
        started_s = time.monotonic()
        schema = {**schema, "http_options": self._schema["http_options"]}
        try:
            deploy(schema)
            self._schema = schema
            self._wait_until_running(started_s)
        except LaunchError as error:
            self._tell(f"error: {error}. Mend the file and send SIGHUP again")
        except ValueError as error:
            self._tell(f"error: Ray Serve refuses the file: {' '.join(str(error).split())}. Nothing was changed")
        else:
            self._tell(f"rolled out after {time.monotonic() - started_s:.1f} s")

    def stop(self) -> None:
        """Tell the streams, let them finish, take everything down."""
        import ray  # noqa: PLC0415
        from ray import serve  # noqa: PLC0415

        if not ray.is_initialized():
            return
        drain_s = self._options.drain_timeout_s if self._up else 0.0
        self._signals.allow(drain_s + STOP_TIMEOUT_S)
        try:
            if self._up:
                self._tell("streams finish what is in flight")
                self._drain()
        except Exception as error:  # noqa: BLE001 - whatever went wrong, what runs has to be taken down
            self._tell(f"error: the streams could not be told: {sentence(str(error))}; stopping all the same")
        try:
            serve.shutdown()  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001 - the same
            self._tell(f"error: Serve did not shut down: {sentence(str(error))}; stopping all the same")
        finally:
            self._signals.let_end()
            ray.shutdown()
        self._tell("stopped")

    def _wait_until_running(self, started_s: float) -> None:
        from ray import serve  # noqa: PLC0415

        told = ""
        while True:
            application = next(iter(serve.status().applications.values()), None)
            if application is not None:
                if application.status in FAILED:
                    parts = (d.message for d in application.deployments.values() if d.status in FAILED)
                    reason = next(filter(None, parts), application.message)
                    raise LaunchError(f"{sentence(reason)}; Ray's logs: {ray_logs(os.environ)}")
                loading = [name for name, d in application.deployments.items() if d.status != "HEALTHY"]
                state = f"waiting for {', '.join(loading)}" if loading else ""
                if state and state != told:
                    self._tell(state)
                told = state
                if application.status == "RUNNING":
                    return
            self._check_time(started_s, told)

    def _wait_until_ready(self, started_s: float) -> None:
        while True:
            try:
                response = httpx.get(f"{self._url}/ready", timeout=POLL_S * 4, trust_env=False)
                if response.is_success:
                    return
                state = response.text
            except httpx.HTTPError as error:
                state = f"{type(error).__name__}: {error}"
            self._check_time(started_s, state)

    def _tell_capacity(self) -> None:
        with suppress(httpx.HTTPError, ValueError):
            for line in sentences(httpx.get(f"{self._url}/ready", timeout=POLL_S * 4, trust_env=False).json()):
                self._tell(line)

    def _check_time(self, started_s: float, state: str) -> None:
        self._go_on()
        if time.monotonic() - started_s > self._options.start_timeout_s:
            raise LaunchError(f"not ready after {self._options.start_timeout_s:.0f} s: {state}")
        time.sleep(POLL_S)

    def _drain(self) -> None:
        deploy(draining(self._schema))
        give_up_s = time.monotonic() + self._options.drain_timeout_s
        quiet = 0
        while quiet < 2 and time.monotonic() < give_up_s:  # noqa: PLR2004 - metrics are up to a second late
            time.sleep(POLL_S * 2)
            quiet = quiet + 1 if self._open_streams() == 0 else 0

    def _open_streams(self) -> float | None:
        """None: not known."""
        try:
            text = httpx.get(f"{self._url}/metrics", timeout=POLL_S * 10, trust_env=False).text
        except httpx.HTTPError:
            return None
        told = [float(line.split()[-1]) for line in text.splitlines() if line.startswith("sts_streams_active ")]
        return sum(told) if told else None
