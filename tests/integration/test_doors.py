"""With keys and tokens asked for, nobody else gets in; whoever is refused learns why."""

import json
import time
from typing import Any

import jwt
import pytest
import socketio

from livedub import ConnectFailed, DubClient, Fragment, InitRefused, StreamConfig
from tests.support import clips
from tests.support.worker import Worker

SECRET, AUDIENCE, KEY = "a secret that only this test knows, 32+", "livedub-test", "a-key-of-this-test"
PER_MINUTE = 4
MS = 1000


def token(secret: str = SECRET, algorithm: str = "HS256", **changes: Any) -> str:
    claims = {"exp": time.time() + 60, "aud": AUDIENCE, "sub": "newsroom", "streams": ["news-*"], **changes}
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, secret, algorithm)


@pytest.fixture(scope="module")
def server(serve):
    environ = {
        "LIVEDUB_AUTH__API_KEYS": json.dumps([KEY]),
        "LIVEDUB_AUTH__JWT_SECRET": SECRET,
        "LIVEDUB_AUTH__JWT_AUDIENCE": AUDIENCE,
        "LIVEDUB_LIMITS__PER_KEY__FRAGMENTS_PER_MINUTE": str(PER_MINUTE),
    }
    return serve("fakes", {"args.asr.delay_ms": 1}, environ=environ)


@pytest.fixture(scope="module")
def audio():
    return clips.adts_fragments(MS)[0]


REFUSED = {
    "no token": lambda: None,
    "an unknown key": lambda: "not-a-key-of-this-test",
    "a wrong signature": lambda: token("another secret, as long as the right one"),
    "another algorithm": lambda: token(algorithm="HS384"),
    "no signature": lambda: token("", "none"),
    "expired": lambda: token(exp=time.time() - 60),
    "not yet valid": lambda: token(nbf=time.time() + 600),
    "another audience": lambda: token(aud="somebody-else"),
    "no expiry": lambda: token(exp=None),
    "no streams": lambda: token(streams=None),
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_who_has_no_right_is_refused_at_the_handshake_with_a_reason(server, kind):
    shown = REFUSED[kind]()
    worker = Worker(server.url, auth={"token": shown} if shown else None)
    reasons: list[Any] = []
    worker.sio.on("connect_error", reasons.append)
    with pytest.raises(socketio.exceptions.ConnectionError):
        await worker.__aenter__()
    assert reasons[0]["data"]["code"] == "AUTH_FAILED"
    assert reasons[0]["message"]


async def test_the_client_tells_the_reason_and_does_not_try_for_ever(server):
    config = StreamConfig(target_language="es", format="m4a", sample_rate_hz=48_000, channels=2)
    with pytest.raises(ConnectFailed) as refused:
        await DubClient(server.url, config=config, token=token(exp=time.time() - 60)).connect()
    assert refused.value.code == "AUTH_FAILED"
    with pytest.raises(InitRefused) as other:
        await DubClient(server.url, config=config, stream_id="sports-1", token=token()).connect()
    assert (other.value.code, other.value.retryable) == ("AUTH_FAILED", False)


async def test_a_token_opens_its_streams_and_no_others(server, audio):
    config = StreamConfig(target_language="es", format="m4a", sample_rate_hz=48_000, channels=2)
    async with DubClient(server.url, config=config, stream_id="news-1", token=token()) as dubbing:
        await dubbing.send(Fragment(audio, "m4a", 48_000, 2, MS))
        assert (await dubbing.end()).success_count == 1
    async with Worker(server.url, auth={"token": token()}) as worker:
        await worker.emit(
            "stream:init", {"stream_id": "sports-1", "worker_id": "w", "config": {"target_language": "es"}}
        )
        error = await worker.wait_error("AUTH_FAILED")
        assert error["retryable"] is False
        await worker.init("news-2")


async def test_a_stream_is_taken_over_by_its_own_subject_alone(server, audio):
    async with Worker(server.url, auth={"token": token(sub="owner")}) as owner:
        await owner.init("news-owned")
        async with Worker(server.url, auth={"token": token(sub="somebody")}) as other:
            await other.emit(
                "stream:init", {"stream_id": "news-owned", "worker_id": "w", "config": {"target_language": "es"}}
            )
            await other.wait_error("AUTH_FAILED")
        await owner.send(0, audio, audio__duration_ms=MS)
        assert (await owner.wait_results(1))[0]["status"] == "success"
        async with Worker(server.url, auth={"token": token(sub="owner")}) as again:
            await again.init("news-owned")
            await owner.wait_error("SESSION_REPLACED")


async def test_a_key_has_its_limit_and_its_stream_goes_on_in_order(server, audio):
    async with Worker(server.url, auth={"token": KEY}) as worker:
        await worker.init("limited", timeout_ms=30_000)
        for number in range(PER_MINUTE + 2):
            await worker.send(number, audio, audio__duration_ms=MS)
        error = await worker.wait_error("RATE_LIMITED")
        assert error["retryable"] is True
        await worker.wait(lambda: len(worker.results) + len(worker.errors) >= PER_MINUTE + 2)
        refused = {e["sequence_number"] for e in worker.errors}
        assert {e["code"] for e in worker.errors} == {"RATE_LIMITED"}
        assert [r["sequence_number"] for r in worker.results] == sorted(set(range(PER_MINUTE + 2)) - refused)
        await worker.emit("stream:end", {"stream_id": "limited"})
        complete = await worker.wait(lambda: worker.of("stream:complete"))
        assert complete[0]["total_fragments"] == PER_MINUTE + 2 - len(refused)
