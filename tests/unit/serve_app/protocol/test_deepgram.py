"""The query and the messages of `/v1/listen`."""

import pytest

from deployments.contracts.values import CONTAINER, OPUS_PACKETS, AudioFormat, Word
from serve_app.protocol.deepgram import InvalidQuery, parse_query, recording, results

RAW = "encoding=linear16&sample_rate=16000"


def test_the_defaults_are_deepgrams():
    query = parse_query(RAW)
    assert (query.base_language, query.channels, query.interim_results, query.endpointing) == ("en", 1, False, 10)
    assert (query.vad_events, query.formatted, query.utterance_end_ms) == (False, False, None)
    assert query.audio_format() == AudioFormat("pcm_s16le", 16_000, 1)


@pytest.mark.parametrize("value", ["true", "True", "TRUE"])
def test_switches_are_read_in_any_case(value):
    query = parse_query(f"{RAW}&interim_results={value}&smart_format={value}")
    assert query.interim_results
    assert query.formatted


@pytest.mark.parametrize(("sent", "meant"), [("300", 300), ("false", None), ("False", None), ("true", 10)])
def test_endpointing_is_a_number_or_a_switch(sent, meant):
    assert parse_query(f"{RAW}&endpointing={sent}").endpointing == meant


def test_words_to_expect_come_as_repeated_keys_and_without_their_boosts():
    query = parse_query(f"{RAW}&keyterm=Dashwood&keyterm=Norland%20Park&keywords=Elinor:2&keywords=%20")
    assert query.hints == ("Dashwood", "Norland Park", "Elinor")


def test_what_is_not_known_is_ignored_and_any_model_is_taken():
    query = parse_query(f"{RAW}&model=nova-3-medical&diarize=true&unheard_of=1&tag=a&tag=b")
    assert query.model == "nova-3-medical"


@pytest.mark.parametrize(
    ("sent", "named"),
    [
        ("encoding=g729&sample_rate=8000", "encoding='g729'"),
        ("encoding=linear16&sample_rate=fast", "sample_rate='fast'"),
        ("encoding=linear16&sample_rate=4000", "sample_rate='4000'"),
        (f"{RAW}&channels=0", "channels='0'"),
        (f"{RAW}&channels=99", "channels='99'"),
        (f"{RAW}&interim_results=maybe", "interim_results='maybe'"),
        (f"{RAW}&endpointing=-1", "endpointing='-1'"),
        (f"{RAW}&multichannel=true", "multichannel="),
        (f"{RAW}&utterance_end_ms=soon", "utterance_end_ms='soon'"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_what_was_sent(sent, named):
    with pytest.raises(InvalidQuery, match=named):
        parse_query(sent)


def test_an_encoding_that_is_not_supported_is_answered_with_those_that_are():
    with pytest.raises(InvalidQuery, match="linear16, linear32, mulaw, alaw"):
        parse_query("encoding=speex&sample_rate=16000")


def test_raw_audio_whose_rate_is_not_told_is_refused():
    with pytest.raises(InvalidQuery, match="sample_rate is needed"):
        parse_query("encoding=mulaw").audio_format()


@pytest.mark.parametrize(
    ("sent", "container"),
    [
        ("model=nova", CONTAINER),
        ("encoding=ogg-opus", CONTAINER),
        ("encoding=opus&sample_rate=48000", OPUS_PACKETS),
        ("encoding=mulaw&sample_rate=8000", "mulaw"),
    ],
)
def test_audio_without_an_encoding_shows_itself_what_it_is(sent, container):
    assert parse_query(sent).audio_format().container == container


def test_a_recording_is_told_in_parts_where_pauses_are():
    words = [Word("One,", 0, 400, 0.8), Word("two.", 500, 900, 0.6), Word("Three", 1800, 2000, 0.9)]
    query = parse_query("utterances=true&utt_split=0.8&punctuate=true")
    told = recording(query, {"request_id": "r"}, ["One, two.", "", "Three"], words, 0.75)
    [channel] = told["results"]["channels"]
    assert channel["alternatives"][0]["transcript"] == "One, two. Three"
    first, second = told["results"]["utterances"]
    assert (first["transcript"], first["start"], first["end"], first["confidence"]) == ("One, two.", 0.0, 0.9, 0.7)
    assert (second["transcript"], len(second["words"])) == ("Three", 1)


def test_a_recording_of_silence_has_an_empty_transcript():
    told = recording(parse_query("utterances=true"), {}, [], [], 0.0)
    assert told["results"]["channels"][0]["alternatives"] == [{"transcript": "", "confidence": 0.0, "words": []}]
    assert told["results"]["utterances"] == []


def test_too_many_fields_are_refused_before_they_are_kept():
    with pytest.raises(InvalidQuery, match="at most 500"):
        parse_query("&".join(f"keyterm={at}" for at in range(600)))


def message(query: str, text: str = "It's Mr. Dashwood's, isn't it?") -> dict:
    words = (Word("It's", 100, 300, 0.91234), Word("Mr.", 300, 500, 0.8))
    return results(
        parse_query(query),
        {"request_id": "r"},
        start_ms=0,
        end_ms=1500,
        text=text,
        words=words,
        confidence=0.87654,
        is_final=True,
        speech_final=True,
        from_finalize=False,
    )


def test_without_formatting_there_are_no_capitals_and_no_punctuation_but_within_words():
    told = message(RAW)["channel"]["alternatives"][0]
    assert told["transcript"] == "it's mr dashwood's isn't it"
    assert told["words"][0] == {"word": "it's", "start": 0.1, "end": 0.3, "confidence": 0.9123}


def test_with_formatting_the_text_is_whole_and_words_have_both_forms():
    told = message(f"{RAW}&punctuate=true")["channel"]["alternatives"][0]
    assert told["transcript"] == "It's Mr. Dashwood's, isn't it?"
    assert (told["words"][1]["word"], told["words"][1]["punctuated_word"]) == ("mr", "Mr.")


def test_a_result_has_all_that_clients_read():
    told = message(RAW)
    assert (told["type"], told["channel_index"], told["start"], told["duration"]) == ("Results", [0, 1], 0.0, 1.5)
    assert (told["is_final"], told["speech_final"], told["from_finalize"]) == (True, True, False)
    assert told["metadata"] == {"request_id": "r"}


def test_a_colon_within_words_to_expect_is_theirs_and_only_a_boost_is_cut_off():
    query = parse_query(f"{RAW}&keyterm=Star%20Trek:%20Picard&keywords=snuffleupagus:-1.5&keywords=Re:Mind&keywords=:2")
    assert query.hints == ("Star Trek: Picard", "snuffleupagus", "Re:Mind")


@pytest.mark.parametrize("text", ["हिन्दी", "cafe\u0301", "ที่", "مرحبًا"])
def test_marks_that_belong_to_letters_are_no_punctuation(text):
    assert message(RAW, f"«{text}!»")["channel"]["alternatives"][0]["transcript"] == text


def test_text_of_nothing_but_punctuation_says_nothing_without_formatting():
    assert message(RAW, "... — !")["channel"]["alternatives"][0]["transcript"] == ""


@pytest.mark.parametrize(
    ("sent", "allowed"),
    [
        ("encoding=linear16&sample_rate=4000", "greater than or equal to 8000"),
        ("encoding=linear16&sample_rate=999999", "less than or equal to 192000"),
        (f"{RAW}&channels=9", "less than or equal to 8"),
        (f"{RAW}&vad_events=maybe", "valid boolean"),
        (f"{RAW}&utterance_end_ms=", "valid integer"),
        (f"{RAW}&multichannel=True", "mixed into one"),
    ],
)
def test_a_refused_value_is_answered_with_what_is_allowed(sent, allowed):
    with pytest.raises(InvalidQuery, match=allowed):
        parse_query(sent)


def test_a_long_value_is_cut_in_the_message_and_no_control_character_gets_into_it():
    with pytest.raises(InvalidQuery) as refused:
        parse_query(f"{RAW}&endpointing=%0d%0aX-Evil:1{'9' * 5000}")
    assert len(str(refused.value)) < 300
    assert str(refused.value).isprintable()


def test_the_last_of_a_repeated_single_value_counts():
    assert parse_query(f"{RAW}&language=de&language=en-US").base_language == "en"
