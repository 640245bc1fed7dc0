"""Time to ready, memory by process and by connection, and the way back after a kill.

`python -m bench.startup [--quick]`. Starts the service itself, one after the other, on loopback.

- start: configs/local.yaml several times, from the command to a /ready that says yes, in parts; the memory of each kind
  of process then (PSS: what several share is split among them), and the Tts replica killed once a start.
- recovery: configs/fakes.yaml; model replica, ingress and proxy killed in turn, each under a worker.
- connections: up to 500 that hold an open stream and send nothing.
"""

import argparse
import asyncio
import json
import re
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from bench import idle_connections, recovery, report
from bench.foreign import ForeignLoad
from bench.report import Target, judge, median, plot, write
from bench.soak import kind_of
from tests.support import clips
from tests.support.server import RunningServer, edited, start

FRAGMENT_MS, DEADLINE_MS, TIMEOUT_MS = 6000, 8000, 30_000
SETTLE_S, WATCH_S = 2.0, 0.02
SPEAKING_S = 1.5
"""After so long a fragment of real speech is in Tts."""
INGRESS_TARGET_S, CONNECTION_TARGET_KIB = 3.0, 307.0
MIB = 2**20
PARTS: dict[str, Callable[[str], bool]] = {
    "Python and the configuration": lambda line: "starting Ray" in line,
    "Ray and Serve": lambda line: "waiting for " in line,
}
"""What a start begins with, and the line of the log that ends each part."""
REST = "replicas and their models"
"""Until /ready says yes."""
LOADED = re.compile(r'"event": "(asr|translation|tts)_loaded"')


class LogTimes(threading.Thread):
    """When each part of a start ended, by the lines of the log as they come."""

    def __init__(self, log: Path) -> None:
        super().__init__(daemon=True)
        self._log = log
        self._started_s = time.monotonic()
        self.ended_s: dict[str, float] = {}
        self.stop = threading.Event()

    def run(self) -> None:
        """Look until stopped."""
        while not self.stop.wait(WATCH_S):
            self.look()

    def look(self) -> None:
        """Once."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines() if self._log.exists() else []
        for part, ends in PARTS.items():
            if part not in self.ended_s and any(map(ends, lines)):
                self.ended_s[part] = time.monotonic() - self._started_s

    def ready(self) -> dict[str, float]:
        """Seconds of each part, and of all: it is ready now."""
        all_s = time.monotonic() - self._started_s
        self.stop.set()
        ends = [*(self.ended_s.get(part, all_s) for part in PARTS), all_s]
        lengths = [after - before for before, after in zip([0.0, *ends], ends, strict=False)]
        return dict(zip((*PARTS, REST), lengths, strict=True)) | {"all": all_s}


def loads_s(log: str) -> dict[str, float]:
    """Seconds that each stage's model took to load, by stage; they load at the same time."""
    found = {}
    for line in log.splitlines():
        if (event := LOADED.search(line)) and (begins := line.find("{")) >= 0:
            with suppress(ValueError):
                found[event[1]] = json.loads(line[begins:])["elapsed_ms"] / 1000
    return found


def memory_mib(server: RunningServer) -> dict[str, float]:
    """Proportional share by kind of process, and of all together."""
    found: dict[str, float] = defaultdict(float)
    root = psutil.Process(server.process.pid)
    for process in (root, *root.children(recursive=True)):
        with suppress(psutil.Error):
            found[kind_of(process, server)] += process.memory_full_info().pss / MIB
    found["all"] = sum(found.values())
    return {name: round(size, 1) for name, size in found.items()}


def starts(folder: Path, times: int, audio: bytes) -> dict[str, Any]:
    """The real service: parts of the start, loads, memory, and Tts killed."""
    parts, loads, sizes, killed = [], [], [], []
    for number in range(times):
        log = folder / f"local-{number}.log"
        times_s = LogTimes(log)
        times_s.start()
        server = start(edited("local", {}, folder), log)
        parts.append(times_s.ready())
        try:
            time.sleep(SETTLE_S)
            loads.append(loads_s(server.logged()))
            sizes.append(memory_mib(server))
            killed.append(asyncio.run(recovery.model(server, "Tts", audio, SPEAKING_S, TIMEOUT_MS)))
        finally:
            server.stop()
    return {
        "start_s": {name: median([one[name] for one in parts]) for name in parts[0]},
        "model_load_s": {name: median([one[name] for one in loads if name in one]) for name in loads[0]},
        "memory_mib": {name: median([one.get(name, 0.0) for one in sizes]) for name in sizes[0]},
        "recovery_s": {"Tts, with the neural voice": median(killed)},
    }


def faults(folder: Path, times: int, names: Sequence[str], steps: Sequence[int], audio: bytes) -> dict[str, Any]:
    """The service with fakes: idle connections, then what is named killed in turn."""
    server = start(edited("fakes", recovery.TIMINGS, folder), folder / "fakes.log")
    took_s: dict[str, list[float]] = defaultdict(list)
    try:
        connections = asyncio.run(idle_connections.growth(server, steps, audio))
        for _ in range(times):
            for name in names:
                took_s[name].append(asyncio.run(_back_after(server, name, audio)))
                time.sleep(SETTLE_S)
    finally:
        server.stop()
    return {
        "recovery_s": {name: median(values) for name, values in took_s.items()},
        "connections": connections,
        "a_connection_kib": idle_connections.a_connection_kib(connections),
    }


async def _back_after(server: RunningServer, name: str, audio: bytes) -> float:
    if name in recovery.REACHED_S:
        return await recovery.model(server, name, audio, recovery.REACHED_S[name], TIMEOUT_MS)
    return await recovery.front(server, name, audio)


def targets(found: dict[str, Any]) -> list[Target]:
    """What recovery and a connection should cost."""
    recovery_s, each_kib = found["recovery_s"], found["a_connection_kib"]
    return [
        Target(
            "from the ingress's death to a fragment that succeeds",
            recovery_s["Ingress"]["median"],
            INGRESS_TARGET_S,
            "s",
            because="Serve looks for a dead replica once a second, and a new one imports its code before it answers.",
            headline=True,
        ),
        *(
            Target(
                f"from the death of a model's only replica to a fragment that succeeds: {name}",
                recovery_s[name]["median"],
                DEADLINE_MS / 1000,
                "s",
                because="The new replica has to be started and to load its model before it answers.",
            )
            for name in recovery_s
            if name not in ("Ingress", "proxy")
        ),
        Target(
            "memory of a connection that holds a stream, ingress and proxy together",
            each_kib["together"],
            CONNECTION_TARGET_KIB,
            "KiB",
            because="Two processes hold each connection, and each keeps tasks and buffers of its own for it.",
        ),
    ]


def show(found: dict[str, Any]) -> None:
    """One table a kind of figure."""
    for title in ("start_s", "model_load_s", "memory_mib", "recovery_s"):
        table = Table("", "median", "95 %", "n", title=title)
        for name, row in found[title].items():
            table.add_row(name, f"{row['median']:.1f}", f"{row['low']:.1f} to {row['high']:.1f}", str(row["n"]))
        Console().print(table)
    print(found["connections"], found["a_connection_kib"])


def draw(found: dict[str, Any]) -> None:
    """Four pictures: start, memory, recovery, connections."""
    with plot("startup", 4, width=4.2) as (starting, memory, back, held):
        _bars(starting, found["start_s"], "time to ready, s")
        _bars(memory, found["memory_mib"], "memory once ready, MiB (PSS)")
        _bars(back, found["recovery_s"], "dubbing again after a kill, s")
        counts = [row["connections"] for row in found["connections"]]
        for name in idle_connections.HOLDERS:
            held.plot(counts, [row[f"{name}_mib"] for row in found["connections"]], marker="o", label=name)
        held.set_title("memory by idle connections, MiB")
        held.set_ylim(bottom=0)
        held.legend()


def _bars(axis: Any, rows: dict[str, dict[str, float]], title: str) -> None:
    names = [name for name in rows if name != "all"]
    axis.barh(names, [rows[name]["median"] for name in names])
    axis.invert_yaxis()
    total = f" (all: {rows['all']['median']:.4g})" if "all" in rows else ""
    axis.set_title(title + total, fontsize=9)
    axis.tick_params(labelsize=7)


def main() -> None:
    """Run everything and leave startup.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one start, few kills, 100 connections")
    quick = parser.parse_args().quick
    if quick:
        report.quick()
    load = ForeignLoad()
    audio = clips.adts_fragments(FRAGMENT_MS)[0]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        found = starts(folder, 1 if quick else 3, audio)
        steps = (50, 100) if quick else (100, 250, 500)
        names = ("Asr", "Ingress") if quick else ("Asr", "Tts", "Ingress", "proxy")
        broken = faults(folder, 1 if quick else 3, names, steps, audio)
    found["recovery_s"] |= broken.pop("recovery_s")
    found |= broken | {"foreign_percent": load.percent()}
    show(found)
    judged = targets(found)
    judge(judged)
    draw(found)
    print(f"written to {write('startup', found, judged)}")


if __name__ == "__main__":
    main()
