"""A child process that bytes flow through: fed and read at the same time, and ended however that goes."""

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Self, cast


class ChildFilter(ABC):
    """One child. `start` it, then `feed` it while `read` is called, and `close` it."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._ended = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @abstractmethod
    async def _launched(self) -> asyncio.subprocess.Process:
        """The child, with pipes for what it gives out, and for what it is fed unless it has a file."""

    async def start(self) -> None:
        """Start the child."""
        self._process = await self._launched()
        if self._ended:
            self.end()

    async def feed(self, data: bytes) -> None:
        """More for the child; waits while it has enough to do. One that has ended takes nothing."""
        stdin = None if self._process is None else self._process.stdin
        if stdin is None or stdin.is_closing():
            return
        try:
            stdin.write(data)
            await stdin.drain()
        except OSError:  # `read` tells why nothing is taken
            stdin.close()

    def end(self) -> None:
        """No more comes; one that has not started yet ends at once when it does."""
        self._ended = True
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    async def close(self) -> None:
        """End the child, whatever it does."""
        process = self._process
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    @property
    def _running(self) -> asyncio.subprocess.Process:
        return cast("asyncio.subprocess.Process", self._process)

    @property
    def _stdout(self) -> asyncio.StreamReader:
        return cast("asyncio.StreamReader", self._running.stdout)
