"""Whether Serve still wants a replica: judges what Serve's controller lists. PURE.

Serve tells nobody that a replica is being stopped. It takes the replica out of its routers, waits until all requests
have ended, and kills what is left after the grace period. An open WebSocket is a request that doesn't end by itself.
"""

from typing import Any

STOPPING = "STOPPING"
MISSING_LIMIT = 3
"""Lists in a row that lack a replica before it counts as let go."""


class Standing:
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
        application = (details.get("applications") or {}).get(self._application)
        if application is None or self.stopping:
            return self.stopping
        replicas = ((application.get("deployments") or {}).get(self._deployment) or {}).get("replicas") or []
        states = [str(replica["state"]) for replica in replicas if replica["replica_id"] == self._replica_id]
        self._missing = 0 if states else self._missing + 1
        self.stopping = any(state.endswith(STOPPING) for state in states) or self._missing == MISSING_LIMIT
        return self.stopping
