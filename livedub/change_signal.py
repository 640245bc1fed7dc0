"""Waking everyone who waits for something to have changed. Knows nothing of what changed."""

import asyncio
import contextlib


class ChangeSignal:
    """A heartbeat: waiters look again after each beat."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def beat(self) -> None:
        """Wake all who wait now."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, timeout_s: float) -> None:
        """Until the next beat, or for `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(timeout_s, 0.0)):
                await self._event.wait()
