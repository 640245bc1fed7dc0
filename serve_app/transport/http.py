"""The HTTP routes beside the sockets: /health, /ready, /metrics. They work for GET from anywhere on the same port."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType

from fastapi import FastAPI, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute

from serve_app.protocol import Machine
from serve_app.transport.websocket import AsgiApp

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
UNAVAILABLE = 503

Readiness = Callable[[], Awaitable[dict[str, str]]]
"""State by deployment: `ready`, or what it is waiting for."""


def build_app(
    doors: Mapping[str, AsgiApp],
    readiness: Readiness,
    metrics: Callable[[], Awaitable[str]],
    origins: Sequence[str] | None = None,
    machine: Callable[[], Machine] = Machine,
    routes: Mapping[str, AsgiApp] = MappingProxyType({}),
) -> FastAPI:
    """The ASGI application of one ingress replica.

    Args:
        doors: what answers whatever begins with a path: the sockets.
        readiness: asked for each `GET /ready`.
        metrics: asked for each `GET /metrics`.
        origins: whose pages may read the routes; None: no other page than one of this address.
        machine: what it can do, told with `GET /ready`.
        routes: what answers a path itself, by WebSocket and HTTP.
    """
    app = FastAPI(title="livedub", docs_url=None, redoc_url=None, openapi_url=None)
    if origins is not None:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(origins), allow_methods=["GET", "POST"], allow_headers=["*"]
        )

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Alive: this process answers."""
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> Response:
        """Ready: every model has loaded and answers."""
        states = await readiness()
        waiting = {name: state for name, state in states.items() if state != "ready"}
        status = "waiting" if waiting else "ready"
        body = {"status": status, "deployments": states, **machine().model_dump()}
        return JSONResponse(body, status_code=UNAVAILABLE if waiting else 200)

    @app.get("/metrics")
    async def prometheus() -> Response:
        """Metrics of the whole service, whichever replica answers."""
        return PlainTextResponse(await metrics(), media_type=METRICS_TYPE)

    for path, door in doors.items():
        app.mount(path, door)
    for path, door in routes.items():
        app.router.routes += [WebSocketRoute(path, door), Route(path, door)]
    return app
