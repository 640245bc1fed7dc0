"""How many replicas a model deployment needs, from its fragments and how long they compute. PURE."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, ValidationError

_ROUNDING = 1e-9
"""What arithmetic may add to a whole number of replicas without asking for one more."""


class ScalingOptions(BaseModel):
    """What the scaling of a deployment aims at."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    target_ms: int = Field(default=2000, ge=50, le=30_000)
    """The longest that a fragment should be with this deployment, its wait and its computing together."""
    target_busy: float = Field(default=0.7, ge=0.1, le=0.95)
    """The share of their time that replicas should compute; the rest is room for streams that come."""
    shrink_below: float = Field(default=0.75, ge=0.1, le=0.95)
    """Replicas leave when those that stay would be below this share of both targets."""


def scaling_options(given: Mapping[str, object]) -> ScalingOptions:
    """The options as a configuration gives them.

    Raises:
        ValueError: naming the option, what was given and what is allowed.
    """
    try:
        return ScalingOptions.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ValueError(f"{name}: no such option; allowed: {', '.join(ScalingOptions.model_fields)}") from None
        raise ValueError(f"{name}: {first['msg']}; got {first['input']!r}") from None


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """What one replica tells of itself."""

    busy: float
    """Share of its slots' time that was spent computing, 0 to 1."""
    slots: int
    """Calls that may compute at once."""
    computing_ms: float | None
    """Of one slot for one fragment; None: it has computed none yet."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a deployment has to do, over the same stretch of time."""

    fragments: float
    """Queued or running, at all its replicas and on the way to them."""
    replicas: tuple[ReplicaLoad, ...]
    """Of those that have told anything yet."""


def replicas_wanted(load: Load, options: ScalingOptions, running: int, target: int) -> int:
    """The number of replicas with which both targets are met; the caller applies the bounds.

    Two things are asked for: that what is queued now is done within `target_ms`, and that replicas compute no more
    than `target_busy` of the time. The second counts where a queue can't be seen or is held back in front of the
    deployment: replicas that never pause ask for more whatever waits.

    Args:
        load: of the last seconds.
        options: the targets.
        running: replicas that take calls.
        target: replicas asked for before, those that still load included.
    """
    if not load.replicas:
        return target
    grown = _needed(load, options, 1.0)
    if grown >= target:
        return grown
    computing = sum(replica.busy for replica in load.replicas)
    if computing >= options.target_busy * running:  # full, and those that were asked for are not here yet
        return target
    return min(target, _needed(load, options, options.shrink_below))


def _needed(load: Load, options: ScalingOptions, share: float) -> int:
    """Replicas with which no more than this share of the targets is used."""
    to_sustain = sum(replica.busy for replica in load.replicas) / (options.target_busy * share)
    measured = [replica for replica in load.replicas if replica.computing_ms is not None]
    to_catch_up = 0.0
    if measured:
        # A target below what one fragment computes is met by no number of replicas.
        longest_ms = max(replica.computing_ms or 0.0 for replica in measured)
        within_ms = max(options.target_ms * share, longest_ms)
        every_ms = sum((replica.computing_ms or 0.0) / replica.slots for replica in measured) / len(measured)
        to_catch_up = load.fragments * every_ms / within_ms
    return max(1, math.ceil(max(to_sustain, to_catch_up) - _ROUNDING))
