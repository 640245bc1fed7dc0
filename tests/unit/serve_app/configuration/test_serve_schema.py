"""What Serve would refuse late, or ignore, is told at once: by field, what was given, what is allowed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.configuration.loading import ConfigError
from serve_app.configuration.serve_schema import check_serve_options
from serve_app.configuration.shipped import PROJECT_DIR

SHIPPED = [*(PROJECT_DIR / "configs").glob("*.yaml"), PROJECT_DIR / "k8s" / "base" / "prod.yaml"]
Schema = dict[str, Any]
Change = Callable[[Schema], object]


def application(**changes: object) -> Change:
    return lambda schema: schema["applications"][0].update(changes)


def asr(**changes: object) -> Change:
    return lambda schema: schema["applications"][0]["deployments"][1].update(changes)


def scaled(**autoscaling: object) -> Change:
    return asr(num_replicas=None, autoscaling_config=autoscaling)


def refusal(change: Change) -> str:
    schema = yaml.safe_load((PROJECT_DIR / "configs" / "echo.yaml").read_text(encoding="utf-8"))
    change(schema)
    with pytest.raises(ConfigError) as refused:
        check_serve_options(schema)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_file_is_as_serve_wants_it(path: Path):
    check_serve_options(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (asr(num_replicas=0), ["0.deployments.1.num_replicas: Input should be greater than 0; got 0"]),
        (asr(num_replicas="many"), ["deployments.1: ", "num_replicas", '"auto"', "many"]),
        (lambda schema: schema["applications"][0].pop("import_path"), ["0.import_path: is missing", "app:build"]),
        (application(import_path=3), ["applications.0.import_path", "string", "got 3"]),
        (application(import_path="serve_app.app:biuld"), ["there is only serve_app.app:build", "biuld"]),
        (application(import_path="no_such.module:build"), ["import_path: there is no such module", "no_such"]),
        (application(route_prefix="dub"), ["route_prefix", "/", "'dub'"]),
        (asr(max_ongoing_request=64), ["max_ongoing_request:", "(did you mean max_ongoing_requests?)", "got 64"]),
        (asr(max_ongoing_requests="x"), ["deployments.1.max_ongoing_requests", "integer", "'x'"]),
        (asr(max_queued_requests=-5), ["deployments.1: max_queued_requests must be -1"]),
        (asr(name="asr"), ["deployments.1.name: no such deployment (did you mean Asr?)", "Ingress, Asr, Trans"]),
        (asr(name="Tts"), ["deployments.3.name: Tts is there twice"]),
        (lambda schema: schema["applications"][0]["deployments"][1].pop("name"), ["1.name: is missing"]),
        (asr(ray_actor_options={"num_cpu": 1}), ["ray_actor_options.num_cpu:", "mean num_cpus?", "num_gpus"]),
        (asr(ray_actor_options={"num_cpus": -1}), ["ray_actor_options.num_cpus", "or equal to 0; got -1"]),
        (scaled(max_replica=3), ["autoscaling_config.max_replica:", "(did you mean max_replicas?)"]),
        (scaled(min_replicas="x"), ["autoscaling_config.min_replicas", "integer", "'x'"]),
        (scaled(min_replicas=4, max_replicas=3), ["autoscaling_config: max_replicas (3)", "min_replicas (4)"]),
        (scaled(policy={"policy_functio": "x"}), ["policy.policy_functio:", "mean policy_function?"]),
        (scaled(policy={"policy_function": "no_such:policy"}), ["No module named 'no_such'"]),
        (asr(ray_actor_options=2), ["ray_actor_options: needs an object; got 2"]),
        (lambda schema: schema.update(http_option={}), ["http_option:", "(did you mean http_options?)"]),
        (lambda schema: schema.update(http_options={"prt": 1}), ["http_options.prt:", "(did you mean port?)"]),
        (lambda schema: schema.update(http_options={"port": "x"}), ["http_options.port", "integer", "'x'"]),
        (lambda schema: schema.update(http_options={"port": 80000}), ["http_options.port", "65535", "80000"]),
        (lambda schema: schema.update(http_options=[1]), ["http_options: needs an object; got a list"]),
        (lambda schema: schema.update(proxy_location="here"), ["proxy_location", "'EveryNode'", "'here'"]),
        (application(deployment=[]), ["applications.0.deployment:", "(did you mean deployments?)"]),
        (application(logging_config={"encodin": "JSON"}), ["logging_config.encodin:", "mean encoding?"]),
        (lambda schema: schema["applications"].append(None), ["applications.1: needs an object; got None"]),
    ],
)
def test_a_mistake_is_told_by_field_what_was_given_and_what_is_allowed(change, told):
    message = refusal(change)
    assert all(part in message for part in told), message


def test_what_is_ours_to_name_is_not_served_to_judge():
    """Unknown keys of args, user_config and environments are somebody else's mistakes."""
    schema = yaml.safe_load((PROJECT_DIR / "configs" / "echo.yaml").read_text(encoding="utf-8"))
    schema["applications"][0]["args"]["mine"] = 1
    asr(user_config={"mine": 1}, ray_actor_options={"resources": {"mine": 1}})(schema)
    check_serve_options(schema)
