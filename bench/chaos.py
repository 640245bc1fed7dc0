"""Faults at prime time: `python -m bench.chaos [--minutes 5] [--only models|ingress|rollout]`.

A real server with fake models that take as long as real ones (two replicas each), live streams by DubClient, and

- models: a random model replica is killed every 15 s;
- ingress: the ingress replica is killed five times;
- rollout: the configuration is rolled out anew twice, so that every replica is replaced.

On a machine that is slower than the one on which this was made, streams send less often, disturbances come further
apart and bounds on time are wider, all by as much as it is slower (`slowness`).

Every connection is recorded and judged by tests.oracle.history. Prints a table, leaves bench/results/chaos.json, and
ends with 1 when a target is missed.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from bench.live_streams import LiveStream, Story, tally
from bench.report import write
from tests.oracle.history import Rules, judge, save
from tests.support.processes import kill, replicas
from tests.support.server import RunningServer, edited, start
from tests.support.speed import seconds as scaled
from tests.support.speed import slowness

MODELS = ("Asr", "Translation", "Tts")
TIMINGS = {"args.asr.delay_ms": 300, "args.translation.delay_ms": 50, "args.tts.delay_ms": 700}
KILL_EVERY_S = 15.0
INGRESS_KILLS = 5
ROLLOUTS = 2
ROLLOUT_EVERY_S = 40.0
STREAMS, CADENCE_S = 6, 3.0
SUCCESS_TARGET, OUTAGE_TARGET_S = 0.995, 5.0
TOLERANCE_S = 1.0
"""What a loaded machine of two cores may add between server and worker."""


Trouble = Callable[[RunningServer, float, random.Random], Awaitable[list[str]]]
"""Disturbs a server for so many seconds; returns what it did."""


async def kill_models(server: RunningServer, seconds: float, chance: random.Random) -> list[str]:
    """One random model replica every 15 s."""
    killed = []
    every_s = scaled(KILL_EVERY_S)
    for _ in range(int(seconds / every_s)):
        await asyncio.sleep(every_s)
        deployment = chance.choice(MODELS)
        standing = await asyncio.to_thread(replicas, server, deployment)
        if standing:
            kill(chance.choice(standing))
            killed.append(deployment)
    return killed


async def kill_ingress(server: RunningServer, seconds: float, _chance: random.Random) -> list[str]:
    """The ingress, INGRESS_KILLS times."""
    killed = []
    for _kill in range(INGRESS_KILLS):
        await asyncio.sleep(seconds / (INGRESS_KILLS + 1))
        for process in await asyncio.to_thread(replicas, server, "Ingress"):
            kill(process)
            killed.append("Ingress")
    return killed


def rolling(config: Path) -> Trouble:
    """ROLLOUTS new versions of this configuration, one after the other."""

    async def roll(server: RunningServer, _seconds: float, _chance: random.Random) -> list[str]:
        for generation in range(1, ROLLOUTS + 1):
            await asyncio.sleep(scaled(ROLLOUT_EVERY_S / 4))
            roll_out(server, config, generation)
            await asyncio.sleep(scaled(ROLLOUT_EVERY_S * 3 / 4))
        return ["everything"] * ROLLOUTS

    return roll


def roll_out(server: RunningServer, config: Path, generation: int) -> None:
    """Change what every replica is built with, and have `livedub serve` deploy it."""
    schema = yaml.safe_load(config.read_text(encoding="utf-8"))
    for deployment in schema["applications"][0]["deployments"]:
        deployment["ray_actor_options"] = {"num_cpus": 0.1 + 0.001 * generation}
    config.write_text(yaml.safe_dump(schema), encoding="utf-8")
    server.process.send_signal(signal.SIGHUP)


async def phase(
    name: str,
    server: RunningServer,
    seconds: float,
    trouble: Trouble,
    folder: Path,
    seed: int,
) -> dict[str, Any]:
    """Streams for so many seconds beside some trouble; the figures, and `missed` targets."""
    story = Story()
    story.listen()
    cadence_s = scaled(CADENCE_S)
    streams = [LiveStream(server.url, f"{name}-{n}", cadence_s) for n in range(STREAMS)]
    async with asyncio.TaskGroup() as group:
        for n, stream in enumerate(streams):
            group.create_task(stream.run(seconds, n * cadence_s / STREAMS))
        killed = await trouble(server, seconds, random.Random(seed))  # noqa: S311  # nosec B311 - no secret
    found = tally(streams)
    violations = judge(story.records, replace(Rules(), tolerance_s=scaled(TOLERANCE_S)))
    save(story.records, folder / f"{name}.jsonl")
    outage_p95_s = round(float(np.percentile(found.outages_s, 95)), 2) if found.outages_s else 0.0
    enough = SUCCESS_TARGET * found.sent
    missed = [
        *(f"{word}: {count}" for word, count in (("lost", found.lost), ("duplicated", found.duplicated)) if count),
        *([f"reordered: {found.reordered}"] if found.reordered else []),
        *(
            [f"success at first {found.at_first / found.sent:.2%}"]
            if name == "models" and found.at_first < enough
            else []
        ),
        *([f"success in the end {found.good / found.sent:.2%}"] if found.good < enough else []),
        *([f"clients back after {outage_p95_s} s at p95"] if outage_p95_s > scaled(OUTAGE_TARGET_S) else []),
        *([f"{len(violations)} violations: {violations[0]}"] if violations else []),
        *found.broken,
    ]
    figures = asdict(found) | {"outages_s": len(found.outages_s), "outage_p95_s": outage_p95_s}
    return {"disturbed": len(killed), **figures, "violations": len(violations), "missed": missed}


def main() -> None:
    """Run the phases, one server each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="length of the phase of dying models")
    parser.add_argument("--only", choices=("models", "ingress", "rollout"), help="one phase")
    parser.add_argument("--seed", type=int, default=1, help="which replicas die")
    parser.add_argument("--keep", type=Path, help="folder for the recorded histories and server logs")
    options = parser.parse_args()
    lengths = {
        "models": options.minutes * 60,
        "ingress": scaled(20.0) * (INGRESS_KILLS + 1),
        "rollout": scaled(ROLLOUT_EVERY_S * (ROLLOUTS + 0.5)),
    }
    figures: dict[str, Any] = {}
    about = {"streams": STREAMS, "cadence_s": round(scaled(CADENCE_S), 2), "slowness": round(slowness(), 2)}
    with tempfile.TemporaryDirectory() as made:
        folder = options.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        for name in [options.only] if options.only else list(lengths):
            print(
                f"{name}: {STREAMS} streams, each a fragment every {scaled(CADENCE_S):.3g} s, {lengths[name]:.0f} s",
                flush=True,
            )
            config = edited("fakes", TIMINGS | {f"deployments.{model}.num_replicas": 2 for model in MODELS}, folder)
            troubles: dict[str, Trouble] = {"models": kill_models, "ingress": kill_ingress, "rollout": rolling(config)}
            server = start(config, folder / f"{name}.log")
            try:
                figures[name] = asyncio.run(phase(name, server, lengths[name], troubles[name], folder, options.seed))
            finally:
                server.stop()
    show(figures)
    if not options.only:
        print(f"written to {write('chaos', about | figures)}")
    sys.exit(any(found["missed"] for found in figures.values()))


def show(figures: dict[str, Any]) -> None:
    """One column a phase."""
    table = Table("", *figures, title="what came of it")
    rows = ("disturbed", "sent", "good", "at_first", "lost", "duplicated", "reordered", "outages_s", "outage_p95_s")
    for row in (*rows, "violations", "codes", "missed"):
        table.add_row(row, *(str(found[row]) for found in figures.values()))
    Console(width=int(os.environ.get("COLUMNS", "150"))).print(table)


if __name__ == "__main__":
    main()
