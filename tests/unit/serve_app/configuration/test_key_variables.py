"""DeepL's key comes from the environment under the names that its own tools read, and is never shown."""

import pytest

from serve_app.configuration.loading import ConfigError, effective, load_args

KEY = "canary-1:fx"


def args(**translation) -> dict[str, object]:
    return {"asr": {"engine": "fake"}, "translation": {"engine": "deepl", **translation}, "tts": {"engine": "fake"}}


def origin(given, environ) -> tuple[object, str]:
    [setting] = [s for s in effective(given, {}, environ) if s.path == "translation.api_key"]
    return setting.value, setting.origin


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"DEEPL_API_KEY": KEY}, "DEEPL_API_KEY"),
        ({"DEEPL_AUTH_KEY": KEY}, "DEEPL_AUTH_KEY"),
        ({"DEEPL_API_KEY": "", "DEEPL_AUTH_KEY": KEY}, "DEEPL_AUTH_KEY"),
        ({"DEEPL_API_KEY": KEY, "DEEPL_AUTH_KEY": "other"}, "DEEPL_API_KEY"),
        ({"LIVEDUB_TRANSLATION__API_KEY": KEY, "DEEPL_API_KEY": "other"}, "LIVEDUB_TRANSLATION__API_KEY"),
    ],
)
@pytest.mark.parametrize("given", [args(), args(api_key="from-the-file")])
def test_the_environment_gives_the_key_and_is_named(environ, name, given):
    assert load_args(given, environ).translation.api_key.get_secret_value() == KEY
    assert origin(given, environ) == ("**********", name)


def test_a_key_in_the_file_counts_where_the_environment_has_none():
    assert origin(args(api_key=KEY), {}) == ("**********", "file")


def test_the_environment_may_name_the_engine_too():
    given = {**args(), "translation": {"engine": "fake"}}
    environ = {"LIVEDUB_TRANSLATION__ENGINE": "deepl", "DEEPL_API_KEY": KEY}
    assert load_args(given, environ).translation.api_key.get_secret_value() == KEY


def test_no_other_engine_gets_the_key():
    given = {**args(), "translation": {"engine": "fake"}}
    assert load_args(given, {"DEEPL_API_KEY": KEY}).translation.engine == "fake"


@pytest.mark.parametrize("environ", [{}, {"DEEPL_API_KEY": ""}, {"DEEPL_API_KEY": " \n"}])
def test_a_configuration_is_read_without_a_key_too(environ):
    assert load_args(args(), environ).translation.api_key is None
    assert origin(args(), environ)[0] is None


def test_a_key_that_can_be_none_is_refused_and_not_shown():
    with pytest.raises(ConfigError, match=r"translation\.api_key \(from DEEPL_AUTH_KEY\)") as refused:
        load_args(args(), {"DEEPL_AUTH_KEY": "canary one\ncanary two"})
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"glossaries": {"enes": "x"}}, "'enes' is not a pair"),
        ({"variants": {"en": "PT-BR"}}, "'PT-BR' is no variant of 'en'"),
        ({"server_url": "api.deepl.com"}, "translation.server_url"),
        ({"max_batch_size": 51}, "translation.max_batch_size"),
    ],
)
def test_mistakes_are_told(options, told):
    with pytest.raises(ConfigError, match=told):
        load_args(args(**options), {"DEEPL_API_KEY": KEY})
