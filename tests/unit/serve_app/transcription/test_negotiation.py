import pytest

from deployments.contracts.values import AsrCapabilities, TranslationCapabilities
from serve_app.protocol import ErrorCode, TranscriptionConfig, WireError
from serve_app.transcription.negotiation import check_languages, settings_of

ENGLISH = AsrCapabilities("ears", frozenset({"en"}))
ANY_LANGUAGE = AsrCapabilities("ears", None)
SPANISH = TranslationCapabilities("tongue", frozenset({("en", "es"), ("en", "pt"), ("de", "en")}))
ANY_PAIR = TranslationCapabilities("tongue", None)


def config(*languages: str, source: str = "en") -> TranscriptionConfig:
    return TranscriptionConfig(source_language=source, translate_to=list(languages))


@pytest.mark.parametrize(
    ("asked", "asr", "translation"),
    [
        (config(), ENGLISH, SPANISH),
        (config("es", "pt-BR", source="en-US"), ENGLISH, SPANISH),
        (config("fr", source="de"), ANY_LANGUAGE, ANY_PAIR),
        (config(source="xx"), ANY_LANGUAGE, SPANISH),
    ],
)
def test_what_the_models_offer_is_let_in(asked, asr, translation):
    check_languages(asked, asr, translation)


@pytest.mark.parametrize(
    ("asked", "asr", "translation", "code", "field", "allowed"),
    [
        (config(source="fr"), ENGLISH, SPANISH, ErrorCode.UNSUPPORTED_LANGUAGE, "config.source_language", "en"),
        (config("es", "fr"), ENGLISH, SPANISH, ErrorCode.UNSUPPORTED_LANGUAGE_PAIR, "config.translate_to", "es, pt"),
        (config("en"), ENGLISH, ANY_PAIR, ErrorCode.UNSUPPORTED_LANGUAGE_PAIR, "config.translate_to", "any but en"),
        (config("es", source="fr"), ANY_LANGUAGE, SPANISH, ErrorCode.UNSUPPORTED_LANGUAGE_PAIR, "config.translate_to",
         "none"),
    ],
)  # fmt: skip
def test_what_they_do_not_is_refused_with_what_is_allowed(asked, asr, translation, code, field, allowed):
    with pytest.raises(WireError) as refused:
        check_languages(asked, asr, translation)
    assert refused.value.code == code
    assert refused.value.details["field"] == field
    assert refused.value.details["allowed"] == allowed


def test_the_core_is_asked_for_what_the_client_wants():
    asked = TranscriptionConfig(source_language="en-US", interims=False, endpointing_ms=900, domain_hints=["chess"])
    settings = settings_of(asked)
    assert (settings.language, settings.interims, settings.endpointing_ms) == ("en", False, 900)
    assert settings.hints == ("chess",)
