from livedub.transcript_totals import TranscriptTotals, placed
from serve_app.protocol import AudioReady, TranscriptComplete, TranscriptFinal, TranscriptionStatistics, WordTiming

COUNTS = TranscriptionStatistics(**dict.fromkeys(TranscriptionStatistics.model_fields, 1))
LAST = TranscriptComplete(
    stream_id="s", session_id="x", reason="ended", transcript="two", dropped_characters=0, translations={"es": "dos"},
    metrics=COUNTS,
)  # fmt: skip


def final(text: str, start_ms: int = 0, **more) -> TranscriptFinal:
    words = (WordTiming(text=text, start_ms=start_ms, end_ms=start_ms + 100, confidence=1.0),)
    return TranscriptFinal(
        stream_id="s", start_ms=start_ms, end_ms=start_ms + 500, text=text, words=words, confidence=1.0, language="en",
        utterance_over=True, **more,
    )  # fmt: skip


def totals(most: int = 100) -> TranscriptTotals:
    made = TranscriptTotals()
    made.opened(
        AudioReady(stream_id="s", session_id="x", idle_timeout_s=1, max_session_s=1, max_transcript_characters=most)
    )
    return made


def test_of_one_connection_the_servers_summary_stands():
    assert totals().complete(LAST, 0) is LAST


def test_of_several_it_is_what_all_have_brought():
    made = totals()
    made.update()
    made.update()
    made.final(final("one", translations={"es": "uno"}))
    made.final(placed(final("two", translations={"es": "dos"}), 500))
    told = made.complete(LAST, 1)
    assert (told.transcript, told.translations, told.dropped_characters) == ("one two", {"es": "uno dos"}, 0)
    metrics = told.metrics
    assert (metrics.transcripts, metrics.audio_ms, metrics.updates, metrics.reconnections) == (2, 1000, 2, 1)


def test_it_keeps_no_more_than_the_server_would():
    made = totals(most=6)
    for text in ("one", "two", "", "six"):
        made.final(final(text))
    told = made.complete(LAST, 1)
    assert (told.transcript, told.dropped_characters) == ("wo six", 5)


def test_times_count_from_the_first_audio():
    told = placed(final("one", 200), 1000)
    assert (told.start_ms, told.end_ms, told.words[0].start_ms, told.words[0].end_ms) == (1200, 1700, 1200, 1300)
