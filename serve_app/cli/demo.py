"""`livedub demo`: the main job from one command. Starts the service, dubs a real clip over the real protocol, stops."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from serve_app.operations.place import free_port

START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 60.0
POLL_S = 0.5
LOG_LINES = 15
LIVEDUB = (sys.executable, "-P", "-m", "livedub")
"""Ours, whatever modules the user's folder has."""
Tell = Callable[[str], None]


class DemoError(RuntimeError):
    """The demo could not be run; the message says why."""


def run_demo(clip: Path, config: Path, out: Path, tell: Tell) -> int:
    """Dub `clip` with a server of its own on a free port; returns the exit code of `livedub dub`.

    The server's log is left beside the results.

    Raises:
        DemoError: no clip, or the server did not come up.
    """
    if not clip.is_file():
        raise DemoError(f"{clip} is not there")
    out.mkdir(parents=True, exist_ok=True)
    log = out / "server.log"
    tell(f"starting the service with {config.name}; its log goes to {log}")
    with _server(config, log, tell) as url:
        dubbed = out / f"{clip.stem}.es.m4a"
        tell(f"dubbing {clip.name} (English) into Spanish, over Socket.IO at {url}")
        command = [*LIVEDUB, "dub", str(clip), "-o", str(dubbed), "--force"]
        return subprocess.run([*command, "--server", url], check=False, env=_environment()).returncode  # noqa: S603  # nosec B603


@contextmanager
def _server(config: Path, log: Path, tell: Tell) -> Iterator[str]:
    port = free_port()
    command = [*LIVEDUB, "serve", str(config), "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        server = subprocess.Popen(  # noqa: S603  # nosec B603 - our own program
            command, stdout=output, stderr=subprocess.STDOUT, env=_environment(), start_new_session=True
        )
        try:
            yield _wait(server, f"http://127.0.0.1:{port}", log, tell)
        finally:
            tell("stopping the service")
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                server.kill()


def _wait(server: "subprocess.Popen[bytes]", url: str, log: Path, tell: Tell) -> str:
    started_s = time.monotonic()
    while time.monotonic() - started_s < START_TIMEOUT_S:
        if server.poll() is not None:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
            raise DemoError(f"the service stopped before it was ready; the end of {log}:\n{tail}")
        try:
            if httpx.get(f"{url}/ready", timeout=POLL_S * 4, trust_env=False).is_success:
                tell(f"ready after {time.monotonic() - started_s:.0f} s")
                return url
        except httpx.HTTPError:
            pass
        time.sleep(POLL_S)
    raise DemoError(f"the service was not ready after {START_TIMEOUT_S:.0f} s; see {log}")


def _environment() -> dict[str, str]:
    return {"LIVEDUB_LOG_FORMAT": "text", **os.environ, "PYTHONUNBUFFERED": "1"}  # people read the log beside the dub
