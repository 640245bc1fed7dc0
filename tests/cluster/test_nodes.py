"""One service on two Ray nodes: one truth from either, and no fragment lost with a node."""

import asyncio
import time
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.nodes import Node, Nodes
from tests.support.server import edited
from tests.support.speed import seconds
from tests.support.streaming import Streaming

DEPLOYMENTS = ("Ingress", "Asr", "Translation", "Tts")
ONE_A_NODE = {
    f"deployments.{name}.{field}": n
    for name in DEPLOYMENTS
    for field, n in (("num_replicas", 2), ("max_replicas_per_node", 1))
}
EXPORTED_WITHIN_S = 20
FRAGMENTS_DONE, STREAMS_OPEN = "sts_fragment_processing_seconds_count", "sts_streams_active"
FRAGMENTS = 6
SEEN_BEFORE, SEEN_AFTER = 3, 4


@pytest.fixture(scope="module")
def nodes(tmp_path_factory) -> Iterator[Nodes]:
    """Two nodes, each with a proxy and a replica of everything."""
    folder = tmp_path_factory.mktemp("cluster")
    with Nodes() as nodes:
        other = nodes.add(wait=False)  # it starts while the service does
        nodes.serve(edited("fakes", ONE_A_NODE, folder), folder / "server.log")
        for node in (nodes.head, other):
            for name in DEPLOYMENTS:
                nodes.wait_for(name, 1, node)
            nodes.wait_for_proxy(node)
        yield nodes


async def stream(streams: list[Streaming], results: int) -> None:
    """Stream until each has so many results, and end."""
    async with asyncio.timeout(seconds(60)), asyncio.TaskGroup() as running:
        for one in streams:
            running.create_task(one.run())
        await until(streams, {one.client.stream_id: results for one in streams})
        for one in streams:
            one.stop.set()


async def until(streams: list[Streaming], results: dict[str, int]) -> None:
    while any(len(one.results) < results[one.client.stream_id] for one in streams):
        await asyncio.sleep(0.05)


async def told(node: Node) -> dict[str, float]:
    """What /metrics says there of fragments and open streams."""
    async with httpx.AsyncClient(trust_env=False) as http:
        text = (await http.get(f"{node.url}/metrics", timeout=10)).text
    totals: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in (FRAGMENTS_DONE, STREAMS_OPEN):
                totals[sample.name] = totals.get(sample.name, 0) + sample.value
    return totals


async def test_either_node_tells_the_numbers_of_both_and_none_twice(nodes: Nodes) -> None:
    streams = [Streaming(node.url, f"told-{n}-{k}") for k, node in enumerate(nodes.nodes) for n in range(2)]
    await stream(streams, FRAGMENTS)

    truth = {FRAGMENTS_DONE: float(sum(len(one.sent) for one in streams)), STREAMS_OPEN: 0.0}
    give_up_s = time.monotonic() + seconds(EXPORTED_WITHIN_S)
    while [await told(node) for node in nodes.nodes] != [truth, truth] and time.monotonic() < give_up_s:
        await asyncio.sleep(0.2)
    await asyncio.sleep(1.5)  # what would be counted twice would have been exported once more by now
    assert [await told(node) for node in nodes.nodes] == [truth, truth]


async def test_streams_go_on_elsewhere_when_their_node_dies(nodes: Nodes) -> None:
    head, other = nodes.nodes
    moved = [Streaming([other.url, head.url], f"moved-{n}") for n in range(2)]
    stayed = [Streaming([head.url, other.url], f"stayed-{n}") for n in range(2)]
    streams = moved + stayed

    async with asyncio.timeout(seconds(90)), asyncio.TaskGroup() as running:
        for one in streams:
            running.create_task(one.run())
        await until(streams, {one.client.stream_id: SEEN_BEFORE for one in streams})
        await asyncio.to_thread(other.kill)
        while not all(one.client.reconnects for one in moved):
            await asyncio.sleep(0.05)
        await until(streams, {one.client.stream_id: len(one.results) + SEEN_AFTER for one in streams})
        for one in streams:
            one.stop.set()

    for one in streams:
        one.assert_nothing_was_lost()
    assert [one.client.reconnects for one in stayed] == [0, 0]
