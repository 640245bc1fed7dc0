"""The conformance app: echoes on `/` and `/custom`, on the service's own hosting code.

`python -m tests.conformance.server` serves it for the public suite (test-suite/ of socketio/socket.io-protocol). All of
the suite's WebSocket tests pass with `PING_INTERVAL = 1000` in its source; at its own 300 the handshake's test fails,
because python-engineio tells clients whole seconds. Those that expect a close pass with `--ping-interval-s 60
--ping-timeout-s 60 --connect-timeout-s 1` too, so that no unanswered ping is what closes. Its tests of long-polling and
of upgrades don't apply.
"""

import argparse
import asyncio
import socket as sockets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import socketio
import uvicorn

from serve_app.transport.engine_io import engine_sockets
from serve_app.transport.packets import socket_io_server
from serve_app.transport.websocket import SocketLimits

NAMESPACES = ("/", "/custom")
STOP_TIMEOUT_S = 10.0
SUITE_MAX_PAYLOAD_BYTES = 1_000_000
"""What the public suite expects to be told."""


def conformance_app(
    *, ping_interval_s: float, ping_timeout_s: float, limits: SocketLimits
) -> tuple[socketio.AsyncServer, Any]:
    """The server and its ASGI app."""
    sio = socket_io_server(ping_interval_s=ping_interval_s, ping_timeout_s=ping_timeout_s)

    def add(namespace: str) -> None:
        async def connect(sid: str, environ: dict[str, Any], auth: object = None) -> None:
            asyncio.get_running_loop().call_soon(
                lambda: greetings.append(
                    asyncio.ensure_future(sio.emit("auth", auth or {}, to=sid, namespace=namespace))
                )
            )

        async def message(sid: str, *data: object) -> None:
            await sio.emit("message-back", data, to=sid, namespace=namespace)

        async def message_with_ack(sid: str, *data: object) -> tuple[object, ...]:
            return data

        sio.on("connect", connect, namespace=namespace)
        sio.on("message", message, namespace=namespace)
        sio.on("message-with-ack", message_with_ack, namespace=namespace)

    greetings: list[asyncio.Future[None]] = []
    for namespace in NAMESPACES:
        add(namespace)
    return sio, engine_sockets(socketio.ASGIApp(sio), limits)


@asynccontextmanager
async def serving(app: Any, sio: socketio.AsyncServer) -> AsyncIterator[int]:
    """Serve an ASGI app on a free port of the loopback."""
    listener = sockets.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", ws="auto"))
    running = asyncio.create_task(server.serve([listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        await asyncio.wait_for(running, STOP_TIMEOUT_S)
        listener.close()
        await sio.shutdown()


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=3000)
    parser.add_argument("--ping-interval-s", type=float, default=1.0)
    parser.add_argument("--ping-timeout-s", type=float, default=0.2)
    parser.add_argument("--connect-timeout-s", type=float, default=5.0)
    options = parser.parse_args()
    sio, app = conformance_app(
        ping_interval_s=options.ping_interval_s,
        ping_timeout_s=options.ping_timeout_s,
        limits=SocketLimits(connect_timeout_s=options.connect_timeout_s),
    )
    sio.eio.max_http_buffer_size = SUITE_MAX_PAYLOAD_BYTES
    uvicorn.run(app, host="localhost", port=options.port, log_level="warning", lifespan="off", ws="auto")


if __name__ == "__main__":
    main()
