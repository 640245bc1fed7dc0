"""What bench.baselines compares: the service, the plain servers and the sequential script, started and ended."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import httpx

from bench import report
from bench.generator import cpu_s, speech
from bench.plain_server import Dubber, configured
from deployments.contracts.values import AudioFormat
from serve_app.operations.place import free_port
from tests.support.server import PROJECT, RunningServer, start

START_TIMEOUT_S = 60.0
OUTPUT = AudioFormat("m4a", 48_000, 2)


@dataclass(frozen=True, slots=True)
class Server:
    """One of the rivals while it runs."""

    url: str
    pid: int


@contextlib.contextmanager
def plain(config: Path, threads: int) -> Iterator[Server]:
    """The plain server as a process."""
    port = free_port()
    command = [sys.executable, "-m", "bench.plain_server", str(config), "--port", str(port), "--threads", str(threads)]
    with subprocess.Popen(command, cwd=PROJECT) as process:  # nosec B603 - a module of ours
        try:
            url = f"http://127.0.0.1:{port}"
            _await_answer(url, process)
            yield Server(url, process.pid)
        finally:
            process.terminate()


def _await_answer(url: str, process: "subprocess.Popen[bytes]") -> None:
    give_up_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < give_up_s:
        if process.poll() is not None:
            break
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(url, timeout=1.0)
            return
        time.sleep(0.1)
    raise RuntimeError(f"the plain server did not start; it ended with {process.poll()}")


@contextlib.contextmanager
def ours(config: Path, folder: Path) -> Iterator[Server]:
    """The service as an operator runs it."""
    server: RunningServer = start(config, folder / "livedub.log")
    try:
        yield Server(server.url, server.process.pid)
    finally:
        server.stop()


def sequential(config: Path, rounds: int) -> tuple[list[float], float]:
    """Milliseconds of each fragment, one after the other, and CPU seconds a fragment. Runs in a child."""
    dubber = Dubber(configured(config))
    try:
        took_ms: list[float] = []
        dubber.dub(speech()[0], OUTPUT)
        used_s = cpu_s(os.getpid())
        for audio in speech() * rounds:
            started_s = time.perf_counter()
            dubber.dub(audio, OUTPUT)
            took_ms.append((time.perf_counter() - started_s) * 1000)
        return took_ms, (cpu_s(os.getpid()) - used_s) / len(took_ms)
    finally:
        dubber.close()


def script(config: Path, rounds: int) -> dict[str, float]:
    """The sequential script's row."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        took_ms, used_s = pool.submit(sequential, config, rounds).result()
    found = report.percentiles(took_ms)
    return {
        "fragments": found["n"],
        **{f"{name}_ms": found[name] for name in ("p50", "p95", "p99")},
        "done_per_s": round(1000 * len(took_ms) / sum(took_ms), 3),
        "cpu_s_a_fragment": round(used_s, 3),
    }
