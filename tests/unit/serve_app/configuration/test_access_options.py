"""Configuration of access: by file and by environment, never half, never shown."""

import pickle

import pytest

from serve_app.app import build
from serve_app.configuration.loading import ConfigError, effective, live_variables, load_args, load_user_config

FAKES = {"asr": {"engine": "fake"}, "translation": {"engine": "fake"}, "tts": {"engine": "fake"}}
KEY = "canary key of some length"
SECRET = "canary secret, longer than 32 bytes"  # noqa: S105
ENVIRON = {
    "LIVEDUB_AUTH__API_KEYS": f'["{KEY}"]',
    "LIVEDUB_AUTH__JWT_SECRET": SECRET,
    "LIVEDUB_AUTH__JWT_AUDIENCE": "livedub",
    "LIVEDUB_ACCESS__ORIGINS": '["https://studio.example"]',
    "LIVEDUB_LIMITS__PER_KEY__STREAMS": "3",
    "LIVEDUB_STREAMS__TIMEOUT_MS": "9000",
}


def test_all_of_it_can_be_set_by_the_environment():
    config, live = load_args(FAKES, ENVIRON), load_user_config({}, ENVIRON)
    assert [key.get_secret_value() for key in config.auth.api_keys] == [KEY]
    assert config.auth.jwt_secret.get_secret_value() == SECRET
    assert config.access.origins == ("https://studio.example",)
    assert live.limits.per_key.streams == 3
    assert set(live_variables(ENVIRON)) == {"LIVEDUB_LIMITS__PER_KEY__STREAMS", "LIVEDUB_STREAMS__TIMEOUT_MS"}


def test_secrets_are_hidden_and_their_origin_told():
    told = {setting.path: setting for setting in effective(FAKES, {}, ENVIRON)}
    assert "canary" not in repr(told)
    assert told["auth.api_keys"].value == ["**********"]
    assert told["auth.jwt_secret"].origin == "LIVEDUB_AUTH__JWT_SECRET"
    assert told["limits.per_key.streams"].value == 3


def test_the_ingress_gets_them_and_nothing_that_prints_them(monkeypatch):
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    arguments = build(FAKES)._bound_deployment.init_args[3:]
    assert "canary" not in repr(arguments)
    auth = pickle.loads(pickle.dumps(arguments[1]))  # noqa: S301
    assert auth.jwt_secret.get_secret_value() == SECRET


@pytest.mark.parametrize(
    ("auth", "told"),
    [
        ({"jwt_secret": SECRET}, "auth: .*jwt_secret and jwt_audience are needed together"),
        ({"jwt_audience": "livedub"}, "auth: .*jwt_secret and jwt_audience are needed together"),
        ({"jwt_secret": "canary", "jwt_audience": "livedub"}, "auth: .*jwt_secret needs at least 32 bytes"),
        ({"api_keys": ["canary"]}, "auth.api_keys.0: .*16 characters"),
        ({"api_keys": []}, "auth.api_keys: "),
        ({"api_keys": "canary"}, "auth.api_keys: "),
        ("canary", "auth: "),
    ],
)
def test_what_is_given_by_half_is_refused_by_name_and_not_shown(auth, told):
    with pytest.raises(ConfigError, match=told) as refused:
        load_args({**FAKES, "auth": auth}, {})
    assert "canary" not in str(refused.value)
