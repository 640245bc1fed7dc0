"""The configuration: the owners' models put together, and where each value comes from.

Two files' worth of values: the application's `args` (read when it is built) and the Ingress's `user_config` (may change
while streams run). Environment variables win over both: LIVEDUB_<SECTION>__<FIELD>, such as LIVEDUB_ASR__MODEL.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, model_validator

from deployments.asr import AsrOptions
from deployments.audio.timing import FitLimits
from deployments.translation import TranslationOptions
from deployments.tts import TtsOptions
from deployments.tts.voices import VoiceBook
from serve_app.protocol import MAX_FRAGMENT_BYTES
from serve_app.stream.values import StreamLimits

ENV_PREFIX = "LIVEDUB_"
ENV_SEPARATOR = "__"
M = TypeVar("M", bound=BaseModel)
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class ConfigError(ValueError):
    """The configuration can't be used; the message names the field, what was given and what is allowed."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class IngressConfig(_Section):
    """The Socket.IO server."""

    ping_interval_s: float = Field(default=25.0, gt=0, le=300)
    ping_timeout_s: float = Field(default=10.0, gt=0, le=300)
    max_fragment_bytes: int = Field(default=MAX_FRAGMENT_BYTES, ge=1024, le=MAX_FRAGMENT_BYTES)
    """Largest decoded fragment."""
    stage_timeout_s: float = Field(default=35.0, gt=0, le=120)
    """The longest that a model deployment may take to say what it can do, or to be called ready."""


class FitConfig(_Section):
    """How dubs are fitted to their originals' duration."""

    success_percent: float = Field(default=10.0, ge=0, le=100)
    partial_percent: float = Field(default=20.0, ge=0, le=100)
    min_speed: float = Field(default=0.5, gt=0, le=1)
    max_speed: float = Field(default=2.0, ge=1, le=4)
    natural_speed: float = Field(default=0.8, gt=0, le=1)
    """A dub that is too short is slowed down to this, then padded with silence."""

    @model_validator(mode="after")
    def _ordered(self) -> "FitConfig":
        self.limits()
        return self

    def limits(self) -> FitLimits:
        """As the Tts deployment takes them."""
        return FitLimits(**self.model_dump())


class StreamsConfig(_Section):
    """Defaults and thresholds of streams; may change while they run."""

    max_inflight: int = Field(default=3, ge=1, le=10)
    """Of a stream that names none (FR-054)."""
    critical_inflight: int = Field(default=10, ge=1, le=100)
    """A fragment that would make more than this many in flight is rejected."""
    timeout_ms: int = Field(default=8000, ge=1000, le=30_000)
    """From acceptance to result, of a stream that names none (FR-055)."""
    fallback_mode: Literal["silence", "original"] = "silence"
    """What a fragment without speech comes back as (FR-056)."""
    start_wait_ms: int = Field(default=1000, ge=0, le=30_000)
    release_slack_ms: int = Field(default=250, ge=0, le=1000)
    kept_results: int = Field(default=64, ge=0, le=1024)
    kept_bytes: int = Field(default=32 * 1024 * 1024, ge=0)
    close_delay_ms: int = Field(default=5000, ge=0, le=60_000)

    def limits(self) -> StreamLimits:
        """As sessions take them."""
        return StreamLimits(**self.model_dump())


class IngressUserConfig(_Section):
    """The Ingress's `user_config`: applied without a restart."""

    streams: StreamsConfig = StreamsConfig()
    draining: bool = False
    """Take no new stream, finish what is in flight, send workers elsewhere."""


class AppConfig(_Section):
    """The application's `args`."""

    log_level: LogLevel = "INFO"
    voices: str = "configs/voices.json"
    """Path of the voice profiles; relative paths start at the project's folder."""
    ingress: IngressConfig = IngressConfig()
    fit: FitConfig = FitConfig()
    asr: AsrOptions
    translation: TranslationOptions
    tts: TtsOptions


@dataclass(frozen=True, slots=True)
class Setting:
    """One effective value."""

    path: str
    value: object
    origin: str
    """`default`, `file`, or the name of an environment variable."""


PROJECT_DIR = Path(__file__).resolve().parent.parent
_STREAMS = "streams"


def load_args(args: Mapping[str, Any], environ: Mapping[str, str]) -> AppConfig:
    """The application's configuration from its `args` and the environment.

    Raises:
        ConfigError: naming the field.
    """
    return _validated(AppConfig, _overlaid(args, _environment(environ, streams=False)))


def load_user_config(user_config: Mapping[str, Any], environ: Mapping[str, str]) -> IngressUserConfig:
    """The Ingress's live configuration from its `user_config` and the environment.

    Raises:
        ConfigError: naming the field.
    """
    return _validated(IngressUserConfig, _overlaid(user_config, _environment(environ, streams=True)))


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
    except ValueError as error:
        raise ConfigError(f"voices: {full}: {_first_line(error)}") from None


def effective(args: Mapping[str, Any], user_config: Mapping[str, Any], environ: Mapping[str, str]) -> list[Setting]:
    """Every value in force and where it comes from; secrets are hidden."""
    settings: list[Setting] = []
    for streams, given, config in (
        (False, args, load_args(args, environ)),
        (True, user_config, load_user_config(user_config, environ)),
    ):
        variables = {path: name for name, path in _variables(environ, streams=streams)}
        for path, value in _leaves(config):
            origin = variables.get(path) or ("file" if _holds(given, path) else "default")
            settings.append(Setting(".".join(path), value, origin))
    return settings


def _validated(model: type[M], values: Mapping[str, Any]) -> M:
    try:
        return model.model_validate(values)
    except ValueError as error:
        raise ConfigError(_first_line(error)) from None


def _first_line(error: ValueError) -> str:
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    told = []
    for item in errors(include_url=False):
        path = ".".join(str(part) for part in item["loc"])
        given = "" if item["type"] in ("missing", "union_tag_not_found") else f"; got {item['input']!r:.80}"
        told.append(f"{path}: {item['msg']}{given}")
    return "; ".join(told)


def _environment(environ: Mapping[str, str], *, streams: bool) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, path in _variables(environ, streams=streams):
        place = values
        for part in path[:-1]:
            place = place.setdefault(part, {})
        place[path[-1]] = _parsed(environ[name])
    return values


def _variables(environ: Mapping[str, str], *, streams: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Variables that name a value, with its path. Those of `streams` belong to the user_config, all others to args."""
    whole = {"log_level", "voices"}
    sections = {*AppConfig.model_fields, _STREAMS} - whole
    for name in sorted(environ):
        if not name.startswith(ENV_PREFIX):
            continue
        path = tuple(name.removeprefix(ENV_PREFIX).lower().split(ENV_SEPARATOR))
        known = (len(path) > 1 and path[0] in sections) or (len(path) == 1 and path[0] in whole)
        if known and (path[0] == _STREAMS) == streams:
            yield name, path


def _parsed(text: str) -> object:
    """Lists and objects are JSON; pydantic reads numbers and booleans out of plain text."""
    if text[:1] in ("[", "{"):
        return TypeAdapter(Any).validate_json(text)
    return text


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
            yield (*path, name), str(value) if isinstance(value, SecretStr) else value


def _holds(values: object, path: tuple[str, ...]) -> bool:
    for part in path:
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True


__all__ = [
    "AppConfig",
    "ConfigError",
    "FitConfig",
    "IngressConfig",
    "IngressUserConfig",
    "Setting",
    "StreamsConfig",
    "effective",
    "load_args",
    "load_user_config",
    "load_voices",
]
