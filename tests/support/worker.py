"""A worker that speaks the protocol bare: python-socketio, no client of ours, every event recorded as it came."""

import asyncio
import base64
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import socketio

from tests.support.speed import seconds

CONFIG: dict[str, Any] = {
    "source_language": "en",
    "target_language": "es",
    "voice_profile": "default",
    "format": "m4a",
    "sample_rate_hz": 48_000,
    "channels": 2,
    "chunk_duration_ms": 6000,
}
"""What existing workers send."""
WAIT_S = 30.0


@dataclass
class Received:
    """One event from the server."""

    at_s: float
    event: str
    data: Any


@dataclass
class Worker:
    """One connection. Use as `async with Worker(url) as worker`."""

    url: str
    path: str = "/socket.io"
    headers: dict[str, str] = field(default_factory=dict)
    auth: dict[str, str] | None = None
    reconnection: bool = False
    stream_id: str = ""
    events: list[Received] = field(default_factory=list)
    sent_s: dict[str, float] = field(default_factory=dict)
    disconnects: int = 0
    connects: int = 0

    def __post_init__(self) -> None:
        self.sio = socketio.AsyncClient(reconnection=self.reconnection, reconnection_delay=0.2)
        self._news = asyncio.Condition()
        self.sio.on("*", self._on_event)
        self.sio.on("connect", self._on_connect)
        self.sio.on("disconnect", self._on_disconnect)

    async def __aenter__(self) -> Self:
        await self.sio.connect(
            self.url, headers=self.headers, auth=self.auth, transports=["websocket"], socketio_path=self.path
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.sio.disconnect()

    async def _notify(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def _on_event(self, event: str, data: Any = None) -> None:
        self.events.append(Received(time.monotonic(), event, data))
        await self._notify()

    async def _on_connect(self) -> None:
        self.connects += 1
        await self._notify()

    async def _on_disconnect(self, *_: object) -> None:
        self.disconnects += 1
        await self._notify()

    # --- sending ---

    async def emit(self, event: str, data: Any) -> None:
        await self.sio.emit(event, data)

    async def init(self, stream_id: str, config: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        """`stream:init`; returns the payload of `stream:ready`."""
        self.stream_id = stream_id
        seen = len(self.of("stream:ready"))
        await self.emit(
            "stream:init",
            {"stream_id": stream_id, "worker_id": "worker", "config": {**CONFIG, **(config or {})}, **fields},
        )
        ready = await self.wait(lambda: self.of("stream:ready")[seen:])
        return dict(ready[0])

    async def send(self, number: int, encoded: bytes, /, **changes: Any) -> str:
        """`fragment:data`, base64; `changes` replace fields, `audio__x` those of audio. Returns the fragment_id."""
        fragment_id: str = changes.get("fragment_id", f"{self.stream_id}-{number}")
        payload: dict[str, Any] = {
            "fragment_id": fragment_id,
            "stream_id": self.stream_id,
            "sequence_number": number,
            "timestamp": int(time.time() * 1000),
            "audio": {
                "format": "m4a",
                "sample_rate_hz": 48_000,
                "channels": 2,
                "duration_ms": 6000,
                "data_base64": base64.b64encode(encoded).decode(),
            },
        }
        for name, value in changes.items():
            if name.startswith("audio__"):
                payload["audio"][name.removeprefix("audio__")] = value
            else:
                payload[name] = value
        if payload["audio"] and "data" in payload["audio"]:
            payload["audio"].pop("data_base64")
        self.sent_s[fragment_id] = time.monotonic()
        await self.emit("fragment:data", payload)
        return fragment_id

    # --- receiving ---

    def of(self, event: str) -> list[Any]:
        return [received.data for received in self.events if received.event == event]

    @property
    def results(self) -> list[dict[str, Any]]:
        return self.of("fragment:processed")

    @property
    def errors(self) -> list[dict[str, Any]]:
        return self.of("error")

    def result(self, fragment_id: str) -> dict[str, Any] | None:
        return next((r for r in self.results if r["fragment_id"] == fragment_id), None)

    def ack_ms(self) -> list[float]:
        """From sending to `fragment:ack`, for each fragment sent once."""
        return [
            (received.at_s - self.sent_s[received.data["fragment_id"]]) * 1000
            for received in self.events
            if received.event == "fragment:ack"
        ]

    async def wait(self, condition: Callable[[], Any], timeout_s: float = WAIT_S) -> Any:
        """Wait until `condition` gives something true, and return it; longer on a slower machine."""
        async with asyncio.timeout(seconds(timeout_s)), self._news:
            while not (found := condition()):
                await self._news.wait()
            return found

    async def wait_results(self, count: int, timeout_s: float = WAIT_S) -> list[dict[str, Any]]:
        return list(await self.wait(lambda: self.results if len(self.results) >= count else None, timeout_s))

    async def wait_error(self, code: str, timeout_s: float = WAIT_S) -> dict[str, Any]:
        found = await self.wait(lambda: [e for e in self.errors if e["code"] == code], timeout_s)
        return dict(found[-1])
