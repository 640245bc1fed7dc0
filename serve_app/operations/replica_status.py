"""What Serve's controller lists of replicas: how many there are, and whether Serve still wants a certain one. PURE.

Serve tells nobody that a replica is being stopped. It takes the replica out of its routers, waits until all requests
have ended, and kills what is left after the grace period. An open WebSocket is a request that doesn't end by itself.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

STOPPING = "STOPPING"
MISSING_LIMIT = 3
"""Lists in a row that lack a replica before it counts as let go."""

STATES = {
    "STARTING": "starting",
    "UPDATING": "starting",
    "RECOVERING": "starting",
    "RUNNING": "running",
    "PENDING_MIGRATION": "running",
    "STOPPING": "stopping",
}
"""Serve's states of a replica and what operators are told; one that is to be moved still answers."""


@dataclass(frozen=True, slots=True)
class Census:
    """The replicas of one deployment."""

    states: dict[str, int]
    """Each of `starting`, `running` and `stopping`."""
    wanted: int
    num_gpus: float = 0.0
    """Of each replica."""


def census(details: dict[str, Any], application: str) -> dict[str, Census]:
    """The replicas by deployment, by `details` in the form of Serve's `ServeInstanceDetails`.

    A controller that has just restarted may know none.
    """
    found = {}
    for name, deployment in (_deployments(details, application) or {}).items():
        replicas = deployment.get("replicas") or []
        states = Counter(STATES.get(str(replica["state"]).rpartition(".")[2]) for replica in replicas)
        told = {state: states[state] for state in dict.fromkeys(STATES.values())}
        actor = (deployment.get("deployment_config") or {}).get("ray_actor_options") or {}
        num_gpus = float(actor.get("num_gpus") or 0)
        found[name] = Census(told, int(deployment.get("target_num_replicas") or 0), num_gpus)
    return found


def count_nodes(details: dict[str, Any], application: str) -> int:
    """Nodes that have a replica of the application, by the same details; at least one."""
    deployments = (_deployments(details, application) or {}).values()
    named = {replica.get("node_id") for deployment in deployments for replica in deployment.get("replicas") or []}
    return max(1, len(named - {None}))


def _deployments(details: dict[str, Any], application: str) -> dict[str, Any] | None:
    """The application's deployments by name; None: the controller doesn't list the application."""
    listed = (details.get("applications") or {}).get(application)
    return None if listed is None else listed.get("deployments") or {}


class ReplicaStatus:
    """One replica's place in the controller's lists.

    Args:
        application: name of its application.
        deployment: name of its deployment.
        replica_id: its unique id.
    """

    def __init__(self, application: str, deployment: str, replica_id: str) -> None:
        self._application = application
        self._deployment = deployment
        self._replica_id = replica_id
        self._missing = 0
        self.stopping = False
        """Once true it stays so: Serve never takes a replica back."""

    def read(self, details: dict[str, Any]) -> bool:
        """Whether the replica is being stopped, by `details` in the form of Serve's `ServeInstanceDetails`.

        A list without the application says nothing: a controller that has just restarted knows none.
        """
        deployments = _deployments(details, self._application)
        if deployments is None or self.stopping:
            return self.stopping
        replicas = (deployments.get(self._deployment) or {}).get("replicas") or []
        states = [str(replica["state"]) for replica in replicas if replica["replica_id"] == self._replica_id]
        self._missing = 0 if states else self._missing + 1
        self.stopping = any(state.endswith(STOPPING) for state in states) or self._missing == MISSING_LIMIT
        return self.stopping
