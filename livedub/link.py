"""The stream's tie to the server: a connection on which it is open, made anew when it breaks.

It knows the handshake, by which the server answers an opening event with a certain other one, and nothing of what
follows.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from livedub.change_signal import ChangeSignal
from livedub.connection import ServerConnection
from livedub.errors import ConnectFailed, DubError, InitRefused, StreamFailed
from livedub.timeouts import Timeouts
from serve_app.protocol import ClientEvent, ErrorCode, ErrorEvent, ServerEvent

_log = logging.getLogger("livedub.client")
R = TypeVar("R", bound=ServerEvent)


class Link(Generic[R]):
    """Connects, opens the stream, and does both again after a loss.

    Args:
        answer: what the server says once the stream is open.
        urls: where the server can be reached; the next one is tried where one fails, and kept while it works.
        token: for the handshake, if any.
        timeouts: how long to try.
        on_event: called with name and payload of each event of an open stream.
        on_lost: called when an open stream loses its connection; `reopen` is the caller's business.
    """

    def __init__(
        self,
        answer: type[R],
        urls: Sequence[str],
        token: str | None,
        timeouts: Timeouts,
        on_event: Callable[[str, Any], None],
        on_lost: Callable[[], None],
    ) -> None:
        self.lost: str | None = None
        """Why there is no connection, when there was one."""
        self._answering = answer
        self._urls = deque(urls)
        self._token = token
        self._timeouts = timeouts
        self._on_event = on_event
        self._on_lost = on_lost
        self._connection: ServerConnection | None = None
        self._generation = 0
        self._changed = ChangeSignal()
        self._ready: R | None = None
        self._refusal: InitRefused | None = None

    async def open(self, init: ClientEvent) -> R:
        """One try at each address to connect and to open the stream.

        Raises:
            ConnectFailed: no connection, or no answer in time, at the last of them.
            InitRefused: the server doesn't take the stream.
        """
        for _ in range(len(self._urls) - 1):
            try:
                return await self._open(init)
            except (ConnectFailed, InitRefused) as failure:
                if _final(failure):
                    raise
                _log.warning("address failed, trying the next one: %s", failure)
                self._urls.rotate(-1)
        try:
            return await self._open(init)
        except (ConnectFailed, InitRefused):
            self._urls.rotate(-1)
            raise

    async def _open(self, init: ClientEvent) -> R:
        await self.close()
        generation = self._generation
        self._ready = self._refusal = self.lost = None
        self._connection = connection = ServerConnection(
            self._urls[0], self._token, partial(self._received, generation), partial(self._broke, generation)
        )
        try:
            await connection.open(self._timeouts.connect_s)
            await connection.emit(init)
            return await self._answer()
        except BaseException:
            await self.close()
            raise

    async def reopen(self, init: Callable[[], ClientEvent]) -> R:
        """Open again and again, with growing delays.

        Raises:
            ConnectFailed: the handshake was refused with AUTH_FAILED.
            InitRefused: the server doesn't take the stream any more.
            StreamFailed: no success within `timeouts.reconnect_s`.
        """
        reason = self.lost
        _log.warning("connection lost, opening it again: %s", reason)
        limit_s = self._timeouts.reconnect_s
        give_up_s = time.monotonic() + limit_s
        for wait_s in self._timeouts.reconnect_waits_s(random.random):
            await asyncio.sleep(wait_s)
            try:
                return await self.open(init())
            except (ConnectFailed, InitRefused) as failure:
                if _final(failure):
                    raise
                last: DubError = failure
            if time.monotonic() >= give_up_s:
                break
        raise StreamFailed(f"The connection was lost ({reason}) and didn't come back within {limit_s:g} s. {last}")

    def drop(self, reason: str) -> None:
        """Give the connection up; it is closed when the next one opens."""
        self._broke(self._generation, reason)

    async def emit(self, event: ClientEvent) -> None:
        """Send, if there is a connection."""
        if self._connection is not None and self.lost is None:
            await self._connection.emit(event)

    async def close(self) -> None:
        """Disconnect; nothing more is reported."""
        self._generation += 1
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _answer(self) -> R:
        deadline_s = time.monotonic() + self._timeouts.connect_s
        while True:
            if self._refusal is not None:
                raise self._refusal
            if self._ready is not None:
                return self._ready
            if self.lost is not None:
                raise ConnectFailed(
                    f"{self._urls[0]} closed the connection before {self._answering.EVENT} ({self.lost})"
                )
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise ConnectFailed(
                    f"{self._urls[0]} sent no {self._answering.EVENT} within {self._timeouts.connect_s:g} s: "
                    "see the server's log"
                )
            await self._changed.wait(left_s)

    def _broke(self, generation: int, reason: str = "") -> None:
        if generation != self._generation or self.lost is not None:
            return
        self.lost = reason or "no reason given"
        self._changed.beat()
        if self._ready is not None:
            self._on_lost()

    def _received(self, generation: int, name: str, payload: object) -> None:
        if generation != self._generation or self.lost is not None:
            return
        if self._ready is not None:
            self._on_event(name, payload)
            return
        try:
            if name == self._answering.EVENT:
                self._ready = self._answering.model_validate(payload, strict=False)
            elif name == ErrorEvent.EVENT:
                error = ErrorEvent.model_validate(payload, strict=False)
                if error.severity != "warning":
                    self._refusal = InitRefused(
                        error.message, error.code, retryable=error.retryable, details=error.details
                    )
        except ValidationError as error:
            self._refusal = InitRefused(f"{name} doesn't follow the protocol: {error}", "", retryable=False)
        self._changed.beat()


def _final(failure: ConnectFailed | InitRefused) -> bool:
    """Whether another try, here or elsewhere, would end the same way."""
    return failure.code == ErrorCode.AUTH_FAILED or (isinstance(failure, InitRefused) and not failure.retryable)
