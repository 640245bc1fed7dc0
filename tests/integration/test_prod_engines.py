"""What production needs, on real Ray: a readable refusal, DeepL's client behind streams, live changes of Asr."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from serve_app.operations.place import free_port
from tests.support import clips
from tests.support.deepl_stub import Answer, DeepLStub, deepl_stub
from tests.support.server import PROJECT, RunningServer, edited
from tests.support.speed import seconds
from tests.support.worker import Worker

MS = 1000
KEY = "canary-91bc:fx"
REFUSAL = "this configuration can't run here"
REFUSAL_TIMEOUT_S = 120
FAILURES_UNTIL_OPEN = 3


@pytest.fixture(scope="module")
def audio() -> bytes:
    return clips.adts_fragments(MS)[0]


# --- what is missing ---


def test_serve_run_tells_what_is_missing_on_one_line_and_without_a_traceback(tmp_path: Path) -> None:
    schema = yaml.safe_load((PROJECT / "configs" / "prod.yaml").read_text(encoding="utf-8"))
    schema["http_options"] = {"host": "127.0.0.1", "port": free_port()}
    config, log = tmp_path / "prod.yaml", tmp_path / "serve.log"
    config.write_text(yaml.safe_dump(schema), encoding="utf-8")
    hidden = ("DEEPL_API_KEY", "DEEPL_AUTH_KEY", "LIVEDUB_", "RAY_ADDRESS")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("serve")), "run", "--address", "local", str(config)],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=PROJECT,
            env={**environ, "PYTHONUNBUFFERED": "1", "CUDA_VISIBLE_DEVICES": ""},
            start_new_session=True,
        )
    try:
        line = _line_with(REFUSAL, log, process)
    finally:
        _end(process)
    assert "DEEPL_API_KEY" in line
    assert "a GPU: asr.device and tts.device say cuda" in line
    assert "Traceback" not in log.read_text(encoding="utf-8", errors="replace")


def _line_with(text: str, log: Path, process: "subprocess.Popen[bytes]") -> str:
    give_up_s = time.monotonic() + seconds(REFUSAL_TIMEOUT_S)
    while time.monotonic() < give_up_s and process.poll() is None:
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            if text in line:
                return line
        time.sleep(0.25)
    raise AssertionError(log.read_text(encoding="utf-8", errors="replace")[-4000:])


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# --- DeepL behind streams ---


@pytest.fixture(scope="module")
def stub() -> Iterator[DeepLStub]:
    with deepl_stub() as running:
        yield running


@pytest.fixture(scope="module")
def translating(serve, stub: DeepLStub) -> RunningServer:
    translation = {
        "engine": "deepl",
        "server_url": stub.url,
        "max_attempts": 1,
        "context_characters": 0,
        "batch_wait_ms": 100,
        "breaker_failures": FAILURES_UNTIL_OPEN,
    }
    change = {"args.translation": translation, "args.asr.text": "{stream_id} says {sequence_number}"}
    return serve("fakes", change, environ={"DEEPL_API_KEY": KEY})


async def test_fragments_of_two_streams_reach_deepl_in_batches_with_the_key_of_the_environment(
    translating: RunningServer, stub: DeepLStub, audio: bytes
) -> None:
    async with Worker(translating.url) as one, Worker(translating.url) as other:
        await one.init("one")
        await other.init("other")
        await asyncio.gather(
            *(worker.send(number, audio, audio__duration_ms=MS) for number in range(3) for worker in (one, other))
        )
        for worker, name in ((one, "one"), (other, "other")):
            results = await worker.wait_results(3)
            assert [result["status"] for result in results] == ["success"] * 3
            assert [result["translated_text"] for result in results] == [f"[ES] {name} says {n}" for n in range(3)]
    assert stub.keys == {f"DeepL-Auth-Key {KEY}"}
    assert sum(len(body["text"]) for body in stub.bodies) == 6
    assert stub.n_calls < 6
    assert KEY not in translating.logged()


async def test_a_spent_quota_is_told_as_not_retryable(
    translating: RunningServer, stub: DeepLStub, audio: bytes
) -> None:
    stub.answer = Answer(456)
    async with Worker(translating.url) as worker:
        await worker.init("quota")
        await worker.send(0, audio, audio__duration_ms=MS)
        error = (await worker.wait_results(1))[0]["error"]
    told = (error["stage"], error["code"], error["retryable"])
    assert told == ("translation", "TRANSLATION_QUOTA_EXCEEDED", False)


async def test_failures_in_a_row_open_the_breaker_which_metrics_show(
    translating: RunningServer, stub: DeepLStub, audio: bytes
) -> None:
    stub.answer = Answer(503)
    async with Worker(translating.url) as worker, httpx.AsyncClient(base_url=translating.url) as http:
        await worker.init("unavailable")
        number = 0
        async with asyncio.timeout(seconds(60)):
            while not _shows((await http.get("/metrics")).text, "sts_breaker_state", 'service="deepl"', 2):
                await worker.send(number, audio, audio__duration_ms=MS)
                number += 1
                error = (await worker.wait_results(number))[-1]["error"]
                assert (error["code"], error["retryable"]) == ("TRANSLATION_API_UNAVAILABLE", True)
                await asyncio.sleep(0.5)
        n_calls = stub.n_calls
        await worker.send(number, audio, audio__duration_ms=MS)
        await worker.wait_results(number + 1)
    assert stub.n_calls == n_calls


def _shows(metrics: str, name: str, label: str, value: float) -> bool:
    return any(
        line.startswith(f"{name}{{") and label in line and float(line.split()[-1]) == value
        for line in metrics.splitlines()
    )


# --- live changes ---

DEPLOY = """
import sys, ray, yaml
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema
ray.init(address="auto", namespace="serve", log_to_driver=False)
_get_global_client().deploy_apps(ServeDeploySchema.model_validate(yaml.safe_load(open(sys.argv[1]))), _blocking=False)
"""


async def _deploy(folder: Path, **user_configs: dict[str, Any]) -> None:
    """The fakes again, with these user_configs by deployment."""
    config = edited("fakes", {f"deployments.{name}.user_config": given for name, given in user_configs.items()}, folder)
    command = [sys.executable, "-c", DEPLOY, str(config)]
    process = await asyncio.create_subprocess_exec(*command, cwd=PROJECT)
    async with asyncio.timeout(seconds(60)):
        assert await process.wait() == 0


async def _logged(server: RunningServer, *words: str) -> None:
    """A deploy builds the application in a new process first, which takes a busy machine a while."""
    try:
        async with asyncio.timeout(seconds(120)):
            while not any(all(word in line for word in words) for line in server.logged().splitlines()):
                await asyncio.sleep(0.25)
    except TimeoutError:
        pytest.fail(f"no line has {words}:\n{server.logged()[-4000:]}")


async def test_values_change_live_and_a_wrong_one_changes_nothing(serve, audio: bytes, tmp_path: Path) -> None:
    server = serve("fakes", {"deployments.Asr.user_config": {"max_batch_size": 2}}, fresh=True)
    assert server.logged().count("asr_loaded") == 1
    stop = asyncio.Event()
    async with Worker(server.url) as worker:
        await worker.init("live")

        async def talk() -> int:
            number = 0
            while not stop.is_set():
                await worker.send(number, audio, audio__duration_ms=MS)
                number += 1
                await worker.wait_results(number - 2)
                await asyncio.sleep(0.1)
            return number

        talking = asyncio.create_task(talk())
        await _deploy(tmp_path, Asr={"max_batch_size": 5, "batch_wait_ms": 7, "window_frames": 1200})
        await _logged(server, "asr_configured", '"max_batch_size": 5', '"batch_wait_ms": 7', '"window_frames": 1200')
        await _deploy(tmp_path, Asr={"max_batch_size": 0}, Ingress={"streams": {"max_inflight": 99}})
        await _logged(server, "asr_user_config_refused", "max_batch_size")
        await _logged(server, "ingress_user_config_refused", "streams.max_inflight", "10", "99")
        heard = len(worker.results)
        await worker.wait(lambda: len(worker.results) > heard + 5)
        stop.set()
        sent = await talking
        results = await worker.wait_results(sent)
        assert not worker.disconnects
    assert [result["sequence_number"] for result in results] == list(range(sent))
    assert {result["status"] for result in results} == {"success"}
    assert server.logged().count("asr_loaded") == 1
    assert server.logged().count("asr_configured") == 2
