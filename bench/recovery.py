"""How long nothing is dubbed after a process was killed: from the kill to the next result that is a success."""

import asyncio
import time
from itertools import count
from typing import Any

from tests.support.processes import kill, processes
from tests.support.server import RunningServer
from tests.support.worker import Worker

COMPUTING_MS = 300
TIMINGS = {"args.asr.delay_ms": COMPUTING_MS, "args.translation.delay_ms": 0, "args.tts.delay_ms": COMPUTING_MS}
"""Of fakes that take a while, so that the kill finds a fragment in its stage."""
REACHED_S = {"Asr": COMPUTING_MS / 2000, "Tts": COMPUTING_MS * 1.5 / 1000}
"""After so long a fragment is in the middle of this stage of theirs."""
PROCESSES = {
    "Asr": "ServeReplica:livedub:Asr",
    "Tts": "ServeReplica:livedub:Tts",
    "Ingress": "ServeReplica:livedub:Ingress",
    "proxy": "ProxyActor",
}
GIVE_UP_S = 60.0
TRY_S = 10.0
PAUSE_S = 0.05


async def model(server: RunningServer, name: str, audio: bytes, reached_s: float, timeout_ms: int) -> float:
    """Seconds without the only replica of a model, on a connection that stays; one fragment is in it when it dies."""
    async with asyncio.timeout(GIVE_UP_S), Worker(server.url) as worker:
        await worker.init(_stream(name), timeout_ms=timeout_ms)
        await _result(worker, 0, audio)
        caught = await worker.send(1, audio)
        await asyncio.sleep(reached_s)
        killed_s = await _kill(server, name)
        result = await worker.wait(lambda: worker.result(caught), GIVE_UP_S)
        numbers = count(2)
        while result["status"] == "failed":
            await asyncio.sleep(PAUSE_S)
            result = await _result(worker, next(numbers), audio)
        return time.monotonic() - killed_s


async def front(server: RunningServer, name: str, audio: bytes) -> float:
    """Seconds without what holds the connections, for a worker that comes back as soon as it is let in."""
    async with Worker(server.url) as worker:
        await worker.init(_stream(name))
        await _result(worker, 0, audio)
        killed_s = await _kill(server, name)
        await worker.wait(lambda: worker.disconnects, GIVE_UP_S)
    while time.monotonic() < killed_s + GIVE_UP_S:
        if await _served(Worker(server.url), name, audio):
            return time.monotonic() - killed_s
        await asyncio.sleep(PAUSE_S)
    raise TimeoutError(f"no fragment succeeded within {GIVE_UP_S} s of the death of {name}")


async def _served(worker: Worker, name: str, audio: bytes) -> bool:
    """Whether a fragment succeeds on a new connection."""
    try:
        async with asyncio.timeout(TRY_S), worker:
            await worker.init(_stream(name))
            result = await _result(worker, 0, audio)
            return bool(result["status"] != "failed")
    except Exception:  # noqa: BLE001 - whatever a server says that isn't back yet
        if worker.sio.eio.http is not None:  # which the library leaves open when it can't connect
            await worker.sio.eio.http.close()
        return False


async def _result(worker: Worker, number: int, audio: bytes) -> dict[str, Any]:
    fragment = await worker.send(number, audio)
    return dict(await worker.wait(lambda: worker.result(fragment), GIVE_UP_S))


async def _kill(server: RunningServer, name: str) -> float:
    """Kill the one process of this kind; when."""
    [process] = await asyncio.to_thread(processes, server, PROCESSES[name])
    kill(process)
    return time.monotonic()


def _stream(name: str) -> str:
    return f"{name}-{time.monotonic_ns()}"
