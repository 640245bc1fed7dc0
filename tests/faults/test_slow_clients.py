"""Clients that never read: the ingress gives each of them up with a reason, and a client beside misses nothing."""

from bench.slow_clients import CHANGES, measure

CLIENTS = 4
SENDING_S = 15.0


async def test_clients_that_never_read_are_given_up_and_their_neighbour_misses_nothing(serve):
    server = serve("echo", CHANGES, environ={"RAY_DEDUP_LOGS": "0"})
    figures = await measure(server, CLIENTS, SENDING_S)
    assert figures["closed"] == CLIENTS
    assert figures["neighbour_good"] == figures["neighbour_sent"] > 0
