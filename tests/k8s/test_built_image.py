"""The CPU image in a container, where an engine is: `make images`, then LIVEDUB_TEST_ENGINE=docker make test.

No network, no writable root, no capability: what it needs beyond that would show here.
"""

import os
import shlex
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from tests.support.server import PROJECT, START_TIMEOUT_S

ENGINE = shlex.split(os.environ.get("LIVEDUB_TEST_ENGINE", ""))
IMAGE = os.environ.get("LIVEDUB_TEST_IMAGE", "livedub:cpu")
LOCKED_DOWN = (
    *("--network", "none", "--read-only", "--tmpfs", "/tmp:rw,size=2g,mode=1777", "--shm-size", "512m"),  # noqa: S108
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
)
READY = "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/ready', timeout=5)"
Execute = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = [
    pytest.mark.skipif(not ENGINE, reason="LIVEDUB_TEST_ENGINE names no container engine, such as docker"),
    pytest.mark.timeout(400),
]


def engine(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*ENGINE, *words], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def container() -> Iterator[str]:
    """Name of a container that serves."""
    name = f"livedub-test-{uuid.uuid4().hex[:8]}"
    clips = f"{PROJECT / 'tests' / 'data' / 'speech'}:/clips:ro"
    started = engine("run", "--detach", "--name", name, *LOCKED_DOWN, "--volume", clips, IMAGE)
    assert started.returncode == 0, started.stderr
    try:
        give_up_s = time.monotonic() + START_TIMEOUT_S
        while engine("exec", name, "python", "-c", READY).returncode:
            assert time.monotonic() < give_up_s, engine("logs", name).stderr[-4000:]
            time.sleep(1)
        yield name
    finally:
        engine("rm", "--force", name)


@pytest.fixture
def execute(container) -> Execute:
    """Runs a command in the container."""
    return lambda *words: engine("exec", container, *words)


def test_its_health_check_passes(execute):
    assert execute("python", "/opt/livedub/app/healthcheck.py").returncode == 0


def test_it_runs_as_nobody_in_particular_and_changes_nothing(execute):
    assert execute("id", "-u").stdout.strip() == "1000"
    assert execute("touch", "/opt/livedub/app/serve_app/new.py").returncode != 0
    assert execute("touch", "/models/new").returncode == 0


def test_it_has_no_tools_to_build_or_install_with(execute):
    for tool in ("gcc", "make", "git", "curl", "pip"):
        assert execute("bash", "-c", f"PATH=/opt/livedub/venv/bin:/usr/bin:/bin command -v {tool}").returncode != 0
    assert execute("python", "-c", "import setuptools").returncode != 0


def test_a_login_shell_finds_ray(execute):
    """KubeRay starts `ray start` in one, which sets PATH anew."""
    found = execute("bash", "-lc", "command -v ray livedub wget").stdout.split()
    assert found == ["/opt/livedub/venv/bin/ray", "/opt/livedub/app/bin/livedub", "/usr/bin/wget"]


def test_it_dubs(execute):
    clip = "/clips/sense_and_sensibility-0870.wav"
    done = execute("livedub", "dub", clip, "--to", "es", "-o", "/tmp/dub.m4a", "--timeout-ms", "30000")  # noqa: S108
    assert done.returncode == 0, done.stderr


def test_sigterm_ends_it_in_order(container):
    engine("stop", "--time", "60", container)
    assert engine("inspect", "--format", "{{.State.ExitCode}}", container).stdout.strip() == "0"
    logged = engine("logs", container)
    assert "livedub: stopped" in logged.stdout + logged.stderr
