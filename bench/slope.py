"""The slope of noisy measurements over time, which outliers and steps don't pull: Theil and Sen's."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

MIN_POINTS = 4


@dataclass(frozen=True, slots=True)
class Slope:
    """Change of a value an hour."""

    per_hour: float
    """The median of the slopes between any two points."""
    low: float
    high: float
    """The bounds of its confidence interval; too near where neighbouring points depend on each other."""


def slope(times_s: Sequence[float], values: Sequence[float], confidence: float = 0.95) -> Slope | None:
    """The slope through these points, or None where fewer than four are too few for an interval.

    Args:
        times_s: seconds, no two alike.
        values: in any unit.
        confidence: of the interval, which is Sen's: by the ranks of the slopes.
    """
    n = len(times_s)
    if n < MIN_POINTS:
        return None
    earlier, later = np.triu_indices(n, 1)
    times, measured = np.asarray(times_s, float), np.asarray(values, float)
    slopes = np.sort((measured[later] - measured[earlier]) / (times[later] - times[earlier])) * 3600
    spread = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    below = max(0, math.floor((len(slopes) - spread) / 2) - 1)
    above = min(len(slopes) - 1, math.ceil((len(slopes) + spread) / 2))
    return Slope(float(np.median(slopes)), float(slopes[below]), float(slopes[above]))
