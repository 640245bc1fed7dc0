"""Where the service's processes spend CPU time: `python -m bench.profile [--load echo|fast|neural] [--seconds 20]`.

Starts the service itself, has streams send one fragment after the other, and has py-spy look into the ingress, the
proxy and the models' replicas meanwhile. Prints for each process its CPU time for a fragment, and which packages and
functions it went to. docs/profile.md tells what was found.
"""

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from tests.support import clips
from tests.support.processes import processes
from tests.support.server import RunningServer, edited, start
from tests.support.worker import Worker

SPY = Path(sys.executable).parent / "py-spy"
RATE_HZ = 200
FRAGMENT_MS = 6000
WARM_S = 3.0
LOADS: dict[str, tuple[str, dict[str, Any], int]] = {
    "echo": ("echo", {}, 8),
    "fast": ("local", {"args.tts": {"engine": "espeak"}}, 4),
    "neural": ("local", {}, 2),
}
"""The configuration, what is changed in it, and the streams."""
PROCESSES = {
    "ingress": "ServeReplica:livedub:Ingress",
    "proxy": "ProxyActor",
    "Asr": "ServeReplica:livedub:Asr",
    "Translation": "ServeReplica:livedub:Translation",
    "Tts": "ServeReplica:livedub:Tts",
}
FUNCTIONS = 12
FRAME = re.compile(r"(?P<function>.+?) \((?P<file>[^()]*?)(?::(?P<line>\d+))?\)$")
DEEP = ("ray", "serve_app", "deployments")
"""Whose parts are told apart."""
Stacks = list[tuple[list[str], int]]


@dataclass(frozen=True, slots=True)
class Profile:
    """Of one process."""

    cpu_ms_a_fragment: float
    seen_percent: float
    """Of the CPU time while py-spy looked: how much its samples account for."""
    packages: list[tuple[str, float]]
    """Share of the samples in which it computes, 0 to 1."""
    functions: list[tuple[str, float]]


def stacks(raw: str) -> Stacks:
    """Frames, outermost first, and samples of each line of py-spy's raw format."""
    parted = (line.rpartition(" ") for line in raw.splitlines() if line.strip())
    return [(frames.split(";"), int(count)) for frames, _, count in parted]


def package(frame: str) -> str:
    """Whose code a frame is: the folder below site-packages, ours by its folder, else the module."""
    if (found := FRAME.match(frame)) is None:
        return "native"
    parts = Path(found["file"]).parts
    if "site-packages" in parts:
        parts = parts[parts.index("site-packages") + 1 :]
    return ".".join(parts[:2]).removesuffix(".py") if parts[0] in DEEP else parts[0].removesuffix(".py")


def shares(found: Stacks) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """By package and by function of the innermost frames, the largest first; C code counts for what called it."""
    total = sum(count for _, count in found) or 1
    packages: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for frames, count in found:
        packages[package(frames[-1])] += count
        functions[re.sub(r":\d+\)$", ")", frames[-1])] += count
    return _ordered(packages, total), _ordered(functions, total)


def _ordered(counts: Counter[str], total: int) -> list[tuple[str, float]]:
    return [(name, count / total) for name, count in counts.most_common(FUNCTIONS)]


async def stream(url: str, name: str, done: list[float]) -> None:
    """One fragment after the other, until cancelled."""
    fragments = clips.adts_fragments(FRAGMENT_MS)
    async with Worker(url) as worker:
        await worker.init(name, timeout_ms=30_000)
        for number in range(1_000_000):
            await worker.send(number, fragments[number % len(fragments)])
            await worker.wait_results(1, 60)
            worker.events.clear()
            done.append(time.monotonic())


async def profiles(server: RunningServer, streams: int, seconds: float, folder: Path) -> dict[str, Profile]:
    """Profiles by process, of so many seconds under so many streams."""
    done: list[float] = []
    running = [asyncio.create_task(stream(server.url, f"profiled-{n}", done)) for n in range(streams)]
    while len(done) < streams:
        await asyncio.sleep(0.1)
        for task in running:
            if task.done():
                task.result()
    await asyncio.sleep(WARM_S)
    watched = {name: found[0] for name, title in PROCESSES.items() if (found := processes(server, title))}
    before_s, first = _cpu_s(watched), len(done)
    await asyncio.sleep(seconds)
    alone_s, fragments = _cpu_s(watched), len(done) - first
    spying = {name: _spy(process.pid, folder / name, seconds) for name, process in watched.items()}
    await asyncio.gather(*(asyncio.to_thread(spy.wait, seconds * 3) for spy in spying.values()))
    spied_s = _cpu_s(watched)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    told: dict[str, Profile] = {}
    for name in watched:
        seen = stacks((folder / name).read_text(encoding="utf-8"))
        seen_s = sum(count for _, count in seen) / RATE_HZ
        told[name] = Profile(
            (alone_s[name] - before_s[name]) * 1000 / max(1, fragments),
            100 * seen_s / max(0.01, spied_s[name] - alone_s[name]),
            *shares(seen),
        )
    return told


def _cpu_s(watched: dict[str, psutil.Process]) -> dict[str, float]:
    return {name: sum(process.cpu_times()[:2]) for name, process in watched.items()}


def _spy(pid: int, path: Path, seconds: float) -> "subprocess.Popen[bytes]":
    command = [str(SPY), "record", "--nonblocking", "--format", "raw", "--output", str(path)]
    command += ["--pid", f"{pid}", "--rate", f"{RATE_HZ}", "--duration", f"{seconds:.0f}"]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdout=quiet, stderr=quiet)  # nosec B603 - py-spy of this environment


def show(found: dict[str, Profile]) -> None:
    """A table a process."""
    for name, one in found.items():
        title = f"{name}: {one.cpu_ms_a_fragment:.1f} ms of CPU a fragment; py-spy saw {one.seen_percent:.0f} % of it"
        table = Table("%", "package", "%", "function", title=title)
        for left, right in _beside(one.packages, one.functions):
            table.add_row(*left, *right)
        Console(width=140).print(table)


def _beside(
    packages: list[tuple[str, float]], functions: list[tuple[str, float]]
) -> Iterable[tuple[tuple[str, str], tuple[str, str]]]:
    for row in range(max(len(packages), len(functions))):
        yield _cells(packages, row), _cells(functions, row)


def _cells(shares_: list[tuple[str, float]], row: int) -> tuple[str, str]:
    return (f"{shares_[row][1] * 100:.1f}", shares_[row][0]) if row < len(shares_) else ("", "")


def main() -> None:
    """Profile one configuration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", choices=LOADS, default="echo", help="no models, espeak-ng or Kokoro as the voice")
    parser.add_argument("--seconds", type=float, default=20.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        config, changes, streams = LOADS[asked.load]
        server = start(edited(config, changes, Path(made)), Path(made) / "server.log")
        try:
            show(asyncio.run(profiles(server, streams, asked.seconds, Path(made))))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
