"""What becomes of results in subtitles."""

from deployments.media.captions import TimedWord
from livedub.cues import heard_words, source_words, target_words, translated_words
from livedub.fragment import Failure, FragmentResult
from serve_app.protocol import FragmentProcessed, TranscriptFinal, WordTiming


def result(
    transcript: str | None, translation: str | None, segments: list[tuple[int, int, str]] | None = None, words=None
):
    entries = [
        {"start_ms": a, "end_ms": b, "text": text, "confidence": 0.9, "words": words} for a, b, text in segments or []
    ]
    asset = {"asset_id": "t", "parent_asset_ids": [], "language": "en", "segments": entries}
    processed = FragmentProcessed.model_validate(
        {
            "fragment_id": "f",
            "stream_id": "s",
            "sequence_number": 0,
            "status": "success",
            "transcript": transcript,
            "translated_text": translation,
            "processing_time_ms": 1,
            "stage_timings": {},
            "metadata": {"original_duration_ms": 1},
            "assets": {"transcript": asset} if segments is not None else {},
        },
        strict=False,
    )
    return FragmentResult("f", 0, "success", processed, None, 1, 1)


def test_words_are_said_when_the_recogniser_says() -> None:
    words = [{"text": "Good", "start_ms": 6150, "end_ms": 6400, "confidence": 1.0},
             {"text": "day.", "start_ms": 6500, "end_ms": 6900, "confidence": 1.0}]  # fmt: skip
    spoken = result("a", "b", [(6100, 7000, " Good day. ")], words)

    assert source_words(spoken, 6000, 6000) == [TimedWord("Good", 6150, 6400), TimedWord("day.", 6500, 6900, last=True)]
    assert [word.start_ms for word in target_words(spoken, 6000, 6000)] == [6150]


def test_without_words_they_are_spread_over_their_segments() -> None:
    spoken = result("a b", "Buenos días.", [(6100, 7000, "Good day."), (7500, 9000, "Bye.")])

    assert [(w.text, w.start_ms) for w in source_words(spoken, 6000, 6000)] == [
        ("Good", 6100),
        ("day.", 6550),
        ("Bye.", 7500),
    ]
    first, second = target_words(spoken, 6000, 6000)
    assert (first.start_ms, second.end_ms) == (6100, 9000)


def test_without_segments_the_fragment_is_the_span() -> None:
    assert source_words(result("a", "b"), 6000, 5000) == [TimedWord("a", 6000, 11_000, last=True)]
    assert target_words(result("a", "b", []), 6000, 5000) == [TimedWord("b", 6000, 11_000, last=True)]


def test_words_that_do_not_make_the_text_are_not_believed() -> None:
    words = [{"text": "Gut", "start_ms": 6150, "end_ms": 6400, "confidence": 1.0}]
    spoken = result("a", "b", [(6100, 7000, "Good day.")], words)

    assert [word.text for word in source_words(spoken, 6000, 6000)] == ["Good", "day."]


def test_nothing_said_and_nothing_processed_give_no_words() -> None:
    refused = FragmentResult("f", 0, "failed", None, Failure("TIMEOUT", "late", retryable=True), 6, 1)
    for silent in (result("", ""), result(None, None), refused):
        assert source_words(silent, 0, 1000) == []
        assert target_words(silent, 0, 1000) == []


def final(text: str, *words: tuple[str, int, int], **more) -> TranscriptFinal:
    timings = tuple(WordTiming(text=one, start_ms=start, end_ms=end, confidence=1.0) for one, start, end in words)
    return TranscriptFinal(
        stream_id="s", start_ms=1000, end_ms=3000, text=text, words=timings, confidence=1.0, language="en",
        **{"utterance_over": True} | more,
    )  # fmt: skip


def test_words_of_a_final_stand_where_they_are_said_and_the_last_ends_what_was_said_in_one_go() -> None:
    told = (("Good", 1200, 1500), ("evening.", 1500, 2000))
    assert heard_words(final("Good evening.", *told)) == [
        TimedWord("Good", 1200, 1500),
        TimedWord("evening.", 1500, 2000, last=True),
    ]
    assert not heard_words(final("Good evening.", *told, utterance_over=False))[-1].last


def test_a_final_without_times_of_words_is_spread_over_its_time() -> None:
    words = heard_words(final("Good evening."))
    assert [word.text for word in words] == ["Good", "evening."]
    assert (words[0].start_ms, words[-1].end_ms) == (1000, 3000)


def test_a_translation_is_shown_while_the_original_is_said() -> None:
    said = final("Good evening.", ("Good", 1200, 1500), ("evening.", 1600, 2000), translations={"es": "Buenas tardes."})
    words = translated_words(said, "es")
    assert [word.text for word in words] == ["Buenas", "tardes."]
    assert (words[0].start_ms, words[-1].end_ms) == (1200, 2000)
    assert translated_words(said, "fr") == []
