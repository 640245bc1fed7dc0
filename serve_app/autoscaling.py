"""The scaling of model deployments as Ray Serve's controller calls it. What is decided stands in `deployments.scaling`.

A deployment's `autoscaling_config` names it, with ScalingOptions as `policy_kwargs`:

    policy: {policy_function: "serve_app.autoscaling:FragmentPolicy", policy_kwargs: {target_ms: 2000}}

Bounds, delays and the length of a look back are Serve's own options beside it.
"""

from collections.abc import Mapping
from typing import Any

from ray.serve.config import AutoscalingContext

from deployments.scaling import Load, ReplicaLoad, replicas_wanted, scaling_options


class FragmentPolicy:
    """Scales on fragments that compute or wait, against a time that they should take.

    Serve's controller makes one of it for each deployment, from a copy of this class and not by import.

    Args:
        options: fields of ScalingOptions.

    Raises:
        ValueError: naming the option, what was given and what is allowed.
    """

    def __init__(self, **options: object) -> None:
        self._options = scaling_options(options)

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """The replicas wanted now, and no state to keep: Serve does the delays."""
        load = Load(context.total_num_requests, _replicas(context.aggregated_metrics or {}))
        return replicas_wanted(load, self._options, context.current_num_replicas, context.target_num_replicas), {}


def _replicas(metrics: Mapping[str, Mapping[Any, float]]) -> tuple[ReplicaLoad, ...]:
    computing_ms = metrics.get("computing_ms", {})
    slots = metrics.get("slots", {})
    return tuple(
        ReplicaLoad(busy, max(1, round(slots.get(replica, 1.0))), computing_ms.get(replica))
        for replica, busy in metrics.get("busy", {}).items()
    )
