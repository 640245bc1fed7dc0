"""A replica learns from the controller's lists that it is being stopped."""

import pytest
from ray.serve._private.common import ReplicaState

from serve_app.operations.replica_status import MISSING_LIMIT, Census, ReplicaStatus, census, count_nodes


def listed(**states: str) -> dict:
    replicas = [{"replica_id": name, "state": state} for name, state in states.items()]
    return {"applications": {"livedub": {"deployments": {"Ingress": {"replicas": replicas}}}}}


@pytest.fixture
def standing():
    return ReplicaStatus("livedub", "Ingress", "own")


@pytest.mark.parametrize("state", ["STARTING", "UPDATING", "RECOVERING", "RUNNING", "PENDING_MIGRATION"])
def test_a_replica_that_serve_wants_goes_on(standing, state):
    """A change of `user_config` makes it UPDATING for a moment, a restarted controller RECOVERING."""
    assert not any(standing.read(listed(own=state, other="STOPPING")) for _ in range(MISSING_LIMIT + 1))


def test_a_replica_that_is_stopped_hears_of_it_at_once(standing):
    assert standing.read(listed(own="STOPPING", other="RUNNING"))


def test_a_replica_that_has_vanished_from_the_lists_is_let_go(standing):
    assert [standing.read(listed(other="RUNNING")) for _ in range(MISSING_LIMIT)] == [False, False, True]


def test_a_short_gap_in_the_lists_is_no_end(standing):
    answers = [standing.read(listed(**states)) for states in ({}, {}, {"own": "RUNNING"}, {}, {})]
    assert answers == [False] * 5


@pytest.mark.parametrize("details", [{}, {"applications": {}}, {"applications": {"other": {}}}])
def test_a_controller_that_knows_nothing_ends_nothing(standing, details):
    assert not any(standing.read(details) for _ in range(MISSING_LIMIT + 1))


def test_a_replica_is_never_taken_back(standing):
    standing.read(listed(own="STOPPING"))
    assert standing.read(listed(own="RUNNING"))


def test_a_census_counts_replicas_by_what_they_do():
    details = listed(a="RUNNING", b="ReplicaState.RUNNING", c="STOPPING", d="RECOVERING", e="STARTING")
    details["applications"]["livedub"]["deployments"]["Ingress"]["target_num_replicas"] = 4
    details["applications"]["livedub"]["deployments"]["Tts"] = {"target_num_replicas": 2}
    assert census(details, "livedub") == {
        "Ingress": Census({"starting": 2, "running": 2, "stopping": 1}, 4),
        "Tts": Census({"starting": 0, "running": 0, "stopping": 0}, 2),
    }


@pytest.mark.parametrize("state", list(ReplicaState))
def test_every_state_that_serve_knows_has_its_place_in_a_census(state):
    """But for a replica that is gone."""
    found = census(listed(own=state), "livedub")["Ingress"]
    assert sum(found.states.values()) == (0 if state is ReplicaState.STOPPED else 1)


@pytest.mark.parametrize("details", [{}, {"applications": {}}, {"applications": {"other": {}}}])
def test_a_controller_that_knows_nothing_counts_nothing(details):
    assert census(details, "livedub") == {}


def test_a_census_tells_the_share_of_a_gpu_and_on_how_many_nodes_replicas_are():
    details = listed(a="RUNNING", b="RUNNING", c="STARTING")
    deployment = details["applications"]["livedub"]["deployments"]["Ingress"]
    for replica, node in zip(deployment["replicas"], ("one", "two", None), strict=True):
        replica["node_id"] = node
    assert census(details, "livedub")["Ingress"].num_gpus == 0
    deployment["deployment_config"] = {"ray_actor_options": {"num_gpus": 0.5}}
    assert census(details, "livedub")["Ingress"].num_gpus == 0.5
    assert count_nodes(details, "livedub") == 2
    assert count_nodes({}, "livedub") == 1
