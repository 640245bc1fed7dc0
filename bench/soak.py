"""Memory over time: `python -m bench.soak [--minutes 30]`.

A real server with fake models. Streams come and go all the time, each under an id of its own: whole ones by DubClient,
and bare workers that disconnect half way, take streams over, resend, and send what is refused. Prints how the memory of
each kind of process of the service moved once it was warm, with the robust slope, and how many series /metrics had;
leaves bench/results/soak.json. Ends with 1 when a fragment lost its result, when a series came whose label is from no
closed set, or when what the streams should have seen did not come.
"""

import argparse
import asyncio
import re
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from bench.crowd import EXPECTED, Crowd
from bench.report import write
from bench.slope import slope
from tests.support.series import Series, series, strangers
from tests.support.server import RunningServer, edited, start

SAMPLE_S, SERIES_EVERY_S = 5.0, 30.0
WARM_S = 600.0
"""Of a run of half an hour or more; a third of a shorter one. What a process needs for good is taken by then."""
EDGE_SAMPLES = 6
"""Whose median stands for the start and for the end."""
MIB = 2**20
ACTOR = re.compile(r"ray::(?:ServeReplica:livedub:)?(\w+)")
RAY_SERVERS = ("gcs_server", "raylet")
EVERYTHING = "all together"


def kind_of(process: psutil.Process, server: RunningServer) -> str:
    """What a process is, so that its successor counts as the same."""
    if process.pid == server.process.pid:
        return "livedub serve"
    command = " ".join(process.cmdline())
    if "deployments.audio.decode_worker" in command:
        return "decoders"
    actor = ACTOR.search(command)
    name = process.name()
    return actor[1] if actor else name if name in RAY_SERVERS else "Ray's own"


def resident(server: RunningServer) -> dict[str, int]:
    """Bytes by kind of process, shared memory counted in each."""
    found: dict[str, int] = defaultdict(int)
    root = psutil.Process(server.process.pid)
    for process in (root, *root.children(recursive=True)):
        with suppress(psutil.Error):
            found[kind_of(process, server)] += process.memory_info().rss
    found[EVERYTHING] = sum(found.values())
    return dict(found)


@dataclass
class Watch:
    """What was seen of the service, by seconds since the beginning."""

    server: RunningServer
    memory: list[tuple[float, dict[str, int]]] = field(default_factory=list)
    scrapes: list[tuple[float, frozenset[Series]]] = field(default_factory=list)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        started_s = time.monotonic()
        async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
            while True:
                at_s = time.monotonic() - started_s
                self.memory.append((at_s, await asyncio.to_thread(resident, self.server)))
                if at_s >= len(self.scrapes) * SERIES_EVERY_S:
                    with suppress(httpx.HTTPError):
                        text = (await http.get(f"{self.server.url}/metrics")).raise_for_status().text
                        self.scrapes.append((at_s, series(text)))
                await asyncio.sleep(SAMPLE_S)

    def rows(self, warm_s: float) -> dict[str, dict[str, float | None]]:
        """MiB by kind of process, once warm: start, end, peak, and the slope with its interval, an hour."""
        warm = [(at_s, found) for at_s, found in self.memory if at_s >= warm_s]
        told: dict[str, dict[str, float | None]] = {}
        for kind in sorted({kind for _, found in warm for kind in found}, key=lambda kind: (kind == EVERYTHING, kind)):
            points = [(at_s, found[kind] / MIB) for at_s, found in warm if kind in found]
            values = [value for _, value in points]
            line = slope([at_s for at_s, _ in points], values)
            figures = {
                "start": statistics.median(values[:EDGE_SAMPLES]),
                "end": statistics.median(values[-EDGE_SAMPLES:]),
                "peak": max(values),
                "per_hour": line.per_hour if line else None,
                "low": line.low if line else None,
                "high": line.high if line else None,
            }
            told[kind] = {name: None if value is None else round(value, 1) for name, value in figures.items()}
        return told


async def soak(server: RunningServer, minutes: float) -> dict[str, Any]:
    """Figures of one run, and what was `missed`."""
    warm_s = min(WARM_S, minutes * 60 / 3)
    crowd = Crowd(server.url, time.monotonic() + minutes * 60)
    watch = Watch(server)
    watching = asyncio.create_task(watch.run())
    await crowd.run()
    watching.cancel()
    first = next((found for at_s, found in watch.scrapes if at_s >= warm_s), frozenset())
    last = watch.scrapes[-1][1]
    foreign = strangers(last)
    unseen = EXPECTED - set(crowd.seen)
    missed = [
        *([f"{len(crowd.lost)} streams lost results: {'; '.join(crowd.lost[:5])}"] if crowd.lost else []),
        *([f"series named by clients: {foreign[:5]}"] if foreign else []),
        *([f"never seen: {', '.join(sorted(unseen))}"] if unseen else []),
    ]
    return {
        "minutes": minutes,
        "warm_s": warm_s,
        "sample_s": SAMPLE_S,
        "streams": crowd.streams,
        "fragments_sent": crowd.sent,
        "seen": dict(crowd.seen.most_common()),
        "series_start": len(first),
        "series_end": len(last),
        "series_new": [f"{name}{dict(labels)}" for name, labels in sorted(last - first)],
        "memory_mib": watch.rows(warm_s),
        "missed": missed,
    }


def main() -> None:
    """Run it on a server of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        server = start(edited("fakes", {}, Path(made)), Path(made) / "server.log")
        try:
            figures = asyncio.run(soak(server, options.minutes))
        finally:
            server.stop()
    table = Table("MiB", "start", "end", "peak", "slope an hour", "95 %", title=f"after {figures['warm_s']:.0f} s")
    for kind, row in figures["memory_mib"].items():
        start_mib, end, peak, per_hour, low, high = row.values()
        table.add_row(kind, f"{start_mib}", f"{end}", f"{peak}", f"{per_hour}", f"{low} to {high}")
    Console(width=120).print(table)
    print({key: value for key, value in figures.items() if key != "memory_mib"})
    print(f"written to {write('soak', figures)}")
    sys.exit(bool(figures["missed"]))


if __name__ == "__main__":
    main()
