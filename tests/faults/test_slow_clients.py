"""Clients that never read: each is given up within its cap and cut off, and a client beside misses nothing."""

from bench.slow_clients import CHANGES, measure

CLIENTS = 20
SENDING_S = 25.0
"""At most: they stop when nothing is taken from them any more."""


async def test_clients_that_never_read_are_given_up_within_their_caps_and_their_neighbour_misses_nothing(serve):
    server = serve("echo", CHANGES, environ={"RAY_DEDUP_LOGS": "0"})
    figures = await measure(server, CLIENTS, SENDING_S)
    assert figures["closed"] == CLIENTS
    assert figures["turned_away"] == CLIENTS
    assert figures["growth_bytes"] <= figures["bound_bytes"], figures
    assert figures["neighbour_good"] == figures["neighbour_sent"] > 0
