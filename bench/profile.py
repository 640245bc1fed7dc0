"""Where the service's processes spend CPU time: `python -m bench.profile [--load echo|fast|neural] [--seconds 20]`.

Starts the service itself, has streams send one fragment after the other, and has py-spy look into the ingress, the
proxy and the models' replicas meanwhile. Prints for each process its CPU time for a fragment, and which packages,
functions and threads it went to. docs/profile.md tells what was found.
"""

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
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
ROWS = 12
FRAME = re.compile(r"(?P<function>.+?) \((?P<file>[^()]*?)(?::(?P<line>\d+))?\)$")
DEEP = ("ray", "serve_app", "deployments")
"""Whose parts are told apart."""
Stacks = list[tuple[list[str], int]]


@dataclass(frozen=True, slots=True)
class Profile:
    """Of one process."""

    all_ms: float
    """CPU time a fragment."""
    packages: list[tuple[str, float]]
    """Of the time in which the interpreter's lock is held: percent by package of the innermost frame, the most first.

    Who holds it counts while waiting for a core, too: where cores are scarce these are shares and no times.
    """
    functions: list[tuple[str, float]]
    threads: list[tuple[str, float]]
    """CPU time a fragment in ms by the kernel's name of the thread; models, codecs and Ray need no interpreter."""


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


def spent(found: Stacks) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """Percent by package and by function of the innermost frames, the most first; C code counts for what called it."""
    total = sum(count for _, count in found)
    packages: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for frames, count in found:
        packages[package(frames[-1])] += count
        functions[re.sub(r":\d+\)$", ")", frames[-1])] += count
    most = [[(name, 100 * n / total) for name, n in one.most_common(ROWS)] for one in (packages, functions)]
    return most[0], most[1]


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
    before_s, first = {name: _threads_s(process) for name, process in watched.items()}, len(done)
    spying = {name: _spy(process.pid, folder / name, seconds) for name, process in watched.items()}
    await asyncio.sleep(seconds)
    after_s, fragments = {name: _threads_s(process) for name, process in watched.items()}, max(1, len(done) - first)
    await asyncio.gather(*(asyncio.to_thread(spy.wait, seconds * 3) for spy in spying.values()))
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    told: dict[str, Profile] = {}
    for name in watched:
        seen = stacks((folder / name).read_text(encoding="utf-8"))
        threads: dict[str, float] = defaultdict(float)
        for (thread, title), ended_s in after_s[name].items():
            threads[title] += (ended_s - before_s[name].get((thread, title), 0.0)) * 1000 / fragments
        most = sorted(((title, ms) for title, ms in threads.items() if ms), key=lambda row: -row[1])
        told[name] = Profile(sum(threads.values()), *spent(seen), most[:ROWS])
    return told


def _threads_s(process: psutil.Process) -> dict[tuple[int, str], float]:
    """CPU seconds by thread and its name."""
    found = {}
    for thread in process.threads():
        with suppress(OSError):
            title = Path(f"/proc/{process.pid}/task/{thread.id}/comm").read_text(encoding="utf-8").strip()
            found[thread.id, title] = thread.user_time + thread.system_time
    return found


def _spy(pid: int, path: Path, seconds: float) -> "subprocess.Popen[bytes]":
    command = [str(SPY), "record", "--gil", "--nonblocking", "--format", "raw", "--output", str(path)]
    command += ["--pid", f"{pid}", "--rate", f"{RATE_HZ}", "--duration", f"{seconds:.0f}"]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdout=quiet, stderr=quiet)  # nosec B603 - py-spy of this environment


def show(found: dict[str, Profile]) -> None:
    """A table a process."""
    for name, one in found.items():
        title = f"{name}: {one.all_ms:.1f} ms of CPU a fragment"
        table = Table("%", "package, with the lock", "%", "function", "ms", "thread", title=title)
        for row in zip_longest(one.packages, one.functions, one.threads, fillvalue=None):
            table.add_row(*(cell for part in row for cell in ((f"{part[1]:.1f}", part[0]) if part else ("", ""))))
        Console(width=160).print(table)


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
