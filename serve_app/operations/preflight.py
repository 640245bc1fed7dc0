"""What a configuration needs and the cluster lacks: keys, packages, programs, voices, GPUs. Starts nothing."""

import importlib.util
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deployments.asr.faster_whisper import FasterWhisperOptions
from deployments.translation.apertium import ApertiumOptions
from deployments.translation.deepl import DeepLOptions
from deployments.tts.espeak import EspeakOptions
from deployments.tts.faster import Faster
from deployments.tts.voices import VoiceBook
from deployments.tts.xtts import PUBLISHED, XttsOptions
from serve_app.configuration.environment import meant
from serve_app.configuration.loading import ConfigError, load_args, load_voices
from serve_app.configuration.schema import AppConfig

PACKAGES = {
    "faster_whisper": ("faster_whisper", "local"),
    "moonshine": ("moonshine_voice", "local"),
    "kokoro": ("kokoro_onnx", "local"),
    "deepl": ("deepl", "prod"),
    "xtts": ("TTS", "coqui"),
    "coqui": ("TTS", "coqui"),
}
"""Engine to the module that it needs and the extra of livedub that brings it."""
EMBEDDED = "embedded"
"""The Whisper model that comes in a package."""
CPML = (
    "your consent to the licence of the XTTS v2 weights, which forbids commercial use: read https://coqui.ai/cpml and "
    "set LIVEDUB_TTS__ACCEPT_CPML=true, or name weights of your own as tts.model"
)
LATER = "where an autoscaler brings them when replicas ask, set LIVEDUB_GPUS=awaited"


def missing(args: Mapping[str, Any], environ: Mapping[str, str], gpus: float | None) -> list[str]:
    """Everything that is missing, a sentence each that says what to do; empty when all is there.

    Args:
        args: the application's `args`.
        environ: environment variables; they win over `args`.
        gpus: how many the cluster has; None: not known, so not judged.

    Raises:
        ConfigError: the configuration is wrong, rather than unfulfilled.
    """
    config = load_args(args, environ)
    models = [*_whisper(config, environ), *_models(config)]
    return [*_keys(config), *_packages(config), *_programs(config), *_voices(config), *models, *_gpus(config, gpus)]


def require(args: Mapping[str, Any], environ: Mapping[str, str], gpus: float | None) -> None:
    """Refuse to start what can't run.

    Raises:
        ConfigError: naming all that is missing.
    """
    lacking = missing(args, environ, gpus)
    if lacking:
        raise ConfigError(f"this configuration can't run here; missing: {'; '.join(lacking)}")


def _keys(config: AppConfig) -> list[str]:
    if isinstance(config.translation, DeepLOptions) and config.translation.api_key is None:
        return ["a DeepL key: set DEEPL_API_KEY (or DEEPL_AUTH_KEY) in the environment"]
    return []


def _packages(config: AppConfig) -> list[str]:
    found = []
    for engine in (config.asr.engine, config.translation.engine, config.tts.engine):
        module, extra = PACKAGES.get(engine, ("", ""))
        if module and importlib.util.find_spec(module) is None:
            found.append(f"the Python package of the engine {engine}: pip install 'livedub[{extra}]'")
    return found


def _programs(config: AppConfig) -> list[str]:
    found = []
    if isinstance(config.translation, ApertiumOptions) and shutil.which("apertium") is None:
        found.append("the program apertium: install the Debian packages apertium and apertium-eng-spa")
    speaking = [options for options in (config.tts, config.tts.faster) if isinstance(options, EspeakOptions)]
    lacking = [options.program for options in speaking if shutil.which(options.program) is None]
    return found + [f"the program {program}: install the Debian package espeak-ng" for program in lacking]


def _voices(config: AppConfig) -> list[str]:
    book = load_voices(config.voices)
    try:
        voices, defaults = book.for_engine(config.tts.build().voice_models)
    except ValueError as error:
        return [f"a voice for the engine {config.tts.engine}: {error}"]
    found = [
        f"the recording of voice {name}: {voice.speaker_wav} is not there"
        for name, voice in voices.items()
        if voice.speaker_wav and not Path(voice.speaker_wav).is_file()
    ]
    if not defaults:
        found.append(f"a default voice for the engine {config.tts.engine} in {config.voices}")
    if config.tts.faster is not None:
        found += _faster_voice(config.tts.faster, book)
    return found


def _faster_voice(options: Faster, book: VoiceBook) -> list[str]:
    try:
        _, defaults = book.for_engine(options.build().voice_models)
    except ValueError as error:
        return [f"a voice for the engine {options.engine} of tts.faster: {error}"]
    return [] if defaults else [f"a default voice for the engine {options.engine} of tts.faster"]


def _whisper(config: AppConfig, environ: Mapping[str, str]) -> list[str]:
    """What can be known of a Whisper model without asking the hub for it."""
    options = config.asr
    if not isinstance(options, FasterWhisperOptions) or options.model == EMBEDDED or Path(options.model).is_dir():
        return []
    if importlib.util.find_spec("faster_whisper") is None:
        return []
    from faster_whisper.utils import available_models, download_model  # noqa: PLC0415 - an optional dependency

    name, known = options.model, [EMBEDDED, *available_models()]
    if name.startswith((".", "/", "~")):
        return [f"the Whisper model of asr.model: there is no folder {name}"]
    if "/" not in name and name not in known:
        return [f"a Whisper model: there is none named {name}{meant(name, known)}; there are {', '.join(known)}"]
    if environ.get("HF_HUB_OFFLINE", "").upper() not in ("1", "ON", "YES", "TRUE"):
        return []
    try:
        download_model(name, local_files_only=True)
    except (OSError, ValueError):  # what the hub's client raises when it has nothing cached
        remedy = "HF_HUB_OFFLINE forbids to fetch it; run `livedub fetch` without that"
        return [f"the Whisper model {name}: it is not in the cache, and {remedy}"]
    return []


def _models(config: AppConfig) -> list[str]:
    tts = config.tts
    if isinstance(tts, XttsOptions) and tts.model == PUBLISHED and not tts.accept_cpml:
        return [CPML]
    return []


def _gpus(config: AppConfig, gpus: float | None) -> list[str]:
    if gpus is None or gpus > 0 or config.gpus == "awaited":
        return []
    sections = (("asr", config.asr), ("tts", config.tts))
    wanting = [name for name, options in sections if getattr(options, "device", None) == "cuda"]
    if not wanting:
        return []
    return [f"a GPU: {' and '.join(f'{name}.device' for name in wanting)} say cuda and the cluster has none ({LATER})"]
