"""Building the application: validated and bound, with no Ray running and no model loaded."""

import subprocess
import sys

import pytest
import ray
import yaml
from ray import serve
from ray.serve.exceptions import RayServeException

from serve_app.app import build
from serve_app.configuration.loading import ConfigError
from serve_app.configuration.shipped import PROJECT_DIR
from serve_app.operations import preflight

FAKES = {"asr": {"engine": "fake"}, "translation": {"engine": "fake"}, "tts": {"engine": "fake"}}


@pytest.mark.parametrize("path", sorted((PROJECT_DIR / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_file_gives_a_bound_application(path, monkeypatch):
    if path.name == "prod.yaml":
        monkeypatch.setenv("DEEPL_API_KEY", "key")
        monkeypatch.setenv("LIVEDUB_TTS__ACCEPT_CPML", "true")
        monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: name)
    [application] = yaml.safe_load(path.read_text())["applications"]
    assert isinstance(build(application["args"]), serve.Application)
    assert not ray.is_initialized()


def test_deployments_are_named_as_in_the_yaml():
    names = []

    def walk(application: serve.Application) -> None:
        names.append(application._bound_deployment.name)
        for argument in application._bound_deployment.init_args:
            if isinstance(argument, serve.Application):
                walk(argument)

    walk(build(FAKES))
    assert names == ["Ingress", "Asr", "Translation", "Tts"]


@pytest.mark.parametrize(
    ("args", "environ", "told"),
    [
        ({"asr": {"engine": "fake", "modle": 1}}, {}, r"asr\.modle"),
        ({"voices": "none.json"}, {}, "can't be read"),
        ({}, {"LIVEDUB_TTS__ENGINE": "flute"}, "'flute'"),
        ({}, {"LIVEDUB_STREAMS__TIMEOUT_MS": "soon"}, r"streams\.timeout_ms"),
    ],
)
def test_a_wrong_configuration_is_refused_here(args, environ, told, monkeypatch):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=told):
        build(FAKES | args)


def test_serve_tells_a_refusal_by_its_message_alone(monkeypatch):
    monkeypatch.delenv("DEEPL_API_KEY", raising=False)
    monkeypatch.delenv("DEEPL_AUTH_KEY", raising=False)
    with pytest.raises(RayServeException, match="missing: a DeepL key: set DEEPL_API_KEY") as refused:
        build({**FAKES, "translation": {"engine": "deepl"}})
    assert isinstance(refused.value, ConfigError)


def test_only_variables_of_streams_travel_to_the_ingress(monkeypatch):
    monkeypatch.setenv("LIVEDUB_STREAMS__TIMEOUT_MS", "9000")
    monkeypatch.setenv("LIVEDUB_ASR__DELAY_MS", "3")
    bound = build(FAKES)._bound_deployment
    assert {"LIVEDUB_STREAMS__TIMEOUT_MS": "9000"} in bound.init_args
    assert bound.init_args[0]._bound_deployment.init_args[0].delay_ms == 3


def test_no_engine_is_imported_before_its_replica_loads_it():
    code = (
        "import sys, yaml; from serve_app.app import build;"
        "build(yaml.safe_load(open('configs/local.yaml'))['applications'][0]['args']);"
        "heavy = {'faster_whisper', 'ctranslate2', 'kokoro_onnx', 'onnxruntime', 'torch'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_DIR, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
