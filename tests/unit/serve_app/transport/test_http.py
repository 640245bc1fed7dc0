"""The HTTP routes beside the sockets."""

import httpx
import pytest

from serve_app.protocol import Machine, MeasuredTimes
from serve_app.transport.engine_io import PATHS
from serve_app.transport.http import METRICS_TYPE, build_app


@pytest.fixture
def states() -> dict[str, str]:
    return {"Asr": "ready", "Translation": "ready", "Tts": "ready"}


MACHINE = Machine(live_streams=2.8, measured=MeasuredTimes(asr_ms=300.0, tts_ms=1500.0))


@pytest.fixture
async def client(states):
    async def sockets(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def readiness():
        return states

    async def metrics():
        return "# TYPE sts_streams_active gauge\nsts_streams_active 3\n"

    transport = httpx.ASGITransport(
        build_app(dict.fromkeys(PATHS, sockets), readiness, metrics, machine=lambda: MACHINE)
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://livedub") as client:
        yield client


async def test_health_says_that_the_process_answers(client):
    response = await client.get("/health")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_ready_once_every_model_is(client, states):
    response = await client.get("/ready")
    assert response.status_code == 200
    assert response.json() == {"status": "ready", "deployments": states, **MACHINE.model_dump()}


async def test_not_ready_while_one_model_is_not(client, states):
    states["Tts"] = "starting"
    response = await client.get("/ready")
    assert response.status_code == 503
    assert response.json() == {"status": "waiting", "deployments": states, **MACHINE.model_dump()}


async def test_health_does_not_depend_on_the_models(client, states):
    states["Tts"] = "does not answer"
    assert (await client.get("/health")).status_code == 200


async def test_metrics_are_prometheus_text(client):
    response = await client.get("/metrics")
    assert response.headers["content-type"] == METRICS_TYPE
    assert response.text.endswith("sts_streams_active 3\n")


@pytest.mark.parametrize("path", ["/socket.io/", "/ws/sts/"])
async def test_sockets_are_on_both_paths(client, path):
    assert (await client.get(path)).status_code == 418


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/health/x", "/admin"])
async def test_nothing_else_is_there(client, path):
    assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
async def test_routes_are_for_reading(client, path):
    assert (await client.post(path)).status_code == 405


@pytest.mark.parametrize(("origins", "allowed"), [(None, None), (("http://a.example",), "http://a.example")])
async def test_pages_read_the_routes_only_where_their_origin_is_listed(origins, allowed):
    async def nothing():
        return {}

    app = build_app({}, nothing, nothing, origins)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://livedub") as client:
        listed = await client.get("/health", headers={"Origin": "http://a.example"})
        other = await client.get("/health", headers={"Origin": "http://b.example"})
    assert listed.headers.get("access-control-allow-origin") == allowed
    assert "access-control-allow-origin" not in other.headers
