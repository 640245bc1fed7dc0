"""The configuration as it is in force, and where each value comes from.

Environment variables win over the file: LIVEDUB_<SECTION>__<FIELD>, such as LIVEDUB_ASR__MODEL. Keys of outside
services may also come from the variables that their own tools read. Old names of settings go on working.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from deployments.asr import AsrUserConfig
from deployments.logs import get_logger
from deployments.tts.voices import VoiceBook
from serve_app.configuration.environment import ENV_PREFIX, OTHER_VARIABLES, meant, own_variables
from serve_app.configuration.schema import AppConfig, IngressUserConfig
from serve_app.configuration.shipped import PROJECT_DIR

ENV_SEPARATOR = "__"
M = TypeVar("M", bound=BaseModel)
log = get_logger(__name__)


class ConfigError(ValueError):
    """The configuration can't be used; the message names the field, what was given and what is allowed."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One effective value."""

    path: str
    value: object
    origin: str
    """`default`, `file`, or the name of an environment variable."""


_LIVE = frozenset({"streams", "transcription", "limits"})
_WHOLE = ("log_level", "voices", "gpus")
_SECTIONS = {*AppConfig.model_fields, *_LIVE} - {*_WHOLE}
_SECRET_WORDS = ("auth", "key", "secret", "token", "password")
_SHOWN_CHARACTERS = 80
_KEY_VARIABLES = {("translation", "deepl"): ("DEEPL_API_KEY", "DEEPL_AUTH_KEY")}
"""Section and engine to the variables that its `api_key` may come from; the first that is set counts."""
_RENAMED = {("doors",): "access", ("fit", "carry_ms"): "overhang_ms"}
"""Settings by the names that they had once, to those that they have now."""


def load_args(args: Mapping[str, Any], environ: Mapping[str, str]) -> AppConfig:
    """The application's configuration from its `args` and the environment.

    Raises:
        ConfigError: naming the field.
    """
    merged, variables = _with_environment(args, environ, live=False)
    return _validated(AppConfig, merged, variables)


def load_user_config(user_config: Mapping[str, Any], environ: Mapping[str, str]) -> IngressUserConfig:
    """The Ingress's live configuration from its `user_config` and the environment.

    Raises:
        ConfigError: naming the field.
    """
    merged, variables = _with_environment(user_config, environ, live=True)
    return _validated(IngressUserConfig, merged, variables)


def live_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Those that win over `user_config` whenever it changes; the rest are read once."""
    prefixes = tuple(f"{ENV_PREFIX}{section.upper()}{ENV_SEPARATOR}" for section in _LIVE)
    return {name: value for name, value in environ.items() if name.startswith(prefixes)}


def load_asr_user_config(user_config: Mapping[str, Any]) -> AsrUserConfig:
    """The Asr deployment's live configuration.

    Raises:
        ConfigError: naming the field.
    """
    return _validated(AsrUserConfig, user_config, {})


def load_voices(path: str) -> VoiceBook:
    """The voice profiles.

    Raises:
        ConfigError: the file is missing or wrong.
    """
    full = Path(path) if Path(path).is_absolute() else PROJECT_DIR / path
    try:
        return VoiceBook.read(full)
    except OSError as error:
        raise ConfigError(f"voices: {full} can't be read: {error.strerror}") from None
    except ValidationError as error:
        raise ConfigError(f"voices: {full}: {_told(error, VoiceBook, {})}") from None


def effective(args: Mapping[str, Any], user_config: Mapping[str, Any], environ: Mapping[str, str]) -> list[Setting]:
    """Every value in force and where it comes from; secrets are hidden."""
    settings: list[Setting] = []
    for live, given, config in (
        (False, args, load_args(args, environ)),
        (True, user_config, load_user_config(user_config, environ)),
    ):
        merged, variables = _with_environment(given, environ, live=live)
        for path, value in _leaves(config):
            origin = variables.get(path) or ("file" if _holds(merged, path) else "default")
            settings.append(Setting(".".join(path), value, origin))
    return settings


def _with_environment(
    given: Mapping[str, Any], environ: Mapping[str, str], *, live: bool
) -> tuple[dict[str, Any], dict[tuple[str, ...], str]]:
    """What is given with the environment over it, and the variables that took part, by the paths they set."""
    merged = _overlaid(_renamed(given), _environment(environ, live=live))
    variables = {path: name for name, path in _variables(environ, live=live)}
    for (section, engine), names in _KEY_VARIABLES.items():
        path = (section, "api_key")
        name = next((name for name in names if environ.get(name)), None)
        options = merged.get(section)
        if name and path not in variables and isinstance(options, Mapping) and options.get("engine") == engine:
            merged[section] = {**options, "api_key": environ[name]}
            variables[path] = name
    return merged, variables


def _renamed(given: Mapping[str, Any], above: tuple[str, ...] = ()) -> dict[str, Any]:
    """What is given, each setting under the name that it has now.

    Raises:
        ConfigError: one is given under both names.
    """
    values: dict[str, Any] = {}
    for name, value in given.items():
        path = (*above, name)
        now = _RENAMED.get(path, name)
        if now != name:
            if now in given:
                raise ConfigError(f"{'.'.join(path)} is called {now} now, and both are given: leave the first out")
            _say_renamed(".".join(path), ".".join((*above, now)))
        values[now] = _renamed(value, path) if isinstance(value, Mapping) else value
    return values


@cache
def _say_renamed(old: str, new: str) -> None:
    """Once in each process."""
    log.warning("setting_renamed", old=old, new=new)


def _validated(model: type[M], values: Mapping[str, Any], variables: Mapping[tuple[str, ...], str]) -> M:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_told(error, model, variables)) from None


def _told(error: ValidationError, model: type[BaseModel], variables: Mapping[tuple[str, ...], str]) -> str:
    """All that is wrong, in one line: field, what is allowed, what was given, and the variable that gave it."""
    told = []
    for item in error.errors(include_url=False):
        path, section, engines = _located(item, model)
        variable = variables.get(path)
        name = ".".join(path) + (f" (from {variable})" if variable else "")
        allowed = item["msg"]
        if item["type"] == "extra_forbidden" and section is not None:
            allowed = (
                f"no such setting{meant(path[-1], section.model_fields)}; allowed: {', '.join(section.model_fields)}"
            )
        elif item["type"] == "union_tag_not_found":
            allowed = f"`engine` is missing; allowed: {', '.join(engines)}"
        told.append(": ".join(part for part in (name, allowed) if part) + _given(item, path))
    return "; ".join(told)


def _located(
    item: ErrorDetails, model: type[BaseModel]
) -> tuple[tuple[str, ...], type[BaseModel] | None, dict[str, type[BaseModel]]]:
    """The field's path as it stands in the file, the model it belongs to, and the engines to choose from there.

    Where an engine was picked, pydantic's location also names the engine; the file has no such level.
    """
    path: list[str] = []
    section: type[BaseModel] | None = model
    engines: dict[str, type[BaseModel]] = {}
    for part in map(str, item["loc"]):
        if part in engines:
            section, engines = engines[part], {}
            continue
        path.append(part)
        field = section.model_fields.get(part) if section is not None else None
        if field is not None:
            engines = _engines(field.annotation)
            inner = field.annotation
            section = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None
    return tuple(path), section, engines


def _engines(annotation: object) -> dict[str, type[BaseModel]]:
    """The options by engine of a kind's union; empty for any other type."""
    return {
        get_args(option.model_fields["engine"].annotation)[0]: option
        for option in get_args(annotation)
        if isinstance(option, type) and issubclass(option, BaseModel) and "engine" in option.model_fields
    }


def _given(item: ErrorDetails, path: tuple[str, ...]) -> str:
    """What was given, unless it is a whole section or may be a secret."""
    value = item["input"]
    secret = any(word in part for part in path for word in _SECRET_WORDS)
    if secret or item["type"] in ("missing", "json_invalid") or not isinstance(value, str | int | float | None):
        return ""
    shown = repr(value)
    return f"; got {shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + '…'}"


def _environment(environ: Mapping[str, str], *, live: bool) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, path in _variables(environ, live=live):
        place = values
        for part in path[:-1]:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{name}: {'.'.join(path[:-1])} is given as a whole by another variable")
        if path[-1] in place:
            raise ConfigError(f"{name}: {'.'.join(path)} is given by another variable, under its other name, too")
        place[path[-1]] = _parsed(name, environ[name])
    return values


def _variables(environ: Mapping[str, str], *, live: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Variables that name a value, with its path. Live sections belong to the user_config, all others to args.

    Every name must be one that somebody reads: a setting that is ignored without a word may be the one that locks the
    door.

    Raises:
        ConfigError: nobody reads it.
    """
    for name in own_variables(environ):
        given = tuple(name.removeprefix(ENV_PREFIX).lower().split(ENV_SEPARATOR))
        path = tuple(_RENAMED.get(given[: n + 1], part) for n, part in enumerate(given))
        if path != given:
            _say_renamed(name, ENV_PREFIX + ENV_SEPARATOR.join(path).upper())
        if len(path) == 1 and path[0] in _WHOLE:
            if not live:
                yield name, path
        elif len(path) == 1 or path[0] not in _SECTIONS:
            sections = (f"{ENV_PREFIX}{known.upper()}{ENV_SEPARATOR}…" for known in sorted(_SECTIONS))
            allowed = ", ".join([*OTHER_VARIABLES, *(f"{ENV_PREFIX}{known.upper()}" for known in _WHOLE), *sections])
            raise ConfigError(f"{name}: no such variable{meant(name, known_variables())}; allowed: {allowed}")
        elif (path[0] in _LIVE) == live:
            yield name, path


def known_variables() -> list[str]:
    """Names of all variables that are read here or by commands; those of lists and tables are not gone into."""
    paths = [path for model in (AppConfig, IngressUserConfig) for path in _paths(model) if len(path) > 1]
    settings = {ENV_PREFIX + ENV_SEPARATOR.join(path).upper() for path in paths if path[0] in _SECTIONS}
    return [*sorted(settings), *(f"{ENV_PREFIX}{name.upper()}" for name in _WHOLE), *OTHER_VARIABLES]


def _paths(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        inner = [kind] if isinstance(kind, type) and issubclass(kind, BaseModel) else [*_engines(kind).values()]
        for section in inner:
            yield from _paths(section, (*above, name))
        if not inner:
            yield (*above, name)


def _parsed(name: str, text: str) -> object:
    """Lists and objects are JSON; pydantic reads numbers and booleans out of plain text."""
    if text[:1] not in ("[", "{"):
        return text
    try:
        return TypeAdapter(Any).validate_json(text)
    except ValidationError as error:
        raise ConfigError(f"{name}: {error.errors(include_url=False)[0]['msg']}") from None


def _overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`. Where it names another engine, the options of the one below don't apply."""
    merged = dict(below)
    for key, value in above.items():
        lower = merged.get(key)
        if not isinstance(value, Mapping) or not isinstance(lower, Mapping):
            merged[key] = value
        elif "engine" in value and value["engine"] != lower.get("engine"):
            merged[key] = dict(value)
        else:
            merged[key] = _overlaid(lower, value)
    return merged


def _leaves(model: BaseModel, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), _shown(value)


def _shown(value: object) -> object:
    if isinstance(value, tuple):
        return [_shown(item) for item in value]
    return str(value) if isinstance(value, SecretStr) else value


def _holds(values: object, path: tuple[str, ...]) -> bool:
    for part in path:
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True
