"""What a conversation on a WebSocket is made of, whatever is said on it."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from starlette.websockets import WebSocket

from serve_app.protocol import fast_json

MAX_UNSENT = 256
"""Messages that wait for the client to read; above, nothing more is read from it until it has."""


class Outbox:
    """What goes to one client, in order.

    Args:
        socket: to it.
    """

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._unsent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def put(self, message: dict[str, Any]) -> None:
        """Send a message after all others."""
        self._unsent.put_nowait(message)

    async def write(self) -> None:
        """Send what comes until this is cancelled."""
        while True:
            message = await self._unsent.get()
            await self._socket.send_text(fast_json.dumps(message))
            self._unsent.task_done()

    async def flushed(self) -> None:
        """Wait until all is sent."""
        await self._unsent.join()

    async def room(self) -> None:
        """Wait until the client has read most of it."""
        while self._unsent.qsize() > MAX_UNSENT:
            await self.flushed()


async def until_one_ends(*jobs: Coroutine[Any, Any, None]) -> None:
    """Run all, stop the others once one has ended, and raise what it raised."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
