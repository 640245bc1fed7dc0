"""Ray nodes die under live streams, one after the other: what is lost, and how long workers are away.

A head node and two others, with one replica of everything on two of the three; each node that is killed (all its
processes at once, without a word) is followed by a new one, as an autoscaler would bring it. The workers know the
proxies of the nodes that there are at the start and go on at the next one when theirs is gone. Every connection is
recorded and judged by tests.oracle.history.

Prints a table, leaves bench/results/nodes.json, and ends with 1 when a target is missed.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.live_streams import LiveStream, Story, tally
from bench.report import write
from tests.oracle.history import Rules, judge, save
from tests.support.nodes import Node, Nodes
from tests.support.server import edited

DEPLOYMENTS = ("Ingress", "Asr", "Translation", "Tts")
CHANGES: dict[str, Any] = {
    "args.asr.delay_ms": 300,
    "args.translation.delay_ms": 50,
    "args.tts.delay_ms": 700,
    **{f"deployments.{name}.num_replicas": 2 for name in DEPLOYMENTS},
    **{f"deployments.{name}.max_replicas_per_node": 1 for name in DEPLOYMENTS},
}
STREAMS, CADENCE_S = 6, 3.0
KILL_EVERY_S = 45.0
BEFORE_S = 15.0
SUCCESS_TARGET, OUTAGE_TARGET_S = 0.995, 5.0
TOLERANCE_S = 1.0
POLL_S = 0.1


async def kill_nodes(nodes: Nodes, kills: int) -> list[dict[str, Any]]:
    """Kill the node with most replicas, the head aside, again and again; how long until there are as many as before."""
    told = []
    for _ in range(kills):
        await asyncio.sleep(BEFORE_S)
        victim = max(nodes.nodes[1:], key=lambda node: sum(len(node.replicas(name)) for name in DEPLOYMENTS))
        lost = {name: len(victim.replicas(name)) for name in DEPLOYMENTS}
        before = {name: len(nodes.replicas(name)) for name in DEPLOYMENTS}
        await asyncio.to_thread(victim.kill)
        killed_s = time.monotonic()
        nodes.nodes.remove(victim)
        await asyncio.to_thread(nodes.add)
        full_s = await full_again(nodes, before, killed_s)
        told.append({"replicas_lost": lost, "full_again_s": full_s})
        await asyncio.sleep(max(0.0, killed_s + KILL_EVERY_S - BEFORE_S - time.monotonic()))
    return told


async def full_again(nodes: Nodes, before: dict[str, int], killed_s: float) -> float | None:
    """Seconds until there are as many replicas as before; None: not within the time until the next kill."""
    while time.monotonic() < killed_s + KILL_EVERY_S - BEFORE_S:
        now = await asyncio.to_thread(lambda: {name: len(nodes.replicas(name)) for name in DEPLOYMENTS})
        if all(now[name] >= count for name, count in before.items()):
            return round(time.monotonic() - killed_s, 1)
        await asyncio.sleep(POLL_S)
    return None


async def measure(nodes: Nodes, kills: int, folder: Path) -> dict[str, Any]:
    """Streams beside the kills; the figures, and `missed` targets."""
    story = Story()
    story.listen()
    serving = [node for node in nodes.nodes if node.replicas("Ingress")]
    streams = [LiveStream(addresses(nodes, serving[n % len(serving)]), f"node-{n}", CADENCE_S) for n in range(STREAMS)]
    seconds = kills * KILL_EVERY_S + BEFORE_S
    async with asyncio.TaskGroup() as group:
        for n, stream in enumerate(streams):
            group.create_task(stream.run(seconds, n * CADENCE_S / STREAMS))
        killed = await kill_nodes(nodes, kills)
    found = tally(streams)
    violations = judge(story.records, replace(Rules(), tolerance_s=TOLERANCE_S))
    save(story.records, folder / "nodes.jsonl")
    outage_p95_s = round(float(np.percentile(found.outages_s, 95)), 2) if found.outages_s else 0.0
    missed = [
        *(f"{word}: {n}" for word, n in (("lost", found.lost), ("duplicated", found.duplicated)) if n),
        *([f"reordered: {found.reordered}"] if found.reordered else []),
        *([f"success in the end {found.good} of {found.sent}"] if found.good < SUCCESS_TARGET * found.sent else []),
        *([f"workers back after {outage_p95_s} s at p95"] if outage_p95_s > OUTAGE_TARGET_S else []),
        *([f"{len(violations)} violations: {violations[0]}"] if violations else []),
        *([] if found.outages_s else ["no worker lost its node"]),
        *found.broken,
    ]
    figures = asdict(found) | {"outages_s": len(found.outages_s), "outage_p95_s": outage_p95_s}
    return {"streams": STREAMS, "killed": killed, **figures, "violations": len(violations), "missed": missed}


def addresses(nodes: Nodes, first: Node) -> list[str]:
    """All nodes' proxies, this node's first."""
    return [first.url, *(node.url for node in nodes.nodes if node is not first)]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=2, help="nodes to kill, one after the other")
    parser.add_argument("--keep", type=Path, help="folder for the recorded history and the server's log")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made, Nodes() as nodes:
        folder = options.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        for _ in range(2):
            nodes.add()
        nodes.serve(edited("fakes", CHANGES, folder), folder / "server.log")
        for name in DEPLOYMENTS:
            nodes.wait_for(name, 2)
        for node in nodes.nodes:
            if node.replicas("Ingress"):
                nodes.wait_for_proxy(node)
        print(f"{len(nodes.nodes)} nodes, ready; to kill: {options.kills}", flush=True)
        figures = asyncio.run(measure(nodes, options.kills, folder))
    table = Table("", "nodes killed", title="what came of it")
    for row, value in figures.items():
        table.add_row(row, str(value))
    Console(width=int(os.environ.get("COLUMNS", "150"))).print(table)
    print(f"written to {write('nodes', figures)}")
    sys.exit(bool(figures["missed"]))


if __name__ == "__main__":
    main()
