"""Serve's own part of the file: held against Serve's schema, and nothing in it that Serve would pass over in silence.

Serve takes files of later versions by ignoring what it doesn't know, a misspelt option too; and some values it refuses
only once everything runs.
"""

import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from serve_app.configuration.environment import meant
from serve_app.configuration.loading import ConfigError

BUILD = "serve_app.app:build"
DEPLOYMENTS = ("Ingress", "Asr", "Translation", "Tts")
MAX_PORT = 65_535
_OPEN = frozenset({"args", "user_config", "runtime_env", "policy_kwargs", "request_router_kwargs", "resources"})
"""Objects whose keys are not Serve's to name."""


def check_serve_options(schema: Mapping[str, Any]) -> None:
    """Refuse what Serve would refuse later, or ignore.

    Raises:
        ConfigError: all that is wrong in one line: where, what was given, what is allowed.
    """
    from ray.serve.config import AutoscalingConfig  # noqa: PLC0415 - heavy, and reads the environment
    from ray.serve.schema import ServeDeploySchema  # noqa: PLC0415

    wrong = [*_unknown(schema, ServeDeploySchema, ""), *_refused(schema, ServeDeploySchema, "")]
    for index, application in enumerate(schema["applications"]):
        place = f"applications.{index}"
        if isinstance(application, Mapping):
            wrong += _application(application, place)
            for number, deployment in enumerate(application.get("deployments") or []):
                scaling = deployment.get("autoscaling_config") if isinstance(deployment, Mapping) else None
                if isinstance(scaling, Mapping):
                    there = f"{place}.deployments.{number}.autoscaling_config"
                    wrong += [*_unknown(scaling, AutoscalingConfig, there)]
                    policy_apart = {name: value for name, value in scaling.items() if name != "policy"}
                    wrong += [*_refused(policy_apart, AutoscalingConfig, there)]
    wrong += _port(schema)
    if wrong:
        raise ConfigError("; ".join(dict.fromkeys(wrong)))


def _application(application: Mapping[str, Any], place: str) -> Iterator[str]:
    route = application.get("route_prefix")
    if isinstance(route, str) and not route.startswith("/"):
        yield f"{place}.route_prefix: needs to begin with /; got {route!r}"
    path = application.get("import_path")
    if not isinstance(path, str):
        return
    if path.startswith("serve_app.") and path != BUILD:
        yield f"{place}.import_path: there is only {BUILD}; got {path!r}"
    elif not _importable(path):
        yield f"{place}.import_path: there is no such module; needs {BUILD}; got {path!r}"
    seen: set[str] = set()
    for index, deployment in enumerate(application.get("deployments") or []):
        name = deployment.get("name") if isinstance(deployment, Mapping) else None
        if not isinstance(name, str):
            continue
        if path == BUILD and name not in DEPLOYMENTS:
            hint, allowed = meant(name, DEPLOYMENTS), ", ".join(DEPLOYMENTS)
            yield f"{place}.deployments.{index}.name: no such deployment{hint}; allowed: {allowed}; got {name!r}"
        if name in seen:
            yield f"{place}.deployments.{index}.name: {name} is there twice"
        seen.add(name)


def _importable(path: str) -> bool:
    module = path.partition(":")[0] if ":" in path else path.rpartition(".")[0]
    try:
        return not module or importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _port(schema: Mapping[str, Any]) -> Iterator[str]:
    http = schema.get("http_options")
    port = http.get("port") if isinstance(http, Mapping) else None
    if isinstance(port, int) and not 1 <= port <= MAX_PORT:
        yield f"http_options.port: needs a number from 1 to {MAX_PORT}; got {port}"


def _unknown(given: object, model: type[BaseModel], place: str) -> Iterator[str]:
    """Keys that the model doesn't have, at any depth."""
    if not isinstance(given, Mapping):
        return
    fields = model.model_fields
    for key, value in given.items():
        path = f"{place}.{key}" if place else str(key)
        if key not in fields:
            allowed = ", ".join(fields)
            yield f"{path}: no such option{meant(str(key), fields)}; allowed: {allowed}; got {_shown(value)}"
        elif key not in _OPEN:
            places = {f"{path}.{i}": item for i, item in enumerate(value)} if isinstance(value, list) else {path: value}
            for inner in [*_models(fields[key].annotation)][:1]:
                for there, item in places.items():
                    yield from _unknown(item, inner, there)


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _refused(given: object, model: type[BaseModel], place: str) -> Iterator[str]:
    """What the model says, an entry for each place."""
    try:
        model.model_validate(given)
    except ValidationError as error:
        by_place: dict[str, list[ErrorDetails]] = {}
        for item in error.errors(include_url=False):
            if item["type"] != "extra_forbidden":  # told by `_unknown`
                by_place.setdefault(_path(item, given), []).append(item)
        for path, items in by_place.items():
            kept = [item for item in items if not item["type"].endswith("_type")] or items
            allowed = " or ".join(dict.fromkeys(map(_allowed, kept)))
            whole = kept[0]["type"] == "missing" or (kept[0]["type"] == "value_error" and _is_section(kept[0]["input"]))
            value = "" if whole else f"; got {_shown(kept[0]['input'])}"
            yield f"{'.'.join(filter(None, (place, path)))}: {allowed}{value}"
    except (ImportError, AttributeError, TypeError, ValueError) as error:  # it imports what scaling policies name
        yield f"{place or 'the file'}: {' '.join(str(error).split())}"


def _path(item: ErrorDetails, given: object) -> str:
    """Where it stands in the file; pydantic's own location goes on into the choices of a union."""
    path = []
    for part in item["loc"]:
        inside = isinstance(given, Mapping) and part in given
        within = isinstance(given, list) and isinstance(part, int) and part < len(given)
        if not inside and not within:
            if item["type"] == "missing":
                path.append(str(part))
            break
        path.append(str(part))
        given = given[part]  # type: ignore[index]
    return ".".join(path)


def _allowed(item: ErrorDetails) -> str:
    if item["type"] == "missing":
        return f"is missing; needs {BUILD}" if item["loc"][-1] == "import_path" else "is missing"
    if item["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return "needs an object"
    return " ".join(item["msg"].removeprefix("Value error, ").split()).rstrip(".")


def _is_section(value: object) -> bool:
    return isinstance(value, Mapping | list)


def _shown(value: object) -> str:
    """A whole section is not repeated, and may hold a secret."""
    if isinstance(value, Mapping):
        return "an object"
    return "a list" if isinstance(value, list) else repr(value)
