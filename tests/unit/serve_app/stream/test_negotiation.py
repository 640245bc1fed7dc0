from typing import Any

import pytest

from deployments.contracts.values import AsrCapabilities, AudioFormat, TranslationCapabilities, TtsCapabilities
from serve_app.protocol import ErrorCode, StreamInit, WireError, parse
from serve_app.stream.negotiation import ModelCapabilities, negotiate
from serve_app.stream.values import StreamLimits, StreamSettings

PAIRS = frozenset({("en", "es"), ("en", "de"), ("en", "en"), ("fr", "es")})
TTS = TtsCapabilities("mouth", {"ana": "es", "bea": "es", "all": "*"}, {"es": "ana"})
ABLE = ModelCapabilities(AsrCapabilities("ears", frozenset({"en"})), TranslationCapabilities("tongue", PAIRS), TTS)
TOLERANT = ModelCapabilities(AsrCapabilities("ears", None), TranslationCapabilities("tongue", None), TTS)


def agree(abilities: ModelCapabilities = ABLE, limits: StreamLimits | None = None, **wishes: Any) -> StreamSettings:
    config = {name: wishes.pop(name) for name in list(wishes) if name not in {"max_inflight", "timeout_ms"}}
    data = {"stream_id": "s", "worker_id": "w", "config": {"target_language": "es"} | config, **wishes}
    return negotiate(
        parse(StreamInit, data), abilities, limits or StreamLimits(), session_id="session", wall_offset_s=5.0
    )


def refused(abilities: ModelCapabilities = ABLE, **wishes: Any) -> WireError:
    with pytest.raises(WireError) as caught:
        agree(abilities, **wishes)
    assert set(caught.value.details) == {"field", "sent", "allowed"}
    return caught.value


def test_what_is_left_out_comes_from_the_protocol_and_the_servers_defaults() -> None:
    settings = agree()
    assert (settings.max_inflight, settings.timeout_ms, settings.first_sequence_number) == (3, 8000, 0)
    assert (settings.source_language, settings.target_language, settings.voice) == ("en", "es", "ana")
    assert settings.output == AudioFormat("m4a", 48_000, 1)
    assert (settings.chunk_duration_ms, settings.hints) == (6000, ())
    assert (settings.session_id, settings.wall_offset_s) == ("session", 5.0)


def test_what_the_worker_asks_for_counts_before_the_servers_defaults() -> None:
    limits = StreamLimits(max_inflight=5, timeout_ms=4000)
    assert (agree(limits=limits).max_inflight, agree(limits=limits).timeout_ms) == (5, 4000)
    asked = agree(limits=limits, max_inflight=1, timeout_ms=1000)
    assert (asked.max_inflight, asked.timeout_ms) == (1, 1000)


def test_tags_work_where_the_base_language_does() -> None:
    settings = agree(source_language="en-US", target_language="es-MX", domain_hints="chess")
    assert (settings.source_language, settings.target_language, settings.hints) == ("en", "es", ("chess",))


def test_a_pair_that_is_not_translated_is_refused_with_those_that_are() -> None:
    error = refused(target_language="ja")
    assert error.code is ErrorCode.UNSUPPORTED_LANGUAGE_PAIR
    assert error.details["field"] == "config.target_language"
    assert error.details["sent"] == "en→ja"
    assert error.details["allowed"] == "en→de, en→en, en→es", "fr is not heard"


def test_a_language_that_is_not_heard_is_refused() -> None:
    assert refused(source_language="fr").details["field"] == "config.source_language"


def test_a_language_is_not_translated_into_itself() -> None:
    assert refused(target_language="en").code is ErrorCode.UNSUPPORTED_LANGUAGE_PAIR


def test_a_language_that_no_voice_speaks_is_refused() -> None:
    tts = TtsCapabilities("mouth", {"ana": "es"}, {"es": "ana"})
    error = refused(ModelCapabilities(ABLE.asr, ABLE.translation, tts), target_language="de")
    assert error.details["allowed"] == "en→es"


def test_where_any_pair_goes_the_ends_are_told() -> None:
    tts = TtsCapabilities("mouth", {"ana": "es"}, {"es": "ana"})
    anywhere = refused(ModelCapabilities(TOLERANT.asr, TOLERANT.translation, tts), target_language="de")
    assert anywhere.details["allowed"] == "from any language to es"
    from_english = refused(ModelCapabilities(ABLE.asr, TOLERANT.translation, tts), target_language="de")
    assert from_english.details["allowed"] == "from en to es"


def test_a_voice_that_speaks_the_language_or_any_is_taken() -> None:
    assert agree(voice_profile="bea").voice == "bea"
    assert agree(voice_profile="all", target_language="de").voice == "all"


@pytest.mark.parametrize("profile", ["nobody", "../../etc/passwd", "ANA"])
def test_an_unknown_voice_is_refused_with_those_that_fit(profile: str) -> None:
    error = refused(voice_profile=profile)
    assert error.code is ErrorCode.INVALID_VOICE_PROFILE
    assert error.details == {"field": "config.voice_profile", "sent": profile, "allowed": "all, ana, bea, default"}


def test_a_voice_of_another_language_is_refused() -> None:
    assert refused(voice_profile="ana", target_language="de").details["allowed"] == "all"


def test_default_is_no_voice_where_the_language_has_none() -> None:
    assert refused(target_language="de").details["sent"] == "default"


def test_default_may_be_a_voice_for_any_language() -> None:
    tts = TtsCapabilities("mouth", {"all": "*"}, {"*": "all"})
    assert agree(ModelCapabilities(ABLE.asr, ABLE.translation, tts), target_language="de").voice == "all"


def test_the_models_are_told_when_the_stream_is_ready() -> None:
    assert ABLE.wire.asr_model == "ears"
    assert (ABLE.wire.translation_model, ABLE.wire.tts_model) == ("tongue", "mouth")


@pytest.mark.parametrize(
    ("voices", "faster"), [({}, ""), ({"es": "fast"}, "fast"), ({"*": "any"}, "any"), ({"fr": "x"}, "")]
)
def test_the_faster_voice_is_that_of_the_target_language(voices: dict[str, str], faster: str) -> None:
    tts = TtsCapabilities("mouth", TTS.voices, TTS.default_voices, faster_voices=voices)
    assert agree(ModelCapabilities(ABLE.asr, ABLE.translation, tts)).faster_voice == faster


@pytest.mark.parametrize(("needs_ms", "kept_ms"), [(900, 900), (20_000, 4000)])
def test_the_faster_voice_has_what_it_needs_and_leaves_half_of_the_time(needs_ms: int, kept_ms: int) -> None:
    tts = TtsCapabilities("mouth", TTS.voices, TTS.default_voices, faster_voices={"es": "f"}, faster_needs_ms=needs_ms)
    assert agree(ModelCapabilities(ABLE.asr, ABLE.translation, tts), timeout_ms=8000).faster_needs_ms == kept_ms
