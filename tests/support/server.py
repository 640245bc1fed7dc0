"""Runs `livedub serve` as an operator would, one server at a time."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from serve_app.operations.place import free_port
from tests.support.speed import seconds

PROJECT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 60


def edited(config: str, change: dict[str, Any], folder: Path) -> Path:
    """A copy of configs/<config>.yaml with values of its application replaced.

    Paths read `args.asr.delay_ms` or `deployments.<Name>.<field>`.
    """
    schema = yaml.safe_load((PROJECT / "configs" / f"{config}.yaml").read_text(encoding="utf-8"))
    application = schema["applications"][0]
    for path, value in change.items():
        place: Any = application
        *parents, last = path.split(".")
        for part in parents:
            if isinstance(place, list):
                place = next(item for item in place if item["name"] == part)
            else:
                place = place.setdefault(part, {})
        place[last] = value
    written = folder / f"{config}.yaml"
    written.write_text(yaml.safe_dump(schema), encoding="utf-8")
    return written


@dataclass
class RunningServer:
    """A server process and where it listens."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path
    config: Path
    told_to_end: bool = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def logged(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def terminate(self) -> None:
        """SIGTERM, as an orchestrator would; returns at once."""
        self.told_to_end = True
        self.process.send_signal(signal.SIGTERM)

    def reload(self) -> None:
        """SIGHUP: the server reads its file again; returns when it says what came of it."""
        told = "rolled out after", "livedub: error"
        before = sum(map(self.logged().count, told))
        self.process.send_signal(signal.SIGHUP)
        give_up_s = time.monotonic() + seconds(START_TIMEOUT_S)
        while sum(map(self.logged().count, told)) == before:
            if time.monotonic() > give_up_s:
                raise TimeoutError(f"nothing was rolled out within {START_TIMEOUT_S} s:\n{self.logged()[-4000:]}")
            time.sleep(0.25)

    def stop(self) -> int:
        """End the server and everything it started; returns its exit code."""
        if self.process.poll() is None and not self.told_to_end:  # a second signal would stop it at once
            self.terminate()
        try:
            return self.process.wait(seconds(STOP_TIMEOUT_S))
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """End it without a word."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait()


def start(
    config: Path,
    log: Path,
    environ: dict[str, str] | None = None,
    port: int | None = None,
    livedub: tuple[str, ...] = (sys.executable, "-m", "livedub"),
    folder: Path = PROJECT,
) -> RunningServer:
    """Start `livedub serve`, on a free port unless one is named, and wait until /ready says yes."""
    port = port or free_port()
    command = [*livedub, "serve", str(config), "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environ or {})},
            start_new_session=True,
        )
    server = RunningServer(process, port, log, config)
    give_up_s = time.monotonic() + seconds(START_TIMEOUT_S)
    while time.monotonic() < give_up_s:
        if process.poll() is not None:
            raise RuntimeError(f"the server stopped with {process.returncode}:\n{server.logged()[-4000:]}")
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{server.url}/ready", timeout=2).is_success:
                return server
        time.sleep(0.25)
    server.stop()
    raise RuntimeError(f"the server was not ready after {START_TIMEOUT_S} s:\n{server.logged()[-4000:]}")
