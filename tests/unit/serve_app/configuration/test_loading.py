"""Configuration: every shipped file is right, every mistake is named, and each value tells where it comes from."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr

from deployments.audio.timing import FitLimits
from serve_app.configuration import loading as configuration
from serve_app.configuration.loading import ConfigError, effective, load_args, load_user_config, load_voices
from serve_app.configuration.schema import AppConfig, IngressConfig, IngressUserConfig
from serve_app.stream.values import StreamLimits

CONFIGS = Path(configuration.PROJECT_DIR) / "configs"
FAKES = {"asr": {"engine": "fake"}, "translation": {"engine": "fake"}, "tts": {"engine": "fake"}}


def refusal(args=None, environ=None, user_config=None) -> str:
    load, values = (load_args, {**FAKES, **(args or {})}) if user_config is None else (load_user_config, user_config)
    with pytest.raises(ConfigError) as refused:
        load(values, environ or {})
    assert "\n" not in str(refused.value)
    return str(refused.value)


def origins(args=None, environ=None, user_config=None) -> dict[str, tuple[object, str]]:
    settings = effective({**FAKES, **(args or {})}, user_config or {}, environ or {})
    return {setting.path: (setting.value, setting.origin) for setting in settings}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_file_is_valid_and_names_only_our_deployments(path):
    [application] = yaml.safe_load(path.read_text())["applications"]
    assert application["import_path"] == "serve_app.app:build"
    config = load_args(application["args"], {"DEEPL_API_KEY": "key"})
    assert load_voices(config.voices).for_engine(config.tts.build().voice_models)
    by_name = {deployment["name"]: deployment for deployment in application["deployments"]}
    assert set(by_name) == {"Ingress", "Asr", "Translation", "Tts"}
    load_user_config(by_name["Ingress"]["user_config"], {})
    assert by_name["Ingress"]["max_ongoing_requests"] >= 1000, "each open socket takes one for life"
    for kind in ("asr", "translation", "tts"):
        assert by_name[kind.title()]["max_ongoing_requests"] >= getattr(config, kind).concurrency


def test_an_empty_user_config_is_that_of_the_defaults():
    assert load_user_config({}, {}) == IngressUserConfig(streams=StreamLimits(), draining=False)


# --- mistakes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({"asr": {"engine": "fake", "modle": "x"}}, ["asr.modle", "allowed", "concurrency", "'x'"]),
        ({"asr": {"engine": "whisper"}}, ["asr", "'whisper'", "'faster_whisper', 'moonshine', 'fake'"]),
        ({"asr": {"delay_ms": 3}}, ["asr", "engine", "missing", "faster_whisper, moonshine, fake"]),
        ({"asr": None}, ["asr"]),
        ({"asr": {"engine": "faster_whisper", "beam_size": 99}}, ["asr.beam_size", "99", "10"]),
        ({"asr": {"engine": "fake", "script": [{"bogus": 1}]}}, ["asr.script.0.bogus"]),
        ({"asr": {"engine": "fake", "delay_ms": "soon"}}, ["asr.delay_ms", "'soon'", "integer"]),
        ({"tts": {"engine": "echo", "concurrency": 0}}, ["tts.concurrency", "0", "greater than or equal to 1"]),
        ({"ingress": 3}, ["ingress", "3"]),
        ({"ingress": {"port": 80}}, ["ingress.port", "max_fragment_bytes", "80"]),
        ({"ingress": {"max_fragment_bytes": 11 * 1024 * 1024}}, ["ingress.max_fragment_bytes", "10485760"]),
        ({"fit": {"success_percent": 30}}, ["fit", "success_percent 30.0 exceeds partial_percent 20.0"]),
        ({"log_level": "LOUD"}, ["log_level", "'LOUD'", "'DEBUG'"]),
        ({"streams": {}}, ["streams", "no such setting", "log_level"]),
        ({"voices": "x" * 300, "fit": {"max_speed": "y" * 300}}, ["fit.max_speed", "…"]),
    ],
)
def test_a_mistake_is_told_by_field_what_was_given_and_what_is_allowed(args, told):
    message = refusal(args)
    assert all(part in message for part in told), message


def test_all_mistakes_are_told_at_once():
    with pytest.raises(ConfigError, match=r"asr: Field required; translation: Field required; tts: Field required"):
        load_args({}, {})


@pytest.mark.parametrize(
    ("user_config", "told"),
    [
        ({"streams": {"max_inflight": 11}}, ["streams.max_inflight", "11", "10"]),
        ({"streams": {"timeout_ms": 999}}, ["streams.timeout_ms", "999", "1000"]),
        ({"streams": {"fallback_mode": "music"}}, ["streams.fallback_mode", "'music'", "'silence' or 'original'"]),
        ({"streams": {"max_inflght": 3}}, ["streams.max_inflght", "max_inflight"]),
        ({"drain": True}, ["drain", "draining"]),
    ],
)
def test_mistakes_in_the_live_part_are_told_likewise(user_config, told):
    message = refusal(user_config=user_config)
    assert all(part in message for part in told), message


def test_a_mistaken_secret_is_never_shown():
    message = refusal({"translation": {"engine": "fake", "api_key": "sk-very-secret"}})
    assert "translation.api_key" in message
    assert "sk-very-secret" not in message


def test_a_section_as_a_whole_is_never_shown():
    assert "sk-1" not in refusal({"translation": {"engine": "nowhere", "api_key": "sk-1"}})


# --- environment ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "read", "expected"),
    [
        ("LIVEDUB_LOG_LEVEL", "DEBUG", lambda c: c.log_level, "DEBUG"),
        ("LIVEDUB_VOICES", "/x.json", lambda c: c.voices, "/x.json"),
        ("LIVEDUB_INGRESS__PING_INTERVAL_S", "7.5", lambda c: c.ingress.ping_interval_s, 7.5),
        ("LIVEDUB_FIT__SUCCESS_PERCENT", "5", lambda c: c.fit.success_percent, 5.0),
        ("LIVEDUB_ASR__DELAY_MS", "20", lambda c: c.asr.delay_ms, 20),
        ("LIVEDUB_TTS__CONCURRENCY", "3", lambda c: c.tts.concurrency, 3),
        (
            "LIVEDUB_ASR__SCRIPT",
            '[{"stream": "a", "delay_ms": 5}]',
            lambda c: [step.stream for step in c.asr.script],
            ["a"],
        ),
    ],
)
def test_environment_wins_over_file_over_default(name, text, read, expected):
    file = {
        **FAKES,
        "log_level": "ERROR",
        "voices": "file.json",
        "ingress": {"ping_interval_s": 99},
        "fit": {"success_percent": 9},
        "asr": {"engine": "fake", "delay_ms": 1, "script": []},
        "tts": {"engine": "fake", "concurrency": 2},
    }
    assert read(load_args(file, {name: text})) == expected
    assert read(load_args(file, {})) != expected


def test_a_variable_leaves_its_neighbours_in_the_file_alone():
    config = load_args({**FAKES, "fit": {"min_speed": 0.6, "max_speed": 1.5}}, {"LIVEDUB_FIT__MAX_SPEED": "1.8"})
    assert config.fit == FitLimits(min_speed=0.6, max_speed=1.8)


def test_another_engine_from_the_environment_drops_the_options_of_the_one_in_the_file():
    file = {**FAKES, "asr": {"engine": "fake", "delay_ms": 5, "concurrency": 8}}
    environ = {"LIVEDUB_ASR__ENGINE": "faster_whisper", "LIVEDUB_ASR__MODEL": "base"}
    asr = load_args(file, environ).asr
    assert (asr.engine, asr.model, asr.concurrency) == ("faster_whisper", "base", 1)
    assert origins(file, environ)["asr.concurrency"] == (1, "default")


def test_the_same_engine_from_the_environment_keeps_the_options_of_the_file():
    file = {**FAKES, "asr": {"engine": "fake", "delay_ms": 5}}
    assert load_args(file, {"LIVEDUB_ASR__ENGINE": "fake"}).asr.delay_ms == 5


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("LIVEDUB_ASR__BEAM_SIZE", "3", ["asr.beam_size", "LIVEDUB_ASR__BEAM_SIZE", "delay_ms"]),
        ("LIVEDUB_ASSR__MODEL", "base", ["LIVEDUB_ASSR__MODEL", "LIVEDUB_ASR__…", "LIVEDUB_STREAMS__…"]),
        ("LIVEDUB_LOG_LEVEL", "LOUD", ["log_level", "LIVEDUB_LOG_LEVEL", "'LOUD'"]),
        ("LIVEDUB_FIT__MAX_SPEED", "fast", ["fit.max_speed", "LIVEDUB_FIT__MAX_SPEED", "'fast'"]),
        ("LIVEDUB_ASR__SCRIPT", "[{", ["LIVEDUB_ASR__SCRIPT", "JSON"]),
    ],
)
def test_a_mistaken_variable_is_named(name, text, told):
    message = refusal(environ={name: text})
    assert all(part in message for part in told), message


def test_two_variables_that_contradict_each_other_are_named():
    message = refusal(environ={"LIVEDUB_ASR__SCRIPT": "[]", "LIVEDUB_ASR__SCRIPT__STREAM": "a"})
    assert "LIVEDUB_ASR__SCRIPT__STREAM" in message


def test_variables_of_others_are_ignored():
    others = {"LIVEDUB_HOST": "0", "LIVEDUB_PORT": "x", "LIVEDUB_SERVER": "u", "LIVEDUB_DRAIN_TIMEOUT_S": "3", "A": "b"}
    assert load_args(FAKES, others) == load_args(FAKES, {})
    assert load_user_config({}, others) == load_user_config({}, {})


def test_variables_of_streams_go_to_the_live_part_and_no_others():
    environ = {"LIVEDUB_STREAMS__TIMEOUT_MS": "12000", "LIVEDUB_ASR__DELAY_MS": "3"}
    user_config = load_user_config({"streams": {"timeout_ms": 9000, "max_inflight": 4}}, environ)
    assert user_config.streams == StreamLimits(timeout_ms=12_000, max_inflight=4)
    assert load_args(FAKES, environ).asr.delay_ms == 3


def test_what_operators_need_can_be_set_by_the_environment():
    """FR-053 to FR-056: limits, timeout, fallback and model paths."""
    environ = {
        "LIVEDUB_STREAMS__MAX_INFLIGHT": "5",
        "LIVEDUB_STREAMS__TIMEOUT_MS": "9000",
        "LIVEDUB_STREAMS__FALLBACK_MODE": "original",
        "LIVEDUB_STREAMS__CRITICAL_INFLIGHT": "20",
        "LIVEDUB_ASR__ENGINE": "faster_whisper",
        "LIVEDUB_ASR__MODEL": "/models/whisper",
        "LIVEDUB_VOICES": "/etc/voices.json",
    }
    config, streams = load_args(FAKES, environ), load_user_config({}, environ).streams
    assert (streams.max_inflight, streams.timeout_ms, streams.fallback_mode) == (5, 9000, "original")
    assert streams.critical_inflight == 20
    assert (config.asr.model, config.voices) == ("/models/whisper", "/etc/voices.json")


# --- what is in force -------------------------------------------------------------------------------------------


def test_every_value_tells_where_it_comes_from():
    told = origins(
        {"log_level": "ERROR", "fit": {"min_speed": 0.6}},
        {"LIVEDUB_FIT__MAX_SPEED": "1.8", "LIVEDUB_STREAMS__TIMEOUT_MS": "9000"},
        {"streams": {"max_inflight": 4}, "draining": False},
    )
    assert told["log_level"] == ("ERROR", "file")
    assert told["fit.min_speed"] == (0.6, "file")
    assert told["fit.max_speed"] == (1.8, "LIVEDUB_FIT__MAX_SPEED")
    assert told["fit.natural_speed"] == (0.8, "default")
    assert told["asr.engine"] == ("fake", "file")
    assert told["streams.max_inflight"] == (4, "file")
    assert told["streams.timeout_ms"] == (9000, "LIVEDUB_STREAMS__TIMEOUT_MS")
    assert told["streams.fallback_mode"] == ("silence", "default")
    assert told["draining"] == (False, "file")
    ingress = {f"ingress.{name}" for name in IngressConfig.model_fields}
    assert ingress <= set(told)


def test_secrets_are_hidden(monkeypatch):
    class Keyed(AppConfig):
        api_key: SecretStr = SecretStr("sk-very-secret")

    monkeypatch.setattr(configuration, "AppConfig", Keyed)
    value, origin = origins()["api_key"]
    assert (value, origin) == ("**********", "default")


# --- voices -----------------------------------------------------------------------------------------------------


def test_relative_voices_start_at_the_project_whatever_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_voices("configs/voices.json").voices


def test_a_missing_voices_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"voices: .*none\.json can't be read: No such file"):
        load_voices(str(tmp_path / "none.json"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "Invalid JSON"),
        ("{}", "voices: Field required"),
        ('{"voices": {"ana": {"model": "kokoro"}}}', "voices.ana.language: Field required"),
        (json.dumps({"voices": {"a": {"model": "m", "language": "es", "lang": 1}}}), "voices.a.lang"),
    ],
)
def test_a_broken_voices_file_is_told_with_the_field(tmp_path, text, told):
    path = tmp_path / "voices.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_voices(str(path))
    assert str(path) in str(refused.value)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    "degrade", [["original", "original"], ["original", "silence"], ["original", "faster_voice"], ["orginal"]]
)
def test_rungs_that_make_no_sense_together_are_refused(degrade):
    with pytest.raises(ConfigError, match=r"degrade"):
        load_user_config({"streams": {"degrade": degrade}}, {})


def test_the_rungs_may_be_none_or_two():
    for degrade in ([], ["faster_voice"], ["silence"], ["faster_voice", "original"]):
        assert load_user_config({"streams": {"degrade": degrade}}, {}).streams.degrade == tuple(degrade)


@pytest.mark.parametrize(
    ("args", "environ"),
    [
        ({"doors": {"origins": ["https://a.example"]}, "fit": {"carry_ms": 100}}, {}),
        ({}, {"LIVEDUB_DOORS__ORIGINS": '["https://a.example"]', "LIVEDUB_FIT__CARRY_MS": "100"}),
    ],
)
def test_settings_go_on_working_under_the_names_that_they_had(args, environ):
    config = load_args({**FAKES, **args}, environ)
    assert (config.access.origins, config.fit.overhang_ms) == (("https://a.example",), 100)


def test_which_names_are_old_is_said():
    code = """
from serve_app.configuration.loading import load_args
for _ in range(2):
    load_args({"asr": {"engine": "fake"}, "translation": {"engine": "fake"}, "tts": {"engine": "fake"}, "doors": {}},
              {"LIVEDUB_FIT__CARRY_MS": "1"})
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = [line for line in (said.stdout + said.stderr).splitlines() if "setting_renamed" in line]
    assert len(lines) == 2
    assert "LIVEDUB_FIT__OVERHANG_MS" in "".join(lines)


@pytest.mark.parametrize(
    ("args", "environ"),
    [
        ({"doors": {}, "access": {}}, {}),
        ({"fit": {"carry_ms": 1, "overhang_ms": 1}}, {}),
        ({}, {"LIVEDUB_FIT__CARRY_MS": "1", "LIVEDUB_FIT__OVERHANG_MS": "1"}),
    ],
)
def test_one_setting_under_both_names_is_refused(args, environ):
    with pytest.raises(ConfigError, match=r"overhang_ms|access"):
        load_args({**FAKES, **args}, environ)
