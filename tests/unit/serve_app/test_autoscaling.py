"""The scaling policy as Ray Serve's controller meets it."""

import logging
from types import SimpleNamespace

from ray.serve.config import AutoscalingPolicy

from serve_app.autoscaling import FragmentPolicy
from serve_app.configuration.serve_file import POLICY


def context(fragments: float, running: int, target: int, **metrics: dict[str, float]) -> SimpleNamespace:
    return SimpleNamespace(
        total_num_requests=fragments,
        aggregated_metrics=metrics or None,
        current_num_replicas=running,
        target_num_replicas=target,
    )


def test_it_decides_by_what_replicas_tell_and_what_serve_counts():
    told = {"busy": {"a": 0.9, "b": 0.8}, "computing_ms": {"a": 400, "b": 400}, "slots": {"a": 1.0, "b": 1.0}}

    assert FragmentPolicy(target_ms=2000)(context(20, 2, 2, **told)) == (4, {})
    assert FragmentPolicy(target_ms=4000)(context(20, 2, 2, **told)) == (3, {})


def test_a_replica_that_left_out_what_it_does_not_know_yet_counts_as_idle():
    told = {"busy": {"a": 0.9, "b": 0.0}, "computing_ms": {"a": 400}, "slots": {"a": 1.0}}

    assert FragmentPolicy(target_ms=2000)(context(20, 2, 2, **told)) == (4, {})


def test_it_holds_still_before_any_replica_has_told():
    assert FragmentPolicy()(context(20, 1, 3)) == (3, {})


def test_a_wrong_option_is_logged_and_scales_nothing(caplog, monkeypatch):
    """Serve's controller would log an exception ten times a second and deploy nothing more."""
    monkeypatch.setattr(logging.getLogger("ray.serve"), "propagate", True)
    policy = FragmentPolicy(target_msec=1)

    assert "target_msec: no such option; allowed: target_ms" in caplog.text
    told = {"busy": {"a": 1.0}, "computing_ms": {"a": 400}, "slots": {"a": 1.0}}
    assert policy(context(50, 1, 2, **told)) == (2, {})


def test_the_controller_gets_it_by_the_name_that_files_use():
    """Serve pickles the class by value and makes one of it in its own process."""
    policy = AutoscalingPolicy(policy_function=POLICY, policy_kwargs={"target_ms": 4000})
    copied = policy.get_policy()
    told = {"busy": {"a": 0.9}, "computing_ms": {"a": 400}, "slots": {"a": 1.0}}

    assert copied(**policy.policy_kwargs)(context(20, 1, 1, **told)) == (2, {})
