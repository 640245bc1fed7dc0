"""What a connection with an open stream that sends nothing costs the ingress and the proxy in memory."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

import psutil

from tests.support.processes import processes
from tests.support.server import RunningServer
from tests.support.worker import Worker

HOLDERS = {"ingress": "ServeReplica:livedub:Ingress", "proxy": "ProxyActor"}
AT_ONCE = 25
SETTLE_S = 2.0
KIB = 1024


async def growth(server: RunningServer, steps: Sequence[int], audio: bytes) -> list[dict[str, float]]:
    """Unshared memory by number of connections held, first with none.

    As many as the first step come and go before: what that leaves is no matter of connections held.
    """
    holders = {name: process for name, title in HOLDERS.items() for process in processes(server, title)}
    async with Worker(server.url) as worker:
        await worker.init("first")
        await worker.send(0, audio)
        await worker.wait_results(1)
    async with AsyncExitStack() as warm:
        await _connect(server.url, steps[0], "warm", warm)
    rows = [await _row(0, holders)]
    async with AsyncExitStack() as held:
        open_now = 0
        for step in steps:
            await _connect(server.url, step - open_now, f"held-{step}", held)
            open_now = step
            rows.append(await _row(step, holders))
    return rows


def a_connection_kib(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """What one costs each process: growth from none to the most that were held."""
    first, last = rows[0], rows[-1]
    each = {
        name: round((last[f"{name}_mib"] - first[f"{name}_mib"]) * KIB / last["connections"], 1) for name in HOLDERS
    }
    return each | {"together": round(sum(each.values()), 1)}


async def _connect(url: str, wanted: int, name: str, held: AsyncExitStack) -> list[Worker]:
    """So many more, a few at a time."""
    opened: list[Worker] = []
    while len(opened) < wanted:
        batch = [Worker(url) for _ in range(min(AT_ONCE, wanted - len(opened)))]
        await asyncio.gather(*(held.enter_async_context(worker) for worker in batch))
        await asyncio.gather(*(worker.init(f"{name}-{len(opened) + n}") for n, worker in enumerate(batch)))
        opened += batch
    return opened


async def _row(connections: int, holders: dict[str, psutil.Process]) -> dict[str, float]:
    await asyncio.sleep(SETTLE_S)
    sizes = {f"{name}_mib": round(process.memory_full_info().uss / KIB**2, 2) for name, process in holders.items()}
    return {"connections": connections, **sizes}
