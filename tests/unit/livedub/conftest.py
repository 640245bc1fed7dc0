"""A stand-in server: real sockets, scripted answers, no models."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import socketio
import uvicorn


def processed(data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A successful result that echoes the fragment's audio."""
    audio = data["audio"]
    start_ms = (data.get("metadata") or {}).get("pts_ns", 0) // 1_000_000
    return {
        "fragment_id": data["fragment_id"],
        "stream_id": data["stream_id"],
        "sequence_number": data["sequence_number"],
        "status": "success",
        "dubbed_audio": audio,
        "transcript": f"text {data['sequence_number']}",
        "translated_text": f"texto {data['sequence_number']}",
        "processing_time_ms": 40,
        "stage_timings": {"asr_ms": 10, "translation_ms": 5, "tts_ms": 20},
        "metadata": {
            "original_duration_ms": audio["duration_ms"],
            "dubbed_duration_ms": audio["duration_ms"],
            "duration_variance_percent": 1.5,
        },
        "assets": {
            "transcript": {
                "asset_id": "t",
                "parent_asset_ids": [],
                "language": "en",
                "segments": [
                    {
                        "start_ms": start_ms,
                        "end_ms": start_ms + audio["duration_ms"],
                        "text": f"text {data['sequence_number']}",
                        "confidence": 0.9,
                    }
                ],
            }
        },
    } | changes


def failed(data: dict[str, Any], code: str = "TIMEOUT", *, retryable: bool = True) -> dict[str, Any]:
    """A failed result."""
    error = {"stage": "asr", "code": code, "message": "scripted", "retryable": retryable}
    return processed(data, status="failed", error=error, dubbed_audio=None, transcript=None, translated_text=None)


@dataclass
class StandIn:
    """Records what comes and answers as scripted. By default every fragment is echoed."""

    url: str = ""
    sio: Any = None
    sids: list[str] = field(default_factory=list)
    inits: list[dict[str, Any]] = field(default_factory=list)
    fragments: list[dict[str, Any]] = field(default_factory=list)
    others: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    ready: dict[str, Any] = field(default_factory=lambda: {"max_inflight": 3})
    refuse_connect: Exception | None = None
    refuse_init: list[dict[str, Any]] = field(default_factory=list)
    on_fragment: Callable[[str, dict[str, Any]], Awaitable[None]] | None = None

    async def emit(self, event: str, data: dict[str, Any], sid: str | None = None) -> None:
        await self.sio.emit(event, data, to=sid or self.sids[-1])

    async def answer(self, sid: str, data: dict[str, Any]) -> None:
        await self.emit("fragment:processed", processed(data), sid)

    def of(self, event: str) -> list[dict[str, Any]]:
        return [data for name, data in self.others if name == event]

    def build(self) -> socketio.ASGIApp:
        self.sio = sio = socketio.AsyncServer(
            async_mode="asgi", transports=["websocket"], max_http_buffer_size=16 * 2**20
        )

        @sio.event
        async def connect(sid, environ, auth=None):
            if self.refuse_connect is not None:
                raise self.refuse_connect
            self.sids.append(sid)

        @sio.on("stream:init")
        async def init(sid, data):
            self.inits.append(data)
            if self.refuse_init:
                await self.emit("error", self.refuse_init.pop(0), sid)
                return
            body = {"stream_id": data["stream_id"], "session_id": sid, "capabilities": {}} | self.ready
            await self.emit("stream:ready", body, sid)

        @sio.on("fragment:data")
        async def fragment(sid, data):
            self.fragments.append(data)
            body = {"fragment_id": data["fragment_id"], "status": "queued", "timestamp": 1, "queue_position": 0}
            await self.emit("fragment:ack", body, sid)
            await (self.on_fragment or self.answer)(sid, data)

        @sio.on("stream:end")
        async def end(sid, data):
            self.others.append(("stream:end", data))
            counts = {"success_count": len(self.fragments), "partial_count": 0, "failed_count": 0}
            times = {"avg_processing_time_ms": 1}
            body = {"stream_id": data["stream_id"], "total_fragments": len(self.fragments), "total_duration_ms": 1}
            body |= counts | times
            body["error_breakdown"] = {"by_stage": {}, "by_code": {}}
            body["statistics"] = counts | times | {"p95_processing_time_ms": 1}
            await self.emit("stream:complete", body, sid)

        @sio.on("*")
        async def other(event, sid, data):
            self.others.append((event, data))

        return socketio.ASGIApp(sio)


@asynccontextmanager
async def serving(stand_in: StandIn, port: int = 0) -> AsyncIterator[StandIn]:
    """Run the stand-in on loopback, on a free port unless told."""
    listener = socket.create_server(("127.0.0.1", port))
    stand_in.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = uvicorn.Config(
        stand_in.build(), log_level="error", lifespan="off", timeout_graceful_shutdown=1, ws="websockets-sansio"
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield stand_in
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, 10)
        await stand_in.sio.shutdown()
        listener.close()


@pytest.fixture
async def stand_in() -> AsyncIterator[StandIn]:
    async with serving(StandIn()) as server:
        yield server
