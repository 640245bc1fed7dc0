"""A worker whose connection is written down as a history that `tests.oracle.history` can judge."""

import time
from dataclasses import dataclass, field
from typing import Any

from tests.oracle.history import Record, record
from tests.support.worker import Worker


@dataclass
class RecordedWorker(Worker):
    """Everything it sends, before it is sent, and everything it receives, as it comes.

    Workers may share a `history`; their `connection` tells their records apart.
    """

    connection: str = "connection"
    history: list[Record] = field(default_factory=list)

    async def emit(self, event: str, data: Any) -> None:
        self._note("sent", event, data)
        await super().emit(event, data)

    async def _on_event(self, event: str, data: Any = None) -> None:
        self._note("received", event, data)
        await super()._on_event(event, data)

    async def _on_disconnect(self, *reasons: object) -> None:
        self._note("received", "disconnect", {})
        await super()._on_disconnect(*reasons)

    def _note(self, direction: str, event: str, data: object) -> None:
        self.history.append(record(time.monotonic(), self.connection, direction, event, data))
