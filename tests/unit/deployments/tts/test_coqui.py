"""The options of the Coqui engine; torch and coqui-tts aren't needed."""

import importlib.util

import pytest
from pydantic import TypeAdapter, ValidationError

from deployments.tts import TtsOptions
from deployments.tts.coqui import CoquiOptions


def test_the_union_picks_it():
    options = TypeAdapter(TtsOptions).validate_python({"engine": "coqui", "model": "tts_models/es/css10/vits"})
    assert isinstance(options, CoquiOptions)
    assert options.build().voice_models == {"coqui", "tts_models/es/css10/vits"}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"model": "/nowhere"}, "/nowhere"),
        ({"model": "vits"}, "tts_models/es/css10/vits"),
        ({"model": "tts_models/multilingual/multi-dataset/xtts_v2"}, "engine xtts"),
        ({"language": "es-ES"}, "language"),
        ({"checkpoint_sha256": "abc"}, "checkpoint_sha256"),
        ({"device": "tpu"}, "device"),
        ({"max_rate": 3.0}, "max_rate"),
        ({"speaker": "Ana"}, "speaker"),
    ],
)
def test_wrong_options_are_named(options, named):
    with pytest.raises(ValidationError, match=named):
        CoquiOptions(**({"model": "tts_models/es/css10/vits"} | options))


def test_a_folder_without_weights_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValidationError, match=r"model\.pth"):
        CoquiOptions(model=str(tmp_path))


def test_a_missing_package_is_said_before_anything_is_loaded(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ImportError, match=r"livedub\[coqui\]"):
        CoquiOptions(model="tts_models/es/css10/vits").build().load({})
