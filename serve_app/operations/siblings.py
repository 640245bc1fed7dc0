"""The other ingress replicas: of a stream that opens here they let go."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import astuple
from typing import Any, Protocol

from deployments.logs import get_logger
from serve_app.transport.registry import Opening

log = get_logger(__name__)
NUMBERED_WITHIN_S = 1.0
"""The longest that a `stream:ready` waits for the other ingress replicas."""
EPOCHS_TIMEOUT_S = 2.0
"""A replica that hangs must not keep the others from hearing for long."""
LET_GO_TIMEOUT_S = 5.0


class Openings(Protocol):
    """The streams that are open here."""

    def settle(self, stream_id: str, session_id: str, others: Iterable[int]) -> Opening | None:
        """A stream takes its number, once the others have sent theirs; None: it has ended."""

    def expel(self, opening: Opening) -> None:
        """End a stream: another replica keeps one that another subject opened before."""


class Siblings:
    """All replicas of the Ingress, this one too.

    Args:
        handle: makes the handle that reaches them; called once.
        openings: the streams of this one.
    """

    def __init__(self, handle: Callable[[], Any], openings: Openings) -> None:
        self._handle = handle
        self._openings = openings
        self._replicas: Any = None
        self._announcing: set[asyncio.Task[None]] = set()

    async def opened(self, stream_id: str, session_id: str) -> None:
        """Announce a stream; returns once it has its number: whoever opens it from then on comes after it."""
        numbered = asyncio.Event()
        announcing = asyncio.create_task(self._announce(stream_id, session_id, numbered))
        self._announcing.add(announcing)
        announcing.add_done_callback(self._announcing.discard)
        with suppress(TimeoutError):
            await asyncio.wait_for(numbered.wait(), NUMBERED_WITHIN_S)

    async def _announce(self, stream_id: str, session_id: str, numbered: asyncio.Event) -> None:
        """Ask all replicas for the stream's number, take the next one, send it round: see `epochs`."""
        others = await self._ask("epoch", stream_id, timeout_s=EPOCHS_TIMEOUT_S)
        opening = self._openings.settle(stream_id, session_id, others)
        numbered.set()
        if opening is None:
            return
        let_go = await self._ask("let_go", *astuple(opening), timeout_s=LET_GO_TIMEOUT_S)
        if not all(let_go):
            self._openings.expel(opening)

    async def _ask(self, method: str, stream_id: str, *args: object, timeout_s: float) -> list[int]:
        """What the replicas answer, this one too; those that can't are left out."""
        try:
            self._replicas = self._replicas or self._handle()
            asked = self._replicas.broadcast(method, stream_id, *args)
            answers = await asyncio.wait_for(asked.results_async(return_exceptions=True), timeout_s)
        except Exception as error:  # noqa: BLE001 - the stream is open here whatever Ray raises
            answers = [error]
        errors = [answer for answer in answers if isinstance(answer, BaseException)]
        if errors:
            error_text = f"{type(errors[0]).__name__}: {errors[0]}"[:500]
            log.warning("replicas_not_told", stream_id=stream_id, question=method, error=error_text)
        return [answer for answer in answers if isinstance(answer, int)]
