"""What counts as winning, and that a rival that wins is seen to."""

import pytest

from bench.baselines import BUSY, HANDLER, OURS, THREADS, judged, judged_saturated, raced
from bench.pacing import Phase, Plan, Sent, Used
from bench.rivals import Server

PLAN = Plan((0.0,), 1.0, 0.0, 3.0)


def phases(latency_ms, ack_ms):
    return [Phase(PLAN, [Sent(0.0, ack_ms, latency_ms)], Used(1.0, 0.0, 0.0, 1.0, 0.0))]


def found(streams, ours=(500.0, 10.0), handler=(900.0, 400.0), threads=(700.0, 20.0)):
    rivals = {OURS: phases(*ours), HANDLER: phases(*handler), THREADS: phases(*threads)}
    return {target.what.rsplit(",", 1)[0]: target for target in judged(streams, rivals)}


def test_a_lone_stream_is_compared_with_the_handler_by_what_it_pays_more():
    assert found(1, ours=(560.0, 10.0), handler=(500.0, 1.0))["p50 above that in the handler"].met
    assert not found(1, ours=(561.0, 10.0), handler=(500.0, 1.0))["p50 above that in the handler"].met


def test_busy_servers_are_compared_by_p95_and_by_their_acknowledgements():
    targets = found(BUSY)
    assert len(targets) == 5
    assert all(target.met for target in targets.values())


@pytest.mark.parametrize(
    ("slower", "missed"),
    [
        ({"threads": (499.0, 20.0)}, "p95 over that in threads"),
        ({"handler": (499.0, 400.0)}, "p95 over that in the handler"),
        ({"threads": (700.0, 9.0)}, "ack p99 over that in threads"),
        ({"ours": (500.0, 51.0)}, "ack p99"),
    ],
)
def test_where_a_rival_is_better_the_target_is_missed_and_says_why(slower, missed):
    target = found(BUSY, **slower)[missed]
    assert not target.met
    assert target.because


def test_saturated_the_service_has_to_do_as_much_as_either_server():
    rows = {OURS: {"done_per_s": 2.0}, HANDLER: {"done_per_s": 1.5}, THREADS: {"done_per_s": 2.1}}
    assert [target.met for target in judged_saturated(rows)] == [True, False]


def test_rivals_take_turns_there_and_back_and_the_others_are_bystanders():
    asked = []

    class Recording:
        def measure(self, url, pid, plan, bystanders):
            asked.append((url, sorted(bystanders)))
            return url

    servers = {OURS: Server("a", 1), HANDLER: Server("b", 2), THREADS: Server("c", 3)}
    phases = raced(servers, Recording(), PLAN, 2)
    assert [url for url, _ in asked] == ["a", "b", "c", "c", "b", "a"]
    assert asked[1] == ("b", [1, 3])
    assert phases == {OURS: ["a", "a"], HANDLER: ["b", "b"], THREADS: ["c", "c"]}
