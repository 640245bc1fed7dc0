"""The records that a history of workers and server is made of, and the thresholds that it is judged by.

A history is told from the workers' side, in the order of each connection, so it doesn't matter whether the server was
the real one or the simulation. One record is one line of JSON: `time_s`, `connection`, `direction`, `event`, `fields`.

Directions: `sent` and `received` are events of the protocol (`disconnect` stands for the end of the connection, by
either side); `work` is `started`, `finished` or `cancelled` with a `ticket`; `state` is `sizes`, of what the server
holds for the connection's stream. Only the simulation knows the last two.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that happened."""

    time_s: float
    connection: str
    direction: str
    event: str
    fields: dict[str, Any]

    def line(self) -> str:
        """As JSON, the same for the same record."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken."""

    check: str
    """One word for the promise: result, order, in_flight, deadline, backpressure, answer, retryable, audio, work, …"""
    time_s: float
    connection: str
    message: str


@dataclass(frozen=True, slots=True)
class Rules:
    """The thresholds that the judged server ran with."""

    levels_by_count: bool = False
    """Whether backpressure follows from counts alone; else it may be higher, since the server foresees waits."""
    critical_inflight: int = 10
    timeout_ms: int = 8000
    """For a stream that names none."""
    start_wait_ms: int = 1000
    release_slack_ms: int = 250
    kept_results: int = 64
    kept_bytes: int = 8 * 1024 * 1024
    undone: int = 256
    """Failed and rejected fragments that are remembered."""
    tolerance_s: float = 0.0
    """What network and scheduling may add to a result's way; 0 in virtual time."""


def record(time_s: float, connection: str, direction: str, event: str, payload: object) -> Record:
    """A record of a wire event; audio is replaced by its size and a digest, texts are left out."""
    fields: dict[str, Any] = dict(payload) if isinstance(payload, dict) else {}
    for name in ("transcript", "translated_text", "assets", "metadata", "capabilities"):
        fields.pop(name, None)
    for name in ("audio", "dubbed_audio"):
        audio = fields.pop(name, None)
        if isinstance(audio, dict):
            data = audio.get("data") or audio.get("data_base64") or b""
            raw = data if isinstance(data, bytes) else str(data).encode()
            fields["audio_bytes"] = len(raw) if isinstance(data, bytes) else len(raw) * 3 // 4 - raw.count(b"=")
            fields["digest"] = hashlib.blake2b(raw, digest_size=8).hexdigest()
    return Record(time_s, connection, direction, event, fields)


def save(history: Iterable[Record], path: Path) -> None:
    """Write a history as JSON lines."""
    path.write_text("".join(f"{entry.line()}\n" for entry in history), encoding="utf-8")


def load(path: Path) -> list[Record]:
    """Read what `save` wrote."""
    return [Record(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
