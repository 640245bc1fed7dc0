"""What must never be in a log or a metric is sent through a real server; then everything that it wrote is searched."""

import asyncio
import base64
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.hostile.messages import fragment
from tests.support.deepl_stub import Answer, DeepLStub, deepl_stub
from tests.support.server import RunningServer
from tests.support.worker import Worker

KEY = "canarykey-5d1f7a:fx"
HEARD = "vel{sequence_number}vet-canary-heard"
"""Ray logs the configuration, so the word as it is said stands nowhere in it."""
TRANSLATED = "canary-translated"
DEEPL_TOLD = "canary-told-by-deepl"
ODD = "canary-odd-field"
SOUND = b"canary-sound"
PCM = {"format": "pcm_s16le", "sample_rate_hz": 8000, "channels": 1}
AUDIO = {f"audio__{name}": value for name, value in PCM.items()} | {"audio__duration_ms": 750}
LOUD = SOUND * 1000
CANARIES = {
    "the key": KEY,
    "what was heard": HEARD.format(sequence_number=0),
    "what was translated": TRANSLATED,
    "what DeepL said of a failure": DEEPL_TOLD,
    "a refused value": ODD,
    "audio": SOUND.decode(),
    "audio in base64": base64.b64encode(SOUND).decode(),
}


@pytest.fixture(scope="module")
def stub() -> Iterator[DeepLStub]:
    with deepl_stub() as running:
        yield running


@pytest.fixture(scope="module")
def ray_folder() -> Iterator[Path]:
    """Ray's own place for logs; short, since it also holds sockets, whose names are limited."""
    folder = Path(tempfile.mkdtemp(prefix="canary"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def server(serve, stub: DeepLStub, ray_folder: Path) -> RunningServer:
    translation = {"engine": "deepl", "server_url": stub.url, "max_attempts": 1}
    change = {"args.translation": translation, "args.asr.text": HEARD, "args.log_level": "DEBUG"}
    return serve("fakes", change, environ={"DEEPL_API_KEY": KEY, "RAY_TMPDIR": str(ray_folder)})


async def succeed(server: RunningServer, stub: DeepLStub) -> None:
    said = {"text": TRANSLATED, "detected_source_language": "EN", "billed_characters": 1}
    stub.answer = Answer(body=json.dumps({"translations": [said]}))
    async with Worker(server.url) as worker:
        await worker.init("well", PCM)
        await worker.send(0, LOUD, **AUDIO)
        result = (await worker.wait_results(1))[0]
        assert (result["transcript"], result["translated_text"]) == (CANARIES["what was heard"], TRANSLATED)
        await worker.emit("stream:end", {"stream_id": "well"})
        await worker.wait(lambda: worker.of("stream:complete"))
    assert stub.keys == {f"DeepL-Auth-Key {KEY}"}


async def fail(server: RunningServer, stub: DeepLStub) -> None:
    stub.answers[:] = [
        Answer(400, body=json.dumps({"message": DEEPL_TOLD})),
        Answer(456, body=json.dumps({"message": DEEPL_TOLD})),
        Answer(body=DEEPL_TOLD),
    ]
    async with Worker(server.url) as worker:
        await worker.init("badly", PCM)
        for number in range(3):
            await worker.send(number, LOUD, **AUDIO)
            await worker.wait_results(number + 1)
        assert {result["status"] for result in worker.results} == {"failed"}
    async with Worker(server.url) as worker:
        await worker.init("asr-error-canary", PCM)
        await worker.send(0, LOUD, **AUDIO)
        assert (await worker.wait_results(1))[0]["error"]["stage"] == "asr"
    async with Worker(server.url) as worker:
        await worker.init("noise", {"format": "mp3"})
        await worker.send(0, LOUD, audio__format="mp3")
        assert (await worker.wait_results(1))[0]["error"]["code"] == "INVALID_AUDIO"


async def confuse(server: RunningServer) -> None:
    odd = [
        fragment("odd", audio__format=ODD),
        fragment("odd", timestamp=ODD),
        fragment("odd", audio=ODD),
        fragment("odd", audio__data_base64=f"{ODD}!"),
        fragment("odd", audio__data_base64=base64.b64encode(SOUND).decode() + "!"),
        fragment("odd", metadata={"pts_ns": ODD}),
        fragment("odd", audio__duration_ms=SOUND),
        fragment("odd", **{ODD: ODD, "timestamp": None}),
    ]
    init = {"stream_id": "odd-too", "worker_id": "w", "config": {"target_language": "es"}}
    refused = [
        *(("fragment:data", payload) for payload in odd),
        ("stream:init", init | {"config": {"target_language": ODD}}),
        ("stream:init", init | {"config": {"target_language": "es", "voice_profile": ODD}}),
        ("stream:init", init | {"config": {"target_language": "es", "domain_hints": {ODD: ODD}}}),
        ("stream:init", init | {"max_inflight": ODD}),
        ("stream:init", ODD),
        ("stream:pause", {"stream_id": [ODD]}),
        (ODD, {"text": ODD}),
    ]
    async with Worker(server.url) as worker:
        await worker.init("odd", PCM)
        for event, payload in refused:
            seen = len(worker.errors)
            await worker.emit(event, payload)
            await worker.wait(lambda seen=seen: worker.errors[seen:])
        await worker.sio.eio.send(f'2["fragment:data",{{"{ODD}')
        await worker.wait(lambda: worker.disconnects)


def written(folder: Path) -> Iterator[Path]:
    """Ray's logs, of all processes: each file once."""
    for session in folder.glob("**/session_*/logs"):
        if not session.parent.is_symlink():
            yield from (path for path in session.rglob("*") if path.is_file() and not path.is_symlink())


async def test_no_log_and_no_metric_has_a_transcript_audio_a_key_or_a_refused_value(
    server: RunningServer, stub: DeepLStub, ray_folder: Path
) -> None:
    await succeed(server, stub)
    await fail(server, stub)
    await confuse(server)
    await asyncio.sleep(2)  # Ray exports metrics and copies logs once a second
    logs = list(written(ray_folder))
    texts = {str(path.relative_to(ray_folder)): path.read_bytes() for path in logs}
    metrics = await asyncio.to_thread(httpx.get, f"{server.url}/metrics")
    texts |= {"server output": server.log.read_bytes(), "/metrics": metrics.content}
    all_text = b"".join(texts.values())
    for sign in (b"message_refused", b"packet_refused", b"stream_opened", b"fragment_processed", b"sts_"):
        assert sign in all_text, f"{sign!r}: what the server writes was not looked at"
    found = [
        f"{name} is in {where}: …{text[max(0, at - 300) : at + 120].decode(errors='replace')}…"
        for where, text in texts.items()
        for name, canary in CANARIES.items()
        if (at := text.find(canary.encode())) >= 0
    ]
    assert not found, "\n\n".join(found)
    assert os.environ.get("DEEPL_API_KEY") != KEY
