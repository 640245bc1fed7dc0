"""What is missing is told at once, before anything starts."""

import json
from pathlib import Path

import pytest
import yaml

from serve_app.configuration.loading import ConfigError
from serve_app.configuration.shipped import PROJECT_DIR
from serve_app.operations import preflight
from serve_app.operations.preflight import missing, require

KEY = {"DEEPL_API_KEY": "key"}
CONSENT = {"LIVEDUB_TTS__ACCEPT_CPML": "true"}


@pytest.fixture
def prod():
    text = (PROJECT_DIR / "configs" / "prod.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)["applications"][0]["args"]


@pytest.fixture(autouse=True)
def everything_installed(monkeypatch):
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(preflight.shutil, "which", lambda name: name)


def test_production_without_anything_names_key_licence_and_gpu_in_one_message(prod):
    with pytest.raises(ConfigError) as refused:
        require(prod, {}, 0)
    message = str(refused.value)
    assert "\n" not in message
    for word in ("DEEPL_API_KEY", "LIVEDUB_TTS__ACCEPT_CPML", "asr.device and tts.device", "LIVEDUB_GPUS=awaited"):
        assert word in message


def test_production_with_key_consent_and_gpus_lacks_nothing(prod):
    assert missing(prod, KEY | CONSENT, 2) == []
    require(prod, KEY | CONSENT, 2)


def test_gpus_that_an_autoscaler_brings_are_not_missing(prod):
    assert missing(prod, KEY | CONSENT | {"LIVEDUB_GPUS": "awaited"}, 0) == []


def test_gpus_that_nobody_counted_are_not_judged(prod):
    assert missing(prod, KEY | CONSENT, None) == []


def test_a_missing_package_names_the_extra_that_brings_it(prod, monkeypatch):
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda _: None)
    lacking = missing(prod, KEY | CONSENT, 1)
    remedies = [f"pip install 'livedub[{extra}]'" for extra in ("local", "prod", "coqui")]
    assert [sentence.split(": ")[1] for sentence in lacking] == remedies


def test_a_missing_program_names_its_debian_package(monkeypatch):
    monkeypatch.setattr(preflight.shutil, "which", lambda _: None)
    args = {"asr": {"engine": "fake"}, "translation": {"engine": "apertium"}, "tts": {"engine": "espeak"}}
    lacking = missing(args, {}, 0)
    assert ["apertium-eng-spa" in lacking[0], "espeak-ng" in lacking[1]] == [True, True]


@pytest.fixture
def laptop_with_coqui():
    """The laptop's configuration, its voice swapped by environment variables alone."""
    text = (PROJECT_DIR / "configs" / "local.yaml").read_text(encoding="utf-8")
    environ = {"LIVEDUB_TTS__ENGINE": "coqui", "LIVEDUB_TTS__MODEL": "tts_models/es/css10/vits"}
    return yaml.safe_load(text)["applications"][0]["args"], environ


def test_a_coqui_model_has_its_voice_and_lacks_nothing(laptop_with_coqui):
    assert missing(*laptop_with_coqui, 0) == []


def test_a_coqui_model_without_the_package_names_the_extra(laptop_with_coqui, monkeypatch):
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: name if name != "TTS" else None)
    [sentence] = missing(*laptop_with_coqui, 0)
    assert "coqui" in sentence
    assert "livedub[coqui]" in sentence


def test_a_missing_recording_names_its_voice(prod, tmp_path):
    book = tmp_path / "voices.json"
    gone = tmp_path / "gone.wav"
    anna = {"model": "xtts_v2", "language": "es", "speaker_wav": str(gone)}
    book.write_text(json.dumps({"voices": {"anna": anna}}), encoding="utf-8")
    lacking = missing({**prod, "voices": str(book)}, KEY | CONSENT, 1)
    assert any("anna" in sentence and str(gone) in sentence for sentence in lacking)
    assert any("default voice" in sentence for sentence in lacking)


def test_a_book_without_a_voice_for_the_engine_is_told(prod, tmp_path):
    book = tmp_path / "voices.json"
    book.write_text('{"voices": {"a": {"model": "kokoro", "language": "es"}}}', encoding="utf-8")
    [sentence] = missing({**prod, "voices": str(book)}, KEY | CONSENT, 1)
    assert "xtts" in sentence


def test_a_wrong_setting_is_an_error_not_something_missing(prod):
    with pytest.raises(ConfigError, match=r"asr\.compute"):
        missing({**prod, "asr": {**prod["asr"], "compute": "x"}}, KEY, 1)


@pytest.mark.parametrize("name", ["local", "echo", "fakes"])
def test_the_other_configurations_need_no_gpu_and_no_key(name):
    text = Path(PROJECT_DIR / "configs" / f"{name}.yaml").read_text(encoding="utf-8")
    assert missing(yaml.safe_load(text)["applications"][0]["args"], {}, 0) == []


@pytest.fixture
def whisper():
    """A laptop's configuration with another Whisper model."""
    text = (PROJECT_DIR / "configs" / "local.yaml").read_text(encoding="utf-8")
    args = yaml.safe_load(text)["applications"][0]["args"]
    return lambda model: {**args, "asr": {**args["asr"], "model": model}}


def test_a_whisper_model_that_nobody_knows_is_told_with_the_nearest_name(whisper):
    [sentence] = missing(whisper("smal"), {}, 0)
    assert "none named smal (did you mean small?)" in sentence
    assert "large-v3" in sentence


def test_a_folder_of_weights_that_is_not_there_is_told(whisper):
    [sentence] = missing(whisper("/no/such/folder"), {}, 0)
    assert "no folder /no/such/folder" in sentence


def test_a_model_that_is_not_in_the_cache_is_told_where_the_hub_may_not_be_asked(whisper, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path))
    [sentence] = missing(whisper("base"), {"HF_HUB_OFFLINE": "1"}, 0)
    assert "HF_HUB_OFFLINE" in sentence
    assert "livedub fetch" in sentence
    assert missing(whisper("base"), {}, 0) == [], "the hub may be asked, so nobody knows yet"


def test_a_folder_of_weights_lacks_nothing(whisper, tmp_path):
    assert missing(whisper(str(tmp_path)), {"HF_HUB_OFFLINE": "1"}, 0) == []


@pytest.fixture
def local():
    text = (PROJECT_DIR / "configs" / "local.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)["applications"][0]["args"]


def test_the_program_of_the_faster_voice_is_missed_too(local, monkeypatch):
    monkeypatch.setattr(preflight.shutil, "which", lambda name: None if name == "espeak-ng" else name)
    [told] = missing(local, {}, 0)
    assert "espeak-ng" in told


@pytest.mark.parametrize(
    ("voices", "told"),
    [
        ({"anna": {"model": "kokoro", "language": "es", "speaker": "jm_kumo"}}, "a voice for the engine espeak of"),
        (
            {
                "anna": {"model": "kokoro", "language": "es", "speaker": "jm_kumo"},
                "bob": {"model": "espeak", "language": "es"},
            },
            "a default voice for the engine espeak of",
        ),
    ],
)
def test_a_faster_engine_without_a_voice_is_told(local, voices, told, tmp_path):
    book = tmp_path / "voices.json"
    book.write_text(json.dumps({"voices": voices, "default_voice_per_language": {"es": "anna"}}), encoding="utf-8")
    [lacking] = missing(local | {"voices": str(book)}, {}, 0)
    assert told in lacking
