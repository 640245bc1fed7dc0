"""A variable with our prefix that nobody reads is refused; the nearest name is suggested."""

import pytest
import typer

from livedub.cli import app
from serve_app.configuration.environment import OTHER_VARIABLES, is_service_link, meant
from serve_app.configuration.loading import ConfigError, known_variables, load_args, load_user_config

FAKES = {"asr": {"engine": "fake"}, "translation": {"engine": "fake"}, "tts": {"engine": "fake"}}


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("LIVEDUB_AUTH_API_KEYS", "LIVEDUB_AUTH__API_KEYS"),
        ("LIVEDUB_ATH__API_KEYS", "LIVEDUB_AUTH__API_KEYS"),
        ("LIVEDUB_AUTHJWT_SECRET", "LIVEDUB_AUTH__JWT_SECRET"),
        ("LIVEDUB_LOGLEVEL", "LIVEDUB_LOG_LEVEL"),
        ("LIVEDUB_ASR_MODEL", "LIVEDUB_ASR__MODEL"),
        ("LIVEDUB_STREAM__TIMEOUT_MS", "LIVEDUB_STREAMS__TIMEOUT_MS"),
        ("LIVEDUB_DRAIN_TIMEOUT", "LIVEDUB_DRAIN_TIMEOUT_S"),
        ("LIVEDUB_SERVR", "LIVEDUB_SERVER"),
    ],
)
@pytest.mark.parametrize(
    "load", [lambda environ: load_args(FAKES, environ), lambda environ: load_user_config({}, environ)]
)
def test_an_unknown_variable_is_refused_and_the_nearest_name_suggested(load, name, nearest):
    with pytest.raises(ConfigError) as refused:
        load({name: "a secret"})
    message = str(refused.value)
    assert name in message
    assert f"did you mean {nearest}?" in message
    assert "a secret" not in message


@pytest.mark.parametrize("name", ["LIVEDUB_AUTH__API_KEYZ", "LIVEDUB_AUTH___API_KEYS"])
def test_a_setting_that_a_section_does_not_have_is_refused_likewise(name):
    with pytest.raises(ConfigError, match=rf"auth\..*from {name}.*did you mean api_keys\?"):
        load_args(FAKES, {name: "x"})


def test_every_variable_that_an_option_reads_is_known():
    """The list is written out, for options are not known where replicas read the environment."""
    root = typer.main.get_command(app)
    context = typer.Context(root)
    read: set[str] = set()
    for name in root.list_commands(context):
        for parameter in root.get_command(context, name).params:
            given = parameter.envvar or ()
            read.update([given] if isinstance(given, str) else given)
    ours = {name for name in read if name.startswith("LIVEDUB_")}
    assert ours <= set(known_variables())
    assert ours - {"LIVEDUB_AUTH__JWT_SECRET", "LIVEDUB_AUTH__JWT_AUDIENCE"} == set(OTHER_VARIABLES)


def test_known_variables_are_those_of_the_models():
    known = known_variables()
    assert {"LIVEDUB_AUTH__API_KEYS", "LIVEDUB_TTS__ENGINE", "LIVEDUB_LIMITS__PER_KEY__STREAMS", "LIVEDUB_GPUS"} <= {
        *known
    }
    load_args(FAKES, dict.fromkeys(OTHER_VARIABLES, "1"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LIVEDUB_SERVICE_HOST", "10.0.0.7"),
        ("LIVEDUB_SERVICE_PORT", "8000"),
        ("LIVEDUB_SERVICE_PORT_HTTP", "8000"),
        ("LIVEDUB_PORT", "tcp://10.0.0.7:8000"),
        ("LIVEDUB_PORT_8000_TCP", "tcp://10.0.0.7:8000"),
        ("LIVEDUB_PORT_8000_TCP_PROTO", "tcp"),
        ("LIVEDUB_PORT_8000_TCP_PORT", "8000"),
        ("LIVEDUB_PORT_8000_TCP_ADDR", "10.0.0.7"),
        ("LIVEDUB_HEAD_SVC_SERVICE_HOST", "10.0.0.8"),
        ("LIVEDUB_HEAD_SVC_PORT", "tcp://10.0.0.8:8265"),
    ],
)
def test_what_kubernetes_sets_for_a_service_named_livedub_is_passed_over(name, value):
    assert is_service_link(name, value)
    load_args(FAKES, {name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("LIVEDUB_MY_PORT", "8000"), ("LIVEDUB_PORTS", "tcp://x"), ("LIVEDUB_SERVICE_PORT", "x"), ("LIVEDUB_HOSTS", "a")],
)
def test_what_only_looks_like_a_service_link_is_refused(name, value):
    assert not is_service_link(name, value)
    with pytest.raises(ConfigError, match=name):
        load_args(FAKES, {name: value})


def test_nothing_is_suggested_where_nothing_is_near():
    assert meant("LIVEDUB_XYZ", ["alpha"]) == ""
    assert meant("ASR", ["Asr", "Tts"]) == " (did you mean Asr?)"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("livedub_auth__api_keys", "LIVEDUB_AUTH__API_KEYS"),
        ("Livedub_Tts__Engine", "LIVEDUB_TTS__ENGINE"),
        ("LIVE_DUB_ASR__MODEL", "LIVEDUB_ASR__MODEL"),
    ],
)
def test_our_name_in_another_spelling_is_refused_too(name, meant):
    """A door that somebody meant to lock would be open without a word."""
    with pytest.raises(ConfigError, match=f"{name}: no such variable .did you mean {meant}"):
        load_user_config({}, {name: "x"})
