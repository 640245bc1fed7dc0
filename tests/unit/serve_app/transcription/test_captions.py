from deployments.contracts.values import Word
from deployments.errors import DeadlineExceeded, ModelFailed, Stage
from serve_app.protocol import AudioStart, TranscriptionConfig
from serve_app.transcription.captions import Captions, Translated
from serve_app.transcription.events import Final, Interim, Statistics


def captions(*languages: str, most: int = 100) -> Captions:
    config = TranscriptionConfig(source_language="en-GB", translate_to=list(languages))
    return Captions("s", AudioStart(config=config, reconnections=2), most)


def test_an_update_keeps_apart_what_stays_and_what_may_change():
    told = captions().update(Interim(500, 1500, "it was", " the")).to_wire()
    assert told == {"stream_id": "s", "start_ms": 500, "end_ms": 1500, "committed": "it was", "tentative": " the"}


def test_a_final_tells_words_with_times_and_no_language_that_nobody_asked_for():
    final = Final(0, 900, "hello", (Word("hello", 100, 400, 0.123456),), 0.98765, "ears", utterance_over=False)
    told = captions().final(final, None).to_wire()
    assert told == {
        "stream_id": "s",
        "start_ms": 0,
        "end_ms": 900,
        "text": "hello",
        "words": ({"text": "hello", "start_ms": 100, "end_ms": 400, "confidence": 0.1235},),
        "confidence": 0.9877,
        "language": "en-GB",
        "utterance_over": False,
        "model": "ears",
    }


def test_a_language_that_fails_costs_no_other_and_not_the_final():
    late = DeadlineExceeded(Stage.TRANSLATION, "late")
    told = captions("es", "fr").final(Final(0, 900, "hello"), Translated({"es": "hola"}, {"fr": late})).to_wire()
    assert told["translations"] == {"es": "hola"}
    assert told["translation_errors"] == {
        "fr": {"stage": "translation", "code": "TIMEOUT", "message": "late", "retryable": True}
    }


def test_a_final_that_recognition_failed_on_says_why_it_is_empty():
    told = captions().final(Final(0, 900, "", failure=ModelFailed(Stage.ASR, "no")), None).to_wire()
    assert (told["text"], told["error"]["code"], told["error"]["stage"]) == ("", "MODEL_ERROR", "asr")


def test_the_end_tells_all_texts_and_counts():
    made = captions("es", "fr", most=11)
    made.chunks_received, made.chunks_forwarded, made.bytes_received, made.refusals = 9, 8, 7000, 1
    made.update(Interim(0, 500, "", "one"))
    made.final(Final(0, 900, "one two"), Translated({"es": "uno dos"}, {"fr": ModelFailed(Stage.TRANSLATION, "no")}))
    made.final(Final(900, 1800, "three"), Translated({"es": "tres", "fr": "trois"}))
    counts = Statistics(audio_ms=1800, interims=3, interims_dropped=4, finals=2, revised_words=5, errors=6)
    told = made.complete("x", "idle", counts, 2000).to_wire()
    assert told["transcript"] == "three"
    assert told["dropped_characters"] == len("one two ")
    assert told["translations"] == {"es": "tres", "fr": "trois"}
    assert told["reason"] == "idle"
    assert told["metrics"] == {
        "chunks_received": 9,
        "chunks_forwarded": 8,
        "bytes_received": 7000,
        "audio_ms": 1800,
        "duration_ms": 2000,
        "transcripts": 2,
        "updates": 1,
        "updates_dropped": 2 + 4,
        "revised_words": 5,
        "translations": 3,
        "errors": 1 + 6 + 1,
        "reconnections": 2,
    }
