"""The processes of a running server, found by the names that Ray gives them."""

import asyncio
import signal

import psutil

from tests.support.server import RunningServer
from tests.support.speed import seconds

STARTED_WITHIN_S = 60


def processes(server: RunningServer, name: str) -> list[psutil.Process]:
    """Those whose name holds `name`: an actor's class, or `ServeReplica:livedub:<deployment>`."""
    found = []
    for process in psutil.Process(server.process.pid).children(recursive=True):
        try:
            if f"ray::{name}" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def replicas(server: RunningServer, deployment: str) -> list[psutil.Process]:
    return processes(server, f"ServeReplica:livedub:{deployment}")


async def standing(server: RunningServer, deployment: str, count: int) -> set[int]:
    """The process ids of a deployment's replicas, once there are so many."""
    async with asyncio.timeout(seconds(STARTED_WITHIN_S)):
        while len(found := await asyncio.to_thread(replicas, server, deployment)) != count:
            await asyncio.sleep(0.2)
    return {process.pid for process in found}


def kill(process: psutil.Process) -> None:
    """As the kernel's out-of-memory killer would: without a word."""
    process.send_signal(signal.SIGKILL)


async def logged(server: RunningServer, event: str) -> list[str]:
    """The log lines of an event, once there is one; Ray brings them with some delay."""
    async with asyncio.timeout(seconds(STARTED_WITHIN_S)):
        while not (found := [line for line in server.logged().splitlines() if f'"event": "{event}"' in line]):
            await asyncio.sleep(0.2)
    return found
