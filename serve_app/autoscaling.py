"""The scaling of model deployments as Ray Serve's controller calls it. What it decides stands in `replica.scaling`.

A deployment's `autoscaling_config` names it, with ScalingOptions as `policy_kwargs`:

    policy: {policy_function: "serve_app.autoscaling:FragmentPolicy", policy_kwargs: {target_ms: 2000}}

Bounds, delays and the length of a look back are Serve's own options beside it.
"""

import logging
from collections.abc import Mapping
from typing import Any

from ray.serve._private.constants import SERVE_LOGGER_NAME
from ray.serve.config import AutoscalingContext

from deployments.replica.scaling import Load, ReplicaLoad, ScalingOptions, replicas_wanted, scaling_options


class FragmentPolicy:
    """Scales on fragments that compute or wait, against a time that they should take.

    Serve's controller makes one of it for each deployment, from a copy of this class and not by import.

    A wrong option is logged, and the number of replicas then stays as it is: an exception here would stop the
    controller from deploying anything, and say nowhere why. `livedub check` and `livedub serve` refuse it before.

    Args:
        options: fields of ScalingOptions.
    """

    def __init__(self, **options: object) -> None:
        self._options: ScalingOptions | None = None
        try:
            self._options = scaling_options(options)
        except ValueError as error:
            logging.getLogger(SERVE_LOGGER_NAME).error("policy_kwargs refused, nothing is scaled: %s", error)  # noqa: TRY400

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """The replicas wanted now, and no state to keep: Serve does the delays."""
        if self._options is None:
            return context.target_num_replicas, {}
        load = Load(context.total_num_requests, _replicas(context.aggregated_metrics or {}))
        return replicas_wanted(load, self._options, context.current_num_replicas, context.target_num_replicas), {}


def _replicas(metrics: Mapping[str, Mapping[Any, float]]) -> tuple[ReplicaLoad, ...]:
    computing_ms = metrics.get("computing_ms", {})
    slots = metrics.get("slots", {})
    return tuple(
        ReplicaLoad(busy, max(1, round(slots.get(replica, 1.0))), computing_ms.get(replica))
        for replica, busy in metrics.get("busy", {}).items()
    )
