"""Several Ray nodes on this machine, each with processes and a proxy of its own, and `livedub serve` on them."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx
import psutil

from serve_app.operations.launcher import RAY_DEFAULTS
from serve_app.operations.place import free_port
from tests.support.server import PROJECT, START_TIMEOUT_S, RunningServer, start
from tests.support.speed import seconds

RAY = Path(sys.executable).parent / "ray"
STORE_BYTES = 80 * 1024 * 1024
NODES_NOTICED = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
"""A node that is gone is noticed within a few seconds, not after Ray's fifteen and more."""


@dataclass
class Node:
    """One `ray start`."""

    process: "subprocess.Popen[bytes]"
    http_port: int
    """Where its proxy listens, once a replica runs on the node."""
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def joined(self) -> bool:
        """Whether it is part of the cluster now; raises RuntimeError when it could not join."""
        told = self.log.read_text(encoding="utf-8", errors="replace")
        if self.process.poll() is not None:
            raise RuntimeError(f"the node did not start:\n{told}")
        return "Ray runtime started." in told

    def replicas(self, deployment: str) -> list[psutil.Process]:
        """The processes of a deployment's replicas on this node, those that still start included."""
        return [process for process in self._processes() if _is_replica(process, deployment)]

    def kill(self) -> None:
        """As when the machine loses its power: everything on it ends at once, without a word."""
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        self.process.wait()

    def _processes(self) -> list[psutil.Process]:
        try:
            own = psutil.Process(self.process.pid)
            return [*own.children(recursive=True), own]
        except psutil.Error:
            return []


def _is_replica(process: psutil.Process, deployment: str) -> bool:
    try:
        return f"ray::ServeReplica:livedub:{deployment}" in " ".join(process.cmdline())
    except psutil.Error:
        return False


@dataclass
class Nodes:
    """A cluster; its first node is the head, which also holds the controller.

    `with Nodes() as nodes:` ends all that was started, without a word: how a server ends is tested elsewhere. Meant for
    the main thread: SIGTERM, which would leave the nodes behind, ends the program like Ctrl-C.
    """

    cpus: float = 1
    """What each node tells Ray that it has; the replicas of configs/fakes.yaml take a tenth each."""
    environ: dict[str, str] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    server: RunningServer | None = None

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        # Short, since the names of Unix sockets in it are limited.
        self._folder = Path(tempfile.mkdtemp(prefix="lv-", dir="/tmp"))
        self._port = free_port()
        self.environ = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), **self.environ}
        try:
            self.add()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.server is not None:
            self.server.kill()
        for node in reversed(self.nodes):
            node.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
        signal.signal(signal.SIGTERM, self._before)

    @property
    def head(self) -> Node:
        return self.nodes[0]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def add(self, *, wait: bool = True) -> Node:
        """One more node; the first one is the head."""
        first = not self.nodes
        http_port = free_port()
        where = ["--head", f"--port={self._port}", "--include-dashboard=false", f"--temp-dir={self._folder}"]
        where += [f"--ray-client-server-port={free_port()}"]
        joining = [f"--address={self.address}"]
        command = [str(RAY), "start", "--block", "--node-ip-address=127.0.0.1"]
        command += ["--min-worker-port=0", "--max-worker-port=0"]
        command += [f"--num-cpus={self.cpus:g}", f"--object-store-memory={STORE_BYTES}", "--disable-usage-stats"]
        log = self._folder / f"node-{len(self.nodes)}.log"
        known = {"RAY_SERVE_WORKER_PROXY_HTTP_PORT": str(http_port)}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, *(where if first else joining)],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=PROJECT,
                env={**RAY_DEFAULTS, **NODES_NOTICED, **os.environ, **known, **self.environ},
                start_new_session=True,
            )
        node = Node(process, http_port, log)
        self.nodes.append(node)
        if first or wait:
            wait_until(node.joined, "a Ray node")
        return node

    def serve(self, config: Path, log: Path) -> RunningServer:
        """`livedub serve` on these nodes; returns when it is ready on the head."""
        self.server = start(config, log, self.environ | {"RAY_ADDRESS": self.address}, self.head.http_port)
        return self.server

    def replicas(self, deployment: str) -> list[psutil.Process]:
        """Of all nodes."""
        return [replica for node in self.nodes for replica in node.replicas(deployment)]

    def wait_for(self, deployment: str, count: int, node: Node | None = None) -> None:
        """Until so many replicas are there, on one node or on all together."""
        wait_until(lambda: len((node or self).replicas(deployment)) == count, f"{count} replicas of {deployment}")

    @staticmethod
    def wait_for_proxy(node: Node) -> None:
        """Until the node's proxy answers that the service is ready."""

        def ready() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return httpx.get(f"{node.url}/ready", timeout=2, trust_env=False).is_success
            return False

        wait_until(ready, f"the proxy at {node.url}")


def wait_until(there: Callable[[], bool], what: str) -> None:
    """Raise TimeoutError when it isn't there in time."""
    give_up_s = time.monotonic() + seconds(START_TIMEOUT_S)
    while not there():
        if time.monotonic() > give_up_s:
            raise TimeoutError(f"no {what} within {START_TIMEOUT_S} s")
        time.sleep(0.1)
