"""Starting and stopping as people meet it: behind a proxy, by a signal to the group, with a model that fails."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from serve_app.operations.place import free_port
from tests.support import clips
from tests.support.server import PROJECT, edited
from tests.support.worker import Worker

MS = 1000
NOWHERE = "http://127.0.0.1:9"
PROXIES = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NOWHERE)
SCRIPT = [{"fragments": [1], "error": "QUEUE_FULL"}, {"fragments": [2], "error": "INVALID_AUDIO"}]


@pytest.fixture(scope="module")
def server(serve):
    """Behind a proxy that isn't there; its recogniser refuses fragments."""
    return serve("fakes", {"args.asr.script": SCRIPT}, environ=PROXIES)


async def test_a_proxy_in_the_environment_keeps_no_fragment_from_its_models(server):
    audio = clips.adts_fragments(MS)[0]
    async with Worker(server.url) as worker:
        await worker.init("starting")
        for number in range(4):
            await worker.send(number, audio, audio__duration_ms=MS)
        results = await worker.wait_results(4)
    statuses = {result["sequence_number"]: result["status"] for result in results}
    assert (statuses[0], statuses[3]) == ("success", "success")
    assert "failed" in (statuses[1], statuses[2])


async def test_fragments_that_are_refused_leave_no_traceback(server):
    assert "Traceback" not in server.logged()


async def test_off_a_terminal_every_line_but_the_commands_own_is_json(server):
    lines = [line for line in server.logged().splitlines() if not line.startswith("livedub: ")]
    assert lines
    assert all(isinstance(json.loads(line)["event"], str) for line in lines)


async def test_a_signal_to_the_whole_group_stops_it_in_order_and_leaves_nothing(server):
    """As `timeout`, a terminal and init systems send it; Ray's processes are in the group too."""
    family = psutil.Process(server.process.pid).children(recursive=True)
    assert {"gcs_server", "raylet"} <= {process.name() for process in family}
    os.killpg(server.process.pid, signal.SIGTERM)
    assert server.process.wait(timeout=40) == 0
    assert "livedub: streams finish what is in flight" in server.logged()
    assert "livedub: stopped" in server.logged()
    _, left = psutil.wait_procs(family, timeout=10)
    assert left == []


def begun(config: Path, log: Path, environ: dict[str, str]) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "livedub", "serve", str(config), "--host", "127.0.0.1", "--port", str(free_port())]
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | environ,
            cwd=PROJECT,
            start_new_session=True,
        )


def test_a_model_that_cannot_be_had_is_told_in_a_sentence(tmp_path):
    """Not before it starts: whether the hub has it, nobody knows."""
    config = edited("local", {"args.asr.model": "nobody/no-such-model"}, tmp_path)
    log = tmp_path / "log"
    process = begun(config, log, PROXIES | {"LIVEDUB_TTS__ENGINE": "espeak", "HF_HUB_DOWNLOAD_TIMEOUT": "1"})
    assert process.wait(timeout=120) == 1
    lines = log.read_text().splitlines()
    assert lines[-1].startswith("livedub: error: could not start Asr with faster_whisper nobody/no-such-model")
    assert not any("Traceback" in line for line in lines)


def test_a_second_signal_stops_at_once(tmp_path):
    log = tmp_path / "log"
    process = begun(edited("fakes", {}, tmp_path), log, {})
    give_up_s = time.monotonic() + 60
    while "waiting for" not in log.read_text():
        assert time.monotonic() < give_up_s
        time.sleep(0.1)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    time.sleep(1.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=5) in (0, 130)
    _, left = psutil.wait_procs(family, timeout=10)
    assert left == []
