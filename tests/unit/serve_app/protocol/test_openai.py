"""What OpenAI's clients send and read, without a server."""

import pytest

from deployments.contracts.values import Word
from serve_app.protocol.openai import (
    Heard,
    InvalidRequest,
    SpeechBody,
    TranscriptionForm,
    TranslationForm,
    chosen_voice,
    form_fields,
    language_name,
    rendered,
)

WORDS = (Word("Hello,", 0, 300, 0.9), Word("world.", 300, 700, 0.8), Word("Again", 900, 1300, 0.7))
HEARD = [Heard(0, 5000, "Hello, world. Again", WORDS), Heard(5000, 9000, ""), Heard(9000, 9900, "Bye")]
VOICES = {"anna": "en", "juan": "es"}
DEFAULTS = {"es": "juan", "en": "anna"}


def form(**fields):
    return TranscriptionForm.parsed({"model": "whisper-1", **fields})


def test_fields_of_a_form_come_under_both_spellings_of_a_list():
    pairs = [
        ("model", "m"),
        ("keywords[]", "a"),
        ("keywords[]", "b"),
        ("timestamp_granularities", "word"),
        ("odd[key]", "x"),
    ]
    fields = form_fields(pairs)
    assert fields["keywords"] == ("a", "b")
    parsed = TranscriptionForm.parsed(fields)
    assert (parsed.timestamp_granularities, parsed.hints) == (("word",), ("a", "b"))


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"response_format": "diarized_json"}, "response_format", "not told apart here; allowed: json"),
        ({"response_format": "yaml"}, "response_format", "'json', 'text', 'srt', 'verbose_json' or 'vtt'"),
        ({"stream": "perhaps"}, "stream", "stream='perhaps'"),
        ({"timestamp_granularities": ("letter",)}, "timestamp_granularities.0", "'word' or 'segment'"),
        ({"model": ""}, "model", "at least 1"),
    ],
)
def test_a_field_that_is_wrong_is_named_with_what_was_sent_and_what_is_allowed(fields, param, message):
    with pytest.raises(InvalidRequest, match=message) as refused:
        form(**fields)
    assert refused.value.param == param


def test_a_field_that_is_missing_is_named():
    with pytest.raises(InvalidRequest, match="model is missing"):
        TranscriptionForm.parsed({})


def test_prompt_and_keywords_are_words_to_expect():
    assert form(prompt=" Norland Park ", keywords=("Elinor", " ")).hints == ("Elinor", "Norland Park")


def test_languages_are_told_by_their_base():
    assert (form(language="en-US").base_language, form().base_language) == ("en", None)
    assert TranslationForm.parsed({"model": "m", "to_language": "es-MX"}).target_language == "es"


def test_json_is_the_text_and_how_long_it_lasted():
    assert rendered(form(), HEARD, "en", 9900, "transcribe") == {
        "text": "Hello, world. Again Bye", "usage": {"type": "duration", "seconds": 10},
    }  # fmt: skip
    assert rendered(form(response_format="text"), HEARD, "en", 9900, "transcribe") == "Hello, world. Again Bye\n"


def test_subtitles_stand_where_words_are_said():
    srt = rendered(form(response_format="srt"), HEARD, "en", 9900, "transcribe")
    vtt = rendered(form(response_format="vtt"), HEARD, "en", 9900, "transcribe")
    assert "00:00:00,000 -->" in srt
    assert "00:00:09,000 -->" in srt
    assert vtt.startswith("WEBVTT")
    assert "Hello, world." in vtt


def test_verbose_json_has_segments_at_the_ends_of_sentences():
    verbose = rendered(form(response_format="verbose_json"), HEARD, "en", 9900, "transcribe")
    assert (verbose["task"], verbose["language"], verbose["duration"]) == ("transcribe", "english", 9.9)
    assert "words" not in verbose
    assert [(one["text"], one["start"], one["end"]) for one in verbose["segments"]] == [
        ("Hello, world.", 0.0, 0.7), ("Again", 0.9, 1.3), ("Bye", 9.0, 9.9),
    ]  # fmt: skip
    assert [one["id"] for one in verbose["segments"]] == [0, 1, 2]
    assert verbose["segments"][0]["avg_logprob"] < 0
    assert verbose["segments"][0]["compression_ratio"] > 0


@pytest.mark.parametrize(
    ("granularities", "there"),
    [
        ((), {"segments"}),
        (("segment",), {"segments"}),
        (("word",), {"words"}),
        (("word", "segment"), {"words", "segments"}),
    ],
)
def test_granularities_decide_what_is_told(granularities, there):
    asked = form(response_format="verbose_json", timestamp_granularities=granularities)
    verbose = rendered(asked, HEARD, "en", 9900, "transcribe")
    assert {"words", "segments"} & set(verbose) == there


def test_a_long_stretch_without_a_sentences_end_is_cut():
    words = tuple(Word(f"w{n}", n * 500, n * 500 + 400, 0.9) for n in range(60))
    verbose = rendered(form(response_format="verbose_json"), [Heard(0, 30_000, "…", words)], "en", 30_000, "transcribe")
    assert len(verbose["segments"]) == 2


def test_silence_is_an_empty_text():
    empty = rendered(form(response_format="verbose_json"), [Heard(0, 5000, "")], "en", 5000, "transcribe")
    assert (empty["text"], empty["segments"]) == ("", [])


def test_translated_text_without_words_is_spread_over_the_times_when_somebody_spoke():
    heard = [Heard(0, 10_000, "Hola mundo", spans=((2000, 4000),))]
    srt = rendered(form(response_format="srt"), heard, "es", 10_000, "translate")
    assert "00:00:02,000 -->" in srt


def speech(**fields):
    return SpeechBody.parsed({"model": "tts-1", "input": "Hello", "voice": "alloy", **fields})


@pytest.mark.parametrize(
    ("fields", "voice"),
    [
        ({"voice": "juan"}, "juan"),
        ({"voice": {"id": "juan"}}, "juan"),
        ({"voice": "alloy"}, "anna"),
        ({"voice": "default"}, "anna"),
        ({"voice": "nova", "language": "es-ES"}, "juan"),
    ],
)
def test_voices_are_ours_by_name_and_openais_mean_the_default_one(fields, voice):
    assert chosen_voice(speech(**fields), VOICES, DEFAULTS) == voice


def test_without_an_english_voice_openais_names_mean_the_first_default():
    assert chosen_voice(speech(), {"juan": "es"}, {"es": "juan"}) == "juan"


@pytest.mark.parametrize(
    ("fields", "message"), [({"voice": "nobody"}, "anna, juan"), ({"language": "fr"}, "languages that have: en, es")]
)
def test_a_voice_that_is_not_there_is_answered_with_those_that_are(fields, message):
    with pytest.raises(InvalidRequest, match=message):
        chosen_voice(speech(**fields), VOICES, DEFAULTS)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": "x" * 4097}, "input"),
        ({"input": " \n"}, None),
        ({"speed": 5}, "speed"),
        ({"response_format": "wma"}, "response_format"),
        ({"voice": 5}, "voice"),
        ({"voice": {}}, "voice"),
        ({"stream_format": "tape"}, "stream_format"),
    ],
)
def test_speech_that_can_not_be_made_is_refused(fields, param):
    with pytest.raises(InvalidRequest) as refused:
        speech(**fields)
    assert refused.value.param == param


def test_a_language_without_a_name_is_told_by_its_tag():
    assert (language_name("es"), language_name("xx"), language_name("not a tag")) == ("spanish", "xx", "not a tag")
