"""Points in time of fragments, as several processes write them down.

Each process appends to a file of its own in the folder that STAMPS names, a JSON line a stamp: fragment, point, time.
The clock is the machine's monotonic one, so stamps of several processes can be compared.
"""

import json
import os
import time
from collections import defaultdict
from pathlib import Path

STAMPS = "LIVEDUB_BENCH_STAMPS"


def stamp(fragment_id: str, point: str, at_s: float | None = None) -> None:
    """Note that a fragment is at this point, now unless told otherwise."""
    line = json.dumps([fragment_id, point, time.monotonic() if at_s is None else at_s])
    with (Path(os.environ[STAMPS]) / str(os.getpid())).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def read(folder: Path) -> dict[str, dict[str, float]]:
    """What was stamped in `folder`: by fragment, the seconds of each point."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for path in folder.iterdir():
        for line in path.read_text(encoding="utf-8").splitlines():
            fragment_id, point, at_s = json.loads(line)
            found[fragment_id][point] = at_s
    return dict(found)
