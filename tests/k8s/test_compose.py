"""The compose file, without an engine: read by a parser of the Compose Specification, and held to our rules."""

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from compose_spec import PyOptions

from serve_app.cli.commands import serve
from serve_app.configuration.loading import load_args, load_user_config
from tests.support.dockerfiles import parse
from tests.support.server import PROJECT

FOLDER = PROJECT / "k8s"
TEXT = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
PUBLIC = {"livedub"}
"""Services that other machines may reach."""
SECRET = re.compile(r"KEY|SECRET|PASSWORD|TOKEN")
Service = dict[str, Any]


def refused(text: str) -> str:
    """Why a text is no compose file; empty when it is one."""
    try:
        PyOptions(apply_merge=True).from_yaml(text).validate()
    except ValueError as error:
        return str(error)
    return ""


def mounts(service: Service) -> list[list[str]]:
    """[source, target, mode], each as it is written."""
    return [mount.split(":") for mount in service.get("volumes", ())]


def _confined(_: str, service: Service) -> bool:
    opened = {"privileged", "network_mode", "pid", "ipc", "devices", "cap_add"} & set(service)
    closed = service.get("read_only") is True and service.get("cap_drop") == ["ALL"]
    return closed and not opened and service.get("security_opt") == ["no-new-privileges:true"]


def _out_of_reach(name: str, service: Service) -> bool:
    return name in PUBLIC or all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def _bounded(_: str, service: Service) -> bool:
    limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
    kept = service.get("logging", {}).get("options", {})
    return {"cpus", "memory", "pids"} <= set(limits) and {"max-size", "max-file"} <= set(kept)


def _watched(_: str, service: Service) -> bool:
    if "build" in service:
        text = (PROJECT / service["build"]["dockerfile"]).read_text(encoding="utf-8")
        return bool(parse(text).of("HEALTHCHECK"))
    check = service.get("healthcheck", {})
    return check.get("test", [""])[0] == "CMD" and {"interval", "timeout", "retries"} <= set(check)


def _pinned(_: str, service: Service) -> bool:
    """By a version, and with no host of a registry before the name."""
    return re.fullmatch(r"[a-z-]+(/[a-z-]+)?:(v?\d+\.\d+\.\d+|cpu)", service.get("image", "")) is not None


def _no_secrets(_: str, service: Service) -> bool:
    values = {name: value for name, value in service.get("environment", {}).items() if SECRET.search(name)}
    return all(value is None or str(value).startswith("${") for value in values.values())


def _host_files_are_read_only(_: str, service: Service) -> bool:
    return all(mount[2:] == ["ro"] for mount in mounts(service) if mount[0].startswith((".", "/")))


def _not_root(_: str, service: Service) -> bool:
    if "build" in service:
        text = (PROJECT / service["build"]["dockerfile"]).read_text(encoding="utf-8")
        return not parse(text).of("USER")[-1].startswith("0")
    return re.match(r"[1-9]\d*:", service.get("user", "")) is not None


RULES: dict[str, tuple[Callable[[str, Service], bool], Callable[[Service], object]]] = {
    "confined": (_confined, lambda service: service.update(read_only=False)),
    "with all capabilities": (_confined, lambda service: service.update(cap_add=["SYS_ADMIN"])),
    "out of reach": (_out_of_reach, lambda service: service.update(ports=["9090:9090"])),
    "bounded": (_bounded, lambda service: service["deploy"]["resources"]["limits"].pop("memory")),
    "watched": (_watched, lambda service: service.pop("healthcheck")),
    "pinned": (_pinned, lambda service: service.update(image="registry.example/prometheus:latest")),
    "no secrets": (_no_secrets, lambda service: service.update(environment={"GF_SECURITY_ADMIN_PASSWORD": "admin"})),
    "read-only files": (_host_files_are_read_only, lambda service: service.update(volumes=["./monitoring:/etc/x"])),
    "not root": (_not_root, lambda service: service.pop("user")),
}
"""Rule by name, and what breaks it in the service `prometheus`."""


def test_it_is_a_compose_file():
    assert refused(TEXT) == ""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("read_only: true", "read_onlyy: true"),
        ("interval: 15s", "interval: 15 parsecs"),
        ('["127.0.0.1:9090:9090"]', '["127.0.0.1:ninety:9090"]'),
        ("condition: service_healthy", "condition: service_happy"),
        ("memory: 4g", "memory: much"),
        ("    stop_grace_period: 60s", "    networks: [nowhere]"),
    ],
)
def test_a_wrong_one_is_refused(old, new):
    assert old in TEXT
    assert refused(TEXT.replace(old, new, 1))


@pytest.mark.parametrize("rule", RULES)
def test_every_service_keeps_to_our_rules(rule):
    holds, _ = RULES[rule]
    assert [name for name, service in COMPOSE["services"].items() if not holds(name, service)] == []


@pytest.mark.parametrize("rule", RULES)
def test_our_rules_find_what_breaks_them(rule):
    holds, plant = RULES[rule]
    service = copy.deepcopy(COMPOSE["services"]["prometheus"])
    plant(service)
    assert not holds("prometheus", service)


def test_mounted_files_and_volumes_are_there():
    for service in COMPOSE["services"].values():
        for source, *_ in mounts(service):
            assert (FOLDER / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], source


def test_the_build_finds_its_files():
    build = COMPOSE["services"]["livedub"]["build"]
    assert (FOLDER / build["context"]).resolve() == PROJECT
    assert (PROJECT / build["dockerfile"]).is_file()


def test_streams_have_their_time_before_the_engine_kills():
    default_s = serve.__kwdefaults__["drain_timeout_s"]
    grace = COMPOSE["services"]["livedub"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) >= default_s + 20  # what Serve and Ray take to stop, twice what was measured


def test_the_parts_find_each_other():
    """The files of k8s/monitoring name hosts, ports and folders; here they have to be."""
    services = COMPOSE["services"]
    prometheus = yaml.safe_load((FOLDER / "monitoring/prometheus.yaml").read_text(encoding="utf-8"))
    targets = [t for job in prometheus["scrape_configs"] for group in job["static_configs"] for t in group["targets"]]
    assert targets == ["livedub:8000"]
    assert services["livedub"]["ports"] == ["8000:8000"]
    mounted = {target: source for source, target, *_ in mounts(services["prometheus"])}
    assert {f"/etc/prometheus/{name}" for name in prometheus["rule_files"]} <= set(mounted)
    datasource, dashboards = (
        yaml.safe_load(next((FOLDER / "monitoring/grafana/provisioning" / kind).glob("*.yaml")).read_text("utf-8"))
        for kind in ("datasources", "dashboards")
    )
    assert [source["url"] for source in datasource["datasources"]] == ["http://prometheus:9090"]
    folders = {provider["options"]["path"] for provider in dashboards["providers"]}
    assert folders <= {target for _, target, *_ in mounts(services["grafana"])}


def test_the_example_of_an_environment_names_what_the_file_takes():
    example = (FOLDER / ".env.example").read_text(encoding="utf-8")
    named = set(re.findall(r"^#?([A-Z][A-Z_]+)=", example, re.MULTILINE))
    passed = {name for name, value in COMPOSE["services"]["livedub"]["environment"].items() if value is None}
    substituted = set(re.findall(r"\$\{([A-Z_]+)", TEXT))
    assert named == passed | substituted


def test_the_example_holds_values_that_are_accepted_and_no_secret_that_would_work():
    example = (FOLDER / ".env.example").read_text(encoding="utf-8")
    values = dict(re.findall(r"^#?([A-Z][A-Z_]+)=(.*)$", example, re.MULTILINE))
    assert values["GRAFANA_PASSWORD"] == values["DEEPL_API_KEY"] == values["LIVEDUB_AUTH__JWT_SECRET"] == ""
    given = {name: value for name, value in values.items() if value} | {"DEEPL_API_KEY": "key"}
    schema = yaml.safe_load((PROJECT / "configs/local.yaml").read_text(encoding="utf-8"))
    config = load_args(schema["applications"][0]["args"], given)
    assert (config.tts.engine, config.translation.engine) == ("espeak", "deepl")
    assert load_user_config({}, given).streams.timeout_ms == int(values["LIVEDUB_STREAMS__TIMEOUT_MS"])


def test_git_ignores_the_file_with_the_secrets():
    assert "k8s/.env" in (PROJECT / ".gitignore").read_text(encoding="utf-8").splitlines()
