"""Clients that never read: `python -m bench.slow_clients [--clients 20] [--seconds 40] [--waves 2]`.

A real server with a low cap on unread output. Clients open a stream, stop reading and go on sending; what they are sent
is as large as what they send. Beside them a client that reads. Prints how far the ingress and the proxy in front of it
grow, leaves bench/results/slow_clients.json, and ends with 1 when they grow by more than the caps together and a tenth,
when a slow client is not closed or can go on sending, or when the other one misses a result.

Growth counts from what as many clients that read made of the two: code, buffers and what the allocator keeps of a busy
minute are no matter of reading. Pages that both share, which are Ray's object store, count once. Each wave of slow
clients counts from the same base, so that a second one shows what the first has left behind.
"""

import argparse
import asyncio
import json
import random
import socket
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from bench.report import write
from tests.support.processes import processes
from tests.support.server import RunningServer, edited, start
from tests.support.worker import Worker

CAP_BYTES = 4 * 1024 * 1024
CHANGES = {"args.ingress": {"max_unread_bytes": CAP_BYTES}}
TOLERANCE = 0.1
RECEIVE_BUFFER_BYTES = 4096
RATE_HZ, CHANNELS, DURATION_MS = 48_000, 2, 5_000
AUDIO = random.Random(1).randbytes(RATE_HZ * CHANNELS * 2 * DURATION_MS // 1000)  # noqa: S311  # nosec B311 - it is noise
CADENCE_S, NEIGHBOUR_CADENCE_S = 1.0, 0.5
WARM_FRAGMENTS = CAP_BYTES // len(AUDIO) + 1
HANDSHAKE_TIMEOUT_S = 30.0
SEND_TIMEOUT_S = 5.0
SETTLE_S = 2.0
SAMPLE_S = 0.2
WATCHED = {"ingress": "ServeReplica:livedub:Ingress", "proxy": "ProxyActor"}
REASON = "client_does_not_read"
PARTS = ("before_bytes", "growth_by_process_bytes", "left_bytes")


@dataclass
class SlowClient:
    """A Socket.IO connection on a socket of its own, which it stops reading."""

    port: int
    stream_id: str
    sent: int = 0
    turned_away: bool = False
    """Whether the server would take no more."""

    async def run(self, seconds: float) -> None:
        """Open a stream, stop reading, and send until nothing is taken any more or the time is over."""
        loop = asyncio.get_running_loop()
        with socket.socket() as self._socket:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            self._socket.setblocking(False)
            await loop.sock_connect(self._socket, ("127.0.0.1", self.port))
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                await self._open()
            ends = loop.time() + seconds
            while loop.time() < ends:
                try:
                    async with asyncio.timeout(SEND_TIMEOUT_S):
                        await self._fragment()
                except (OSError, TimeoutError):
                    self.turned_away = True
                    return
                await asyncio.sleep(CADENCE_S)

    async def _open(self) -> None:
        uri = parse_uri(f"ws://127.0.0.1:{self.port}/socket.io/?EIO=4&transport=websocket")
        self._protocol = ClientProtocol(uri)
        self._protocol.send_request(self._protocol.connect())
        await self._flush()
        await self._until("0")
        await self._text("40")
        await self._until("40")
        config = {
            "target_language": "es", "format": "pcm_s16le", "sample_rate_hz": RATE_HZ, "channels": CHANNELS,
        }  # fmt: skip
        payload = {"stream_id": self.stream_id, "worker_id": "slow", "config": config, "timeout_ms": 30_000}
        await self._text("42" + json.dumps(["stream:init", payload]))
        await self._until('42["stream:ready"')

    async def _until(self, prefix: str) -> None:
        """Read until a text that begins like this."""
        loop = asyncio.get_running_loop()
        while True:
            for event in self._protocol.events_received():
                if isinstance(event, Response) and event.status_code != 101:
                    raise ConnectionError(f"refused: {event.status_code}")
                text = bytes(event.data) if isinstance(event, Frame) and event.opcode is Opcode.TEXT else b""
                if text.startswith(prefix.encode()):
                    return
            self._protocol.receive_data(await loop.sock_recv(self._socket, RECEIVE_BUFFER_BYTES))
            await self._flush()

    async def _text(self, text: str) -> None:
        self._protocol.send_text(text.encode())
        await self._flush()

    async def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def _fragment(self) -> None:
        audio = {
            "format": "pcm_s16le", "sample_rate_hz": RATE_HZ, "channels": CHANNELS, "duration_ms": DURATION_MS,
            "data": {"_placeholder": True, "num": 0},
        }  # fmt: skip
        payload = {
            "fragment_id": f"{self.stream_id}-{self.sent}", "stream_id": self.stream_id,
            "sequence_number": self.sent, "timestamp": int(time.time() * 1000), "audio": audio,
        }  # fmt: skip
        await self._text("451-" + json.dumps(["fragment:data", payload]))
        self._protocol.send_binary(AUDIO)
        await self._flush()
        self.sent += 1


@dataclass(frozen=True, slots=True)
class Resident:
    """What the watched processes hold in memory, in bytes by process."""

    private: dict[str, int]
    shared: dict[str, int]

    def __sub__(self, before: "Resident") -> "Resident":
        return Resident(
            {name: size - before.private[name] for name, size in self.private.items()},
            {name: size - before.shared[name] for name, size in self.shared.items()},
        )

    @property
    def total_bytes(self) -> int:
        """Of all together; shared pages are the same ones."""
        return sum(self.private.values()) + max(self.shared.values(), default=0)


@dataclass
class Memory:
    """Resident bytes of the watched processes."""

    processes: dict[str, psutil.Process]
    peak: Resident = field(default_factory=lambda: Resident({}, {}))

    @classmethod
    def of(cls, server: RunningServer) -> "Memory":
        """Of a server's ingress and proxy."""
        return cls({name: process for name, title in WATCHED.items() for process in processes(server, title)})

    def resident(self) -> Resident:
        """Now."""
        infos = {name: process.memory_info() for name, process in self.processes.items()}
        return Resident(
            {name: info.rss - info.shared for name, info in infos.items()},
            {name: info.shared for name, info in infos.items()},
        )

    async def watch(self) -> None:
        """Keep the peak of the sum, until cancelled."""
        while True:
            now = self.resident()
            if now.total_bytes > self.peak.total_bytes:
                self.peak = now
            await asyncio.sleep(SAMPLE_S)


async def reader(url: str, number: int) -> None:
    """A client that sends what a slow one does, and reads what comes of it."""
    form = {"format": "pcm_s16le", "sample_rate_hz": RATE_HZ, "channels": CHANNELS}
    fields = {f"audio__{name}": value for name, value in form.items()}
    async with Worker(url) as worker:
        await worker.init(f"reader-{number}", form, timeout_ms=30_000)
        for sent in range(WARM_FRAGMENTS):
            await worker.send(sent, AUDIO, **fields, audio__duration_ms=DURATION_MS)
            await worker.wait_results(sent + 1)


async def neighbour(url: str, stop: asyncio.Event) -> tuple[int, int]:
    """A client that reads: how many fragments it sent, and how many succeeded."""
    sent = 0
    form = {"format": "pcm_s16le", "sample_rate_hz": 16_000, "channels": 1}
    async with Worker(url) as worker:
        await worker.init("neighbour", form, timeout_ms=30_000)
        while not stop.is_set():
            fields = {f"audio__{name}": value for name, value in form.items()}
            await worker.send(sent, AUDIO[:32_000], **fields, audio__duration_ms=1000)
            sent += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), NEIGHBOUR_CADENCE_S)
        with suppress(TimeoutError):
            await worker.wait_results(sent)
        return sent, sum(result["status"] == "success" for result in worker.results)


async def measure(server: RunningServer, clients: int, seconds: float, waves: int = 1) -> dict[str, Any]:
    """Figures of one run, and what was `missed`.

    Args:
        server: with CHANGES in its configuration.
        clients: that never read, in each wave.
        seconds: how long they try to send.
        waves: of such clients, one after the other.
    """
    await asyncio.gather(*(reader(server.url, number) for number in range(clients)))
    await asyncio.sleep(SETTLE_S)
    memory = Memory.of(server)
    before = memory.resident()
    done = asyncio.Event()
    beside = asyncio.create_task(neighbour(server.url, done))
    growths: list[Resident] = []
    slow: list[SlowClient] = []
    for wave in range(waves):
        memory.peak = memory.resident()
        watch = asyncio.create_task(memory.watch())
        coming = [SlowClient(server.port, f"slow-{wave}-{number}") for number in range(clients)]
        await asyncio.gather(*(client.run(seconds) for client in coming))
        await asyncio.sleep(SETTLE_S)
        watch.cancel()
        slow += coming
        growths.append(memory.peak - before)
    done.set()
    sent, good = await beside
    growth = max(growths, key=lambda each: each.total_bytes)
    left = memory.resident() - before
    logged = server.logged().count(REASON)
    bound_bytes = round(clients * CAP_BYTES * (1 + TOLERANCE))
    turned_away = sum(client.turned_away for client in slow)
    missed = [
        *([f"{len(slow) - logged} were not closed for it"] if logged < len(slow) else []),
        *([f"{len(slow) - turned_away} could still send"] if turned_away < len(slow) else []),
        *([f"grew by {growth.total_bytes} bytes"] if growth.total_bytes > bound_bytes else []),
        *([f"the neighbour got {good} of {sent}"] if good < sent or not sent else []),
        *([f"watched only {set(memory.processes)}"] if memory.processes.keys() != WATCHED.keys() else []),
    ]
    return {
        "clients": clients,
        "waves": waves,
        "cap_bytes": CAP_BYTES,
        "bound_bytes": bound_bytes,
        "growth_bytes": growth.total_bytes,
        "growth_of_caps": round(growth.total_bytes / (clients * CAP_BYTES), 3),
        "growth_by_wave_bytes": [each.total_bytes for each in growths],
        "before_bytes": asdict(before),
        "growth_by_process_bytes": asdict(growth),
        "left_bytes": asdict(left),
        "fragments_sent": sum(client.sent for client in slow),
        "closed": logged,
        "turned_away": turned_away,
        "neighbour_sent": sent,
        "neighbour_good": good,
        "missed": missed,
    }


def main() -> None:
    """Run it on a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--waves", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        server = start(edited("echo", CHANGES, folder), folder / "server.log", {"RAY_DEDUP_LOGS": "0"})
        try:
            figures = asyncio.run(measure(server, options.clients, options.seconds, options.waves))
        finally:
            server.stop()
    table = Table("MiB", "before", "growth", "left behind", title="clients that never read")
    for kind in ("private", "shared"):
        for name in WATCHED:
            row = (figures[part][kind].get(name, 0) for part in PARTS)
            table.add_row(f"{name}, {kind}", *(f"{size / 2**20:.0f}" for size in row))
    console = Console()
    console.print(table)
    print({key: value for key, value in figures.items() if not isinstance(value, dict)})
    grown, bound = (figures[f"{part}_bytes"] / 2**20 for part in ("growth", "bound"))
    console.print(f"grew by {grown:.0f} MiB, the bound is {bound:.0f} MiB: {'holds' if grown <= bound else 'MISSED'}")
    print(f"written to {write('slow_clients', figures)}")
    sys.exit(bool(figures["missed"]))


if __name__ == "__main__":
    main()
