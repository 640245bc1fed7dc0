"""A watch over what Serve's controller says of the replicas, this one too."""

import asyncio
from collections.abc import Callable
from typing import Any

from ray import serve
from ray.serve.context import _get_global_client

from deployments.logs import get_logger
from serve_app.operations.replica_status import Census, ReplicaStatus, census, count_nodes

log = get_logger(__name__)
PERIOD_S = 1.0
TIMEOUT_S = 5.0


class ControllerWatch:
    """Asks the controller until it lets go of this replica.

    Args:
        counted: called with the replicas by deployment and the number of nodes, each time.
        stopping: called once, when Serve stops this replica: it would wait for its sockets, then cut them off.
    """

    def __init__(self, counted: Callable[[dict[str, Census], int], None], stopping: Callable[[], None]) -> None:
        self._counted = counted
        self._stopping = stopping
        self._stopped = False
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to ask, unless that has begun or is over."""
        if self._watching is None or (self._watching.done() and not self._stopped):
            self._watching = asyncio.create_task(self._watch(), name="controller watch")

    async def _watch(self) -> None:
        own = serve.get_replica_context()
        status = ReplicaStatus(own.app_name, own.deployment, own.replica_tag)
        while not self._stopped:
            try:
                details = await asyncio.wait_for(_details(), TIMEOUT_S)
                self._stopped = status.read(details)
                self._counted(census(details, own.app_name), count_nodes(details, own.app_name))
            except Exception as error:  # noqa: BLE001 - a controller that restarts must not end streams
                log.warning("controller_unavailable", error=f"{type(error).__name__}: {error}"[:500])
            if not self._stopped:
                await asyncio.sleep(PERIOD_S)
        self._stopping()


async def _details() -> dict[str, Any]:
    """What the controller says of every replica: what `serve.status()` sums up, without blocking the loop."""
    client: Any = await asyncio.to_thread(_get_global_client)
    details: dict[str, Any] = await client._controller.get_serve_instance_details.remote()  # noqa: SLF001
    return details
