"""How fast this machine is, so that bounds on time hold on a slow one and stay as tight as they are on a fast one."""

import statistics
import subprocess
import sys
from functools import cache

PROCESSES = 2
"""At once: the cores of the machine on which the bounds were set."""
ROUNDS = 3
REFERENCE_S = 0.09
"""What the work took there, on both cores at once, with nothing else running."""
WORK = """
import time
started_s = time.perf_counter()
sum(number * number for number in range(2_000_000))
print(time.perf_counter() - started_s)
"""


@cache
def slowness() -> float:
    """How many times as long as there things take here, as busy as the machine is; never below 1. Measured once."""
    return max(1.0, statistics.median(_round_s() for _ in range(ROUNDS)) / REFERENCE_S)


def seconds(there: float) -> float:
    """The bound here that corresponds to so many seconds there."""
    return there * slowness()


def _round_s() -> float:
    command = [sys.executable, "-I", "-S", "-c", WORK]
    working = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)]
    return max(float(process.communicate()[0]) for process in working)
