"""voices.json: what it may hold, and which part of it an engine speaks."""

import json
import pickle
from pathlib import Path

import pytest
from pydantic import ValidationError

from deployments.tts.voices import VoiceBook

REPOSITORY = Path(__file__).parents[4]


def book(**changes):
    content = {
        "voices": {
            "spanish_one": {"model": "kokoro", "language": "es", "speaker": "jm_kumo"},
            "spanish_fast": {"model": "espeak", "language": "es", "speaker": "es-419", "description": "quick"},
            "english_one": {"model": "kokoro", "language": "en", "speaker": "jm_kumo"},
        },
        "default_voice_per_language": {"es": ["spanish_one", "spanish_fast"], "en": "english_one"},
    }
    return json.dumps(content | changes)


def test_an_engine_gets_the_voices_of_its_model():
    voices, defaults = VoiceBook.parse(book()).for_engine(frozenset({"espeak"}))
    assert list(voices) == ["spanish_fast"]
    voice = voices["spanish_fast"]
    assert (voice.name, voice.model, voice.language, voice.speaker) == ("spanish_fast", "espeak", "es", "es-419")
    assert voice.description == "quick"
    assert defaults == {"es": "spanish_fast"}


def test_the_first_default_that_the_engine_speaks_is_taken():
    _, defaults = VoiceBook.parse(book()).for_engine(frozenset({"kokoro", "espeak"}))
    assert defaults == {"es": "spanish_one", "en": "english_one"}


def test_an_engine_without_models_of_its_own_speaks_every_voice_in_any_language():
    voices, defaults = VoiceBook.parse(book()).for_engine(None)
    assert list(voices) == ["spanish_one", "spanish_fast", "english_one"]
    assert {voice.language for voice in voices.values()} == {"*"}
    assert defaults == {"*": "spanish_one"}


def test_an_engine_that_no_voice_is_for_is_refused():
    with pytest.raises(ValueError, match=r"no voice has model xtts_v2.*espeak.*kokoro"):
        VoiceBook.parse(book()).for_engine(frozenset({"xtts_v2"}))


def test_the_form_of_the_specification_is_read():
    text = """{"voices": {"spanish_male_1": {"model": "xtts_v2", "speaker_wav": "/models/voices/es_male_1.wav",
        "language": "es", "description": "neutral accent"}},
        "default_voice_per_language": {"es": "spanish_male_1"}}"""
    voices, defaults = VoiceBook.parse(text).for_engine(frozenset({"xtts_v2"}))
    assert voices["spanish_male_1"].speaker_wav == "/models/voices/es_male_1.wav"
    assert defaults == {"es": "spanish_male_1"}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"voices": {"a": {"model": "kokoro", "language": "es", "speeker": "x"}}}, r"voices\.a\.speeker"),
        ({"voices": {"a": {"language": "es"}}}, r"voices\.a\.model"),
        ({"voices": {"a": {"model": "kokoro", "language": "es-ES"}}}, r"voices\.a\.language"),
        ({"voices": {"../etc/passwd": {"model": "kokoro", "language": "es"}}}, r"\.\./etc/passwd"),
        ({"voices": {}}, "voices"),
        ({"default_voice_per_language": {"es": "nobody"}}, r"default_voice_per_language\.es names 'nobody'"),
        ({"default_voice_per_language": {"es": "english_one"}}, "'english_one', which speaks 'en'"),
        ({"default_voice_per_language": {"es": []}}, r"default_voice_per_language\.es"),
        ({"default_voices": {}}, "default_voices"),
    ],
)
def test_wrong_content_is_refused_by_name(changes, named):
    with pytest.raises(ValidationError, match=named):
        VoiceBook.parse(book(**changes))


def test_a_book_crosses_processes():
    original = VoiceBook.parse(book())
    assert pickle.loads(pickle.dumps(original)) == original  # noqa: S301 - our own bytes


@pytest.mark.parametrize("model", ["kokoro", "espeak"])
def test_the_shipped_book_serves_the_embedded_engines_in_both_languages(model):
    voices, defaults = VoiceBook.read(REPOSITORY / "configs" / "voices.json").for_engine(frozenset({model}))
    assert set(defaults) == {"es", "en"}
    assert all(voice.description for voice in voices.values())
