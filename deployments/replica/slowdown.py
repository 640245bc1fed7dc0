"""Rehearsing a slower machine: a model's call takes so many times as long as it would."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def slowed(
    work: Callable[[], T],
    times: float,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Do the work, then wait until it has taken so many times as long; 1: not at all. Blocks its thread."""
    if times <= 1:
        return work()
    started_s = clock()
    done = work()
    sleep((times - 1) * (clock() - started_s))
    return done
