"""How what a voice said becomes as long as its original."""

import numpy as np
import pytest

from deployments.audio import pcm
from deployments.audio.timing import FitLimits
from deployments.contracts.engines import Spoken
from deployments.contracts.values import AudioFormat, Span
from deployments.errors import DeadlineExceeded, DurationMismatch
from deployments.tts.fitting import fit, free_from_ms, room_ms, speech_ms

RATE_HZ = 24_000
PCM = AudioFormat("pcm_s16le", 48_000, 1)
LIMITS = FitLimits()


def spoken(duration_ms, rate=1.0):
    n_samples = duration_ms * RATE_HZ // 1000
    wave = 0.3 * np.sin(np.arange(n_samples) * 2 * np.pi * 220 / RATE_HZ)
    return Spoken(wave.astype(np.float32), RATE_HZ, rate)


def fitted(duration_ms, target_ms, *, rate=1.0, output=PCM, now_s=0.0):
    return fit(spoken(duration_ms, rate), target_ms, output, LIMITS, deadline_s=1.0, clock=lambda: now_s)


@pytest.mark.parametrize("spoken_ms", [1601, 1999, 2000, 2001, 3217, 4000])
def test_what_the_limits_reach_is_the_target_to_the_sample(spoken_ms):
    result = fitted(spoken_ms, 2000)
    assert result.samples.shape == (2 * RATE_HZ,)
    assert result.verdict == "success"
    assert result.speed_ratio == pytest.approx(spoken_ms / 2000)


def test_what_is_too_short_is_slowed_a_little_and_padded():
    result = fitted(400, 2000)
    assert result.samples.shape == (2 * RATE_HZ,)
    assert result.speed_ratio == 0.8
    assert np.abs(result.samples[RATE_HZ // 2 :]).max() == 0
    assert np.abs(result.samples[: RATE_HZ // 2]).max() > 0.1


@pytest.mark.parametrize(("spoken_ms", "verdict"), [(4400, "success"), (4402, "partial"), (4800, "partial")])
def test_what_is_too_long_is_kept_at_the_highest_speed_and_judged(spoken_ms, verdict):
    result = fitted(spoken_ms, 2000)
    assert result.verdict == verdict
    assert result.speed_ratio == 2.0
    assert result.samples.shape[0] == pytest.approx(spoken_ms / 2 * RATE_HZ / 1000, abs=RATE_HZ / 1000)


def test_what_is_far_too_long_is_not_stretched():
    with pytest.raises(DurationMismatch) as caught:
        fitted(4804, 2000, now_s=99.0)  # stretching would find its time gone
    assert caught.value.details["dubbed_duration_ms"] == 2402
    assert caught.value.details["speed_ratio"] == 2.0


def test_the_limits_bound_the_voice_and_the_stretch_together():
    assert fitted(3000, 2000, rate=1.4).speed_ratio == pytest.approx(2.0 / 1.4)
    assert fitted(1800, 2000, rate=0.8).speed_ratio == 1.0, "slowed once already, so it is padded"
    assert fitted(2100, 2000, rate=2.5).speed_ratio == 1.0, "fast already, and never slowed to make it longer"


def test_no_time_left_ends_the_stretching():
    with pytest.raises(DeadlineExceeded):
        fitted(3000, 2000, now_s=1.0)


def test_both_ends_are_silent_so_that_fragments_join_without_a_click():
    result = fitted(3000, 2000)
    assert result.samples[0] == 0
    assert result.samples[-1] == 0


def test_room_is_left_for_what_a_container_adds():
    assert room_ms(2000, PCM) == 2000
    assert room_ms(2000, AudioFormat("m4a", 48_000, 2)) == 2000
    assert 1940 <= room_ms(2000, AudioFormat("aac", 48_000, 2)) < 2000
    assert room_ms(20, AudioFormat("aac", 48_000, 2)) == 10


def with_pause(first_ms, pause_ms, second_ms):
    quiet = np.zeros(pause_ms * RATE_HZ // 1000, dtype=np.float32)
    return Spoken(np.concatenate([spoken(first_ms).samples, quiet, spoken(second_ms).samples]), RATE_HZ)


def test_phrases_are_heard_when_the_original_speaks_and_not_between():
    speech = (Span(500, 1500), Span(3000, 3900))
    result = fit(with_pause(1000, 300, 900), 5000, PCM, LIMITS, deadline_s=1.0, clock=lambda: 0.0, speech=speech)
    assert result.samples.shape == (5 * RATE_HZ,)
    assert result.verdict == "success"
    assert result.speed_ratio == pytest.approx(1.0, abs=0.02)
    for heard, span in zip(pcm.loud_spans(result.samples, RATE_HZ), speech, strict=True):
        assert heard.start_ms == pytest.approx(span.start_ms, abs=20)
        assert heard.end_ms == pytest.approx(span.end_ms, abs=20)


def test_words_close_together_are_one_stretch_of_speech():
    speech = (Span(1000, 1400), Span(1500, 1800), Span(2000, 3000))
    result = fit(spoken(2000), 5000, PCM, LIMITS, deadline_s=1.0, clock=lambda: 0.0, speech=speech)
    (heard,) = pcm.loud_spans(result.samples, RATE_HZ)
    assert (heard.start_ms, heard.end_ms) == (pytest.approx(1000, abs=20), pytest.approx(3000, abs=20))


def test_no_phrase_begins_or_ends_with_a_click():
    speech = (Span(500, 1500), Span(3000, 3900))
    dub = fit(with_pause(1000, 300, 900), 5000, PCM, LIMITS, deadline_s=1.0, clock=lambda: 0.0, speech=speech).samples
    loudest_step = np.abs(np.diff(spoken(1000).samples)).max()
    assert np.abs(np.diff(dub)).max() <= 1.1 * loudest_step
    assert dub[0] == dub[-1] == 0


def test_a_dub_that_no_place_is_large_enough_for_is_judged_as_a_whole():
    result = fit(spoken(4402), 2000, PCM, LIMITS, deadline_s=1.0, clock=lambda: 0.0, speech=(Span(0, 2000),))
    assert (result.verdict, result.speed_ratio) == ("partial", 2.0)


def test_stretching_a_phrase_ends_with_the_fragments_time():
    with pytest.raises(DeadlineExceeded):
        fit(spoken(1500), 2000, PCM, LIMITS, deadline_s=1.0, clock=lambda: 1.0, speech=(Span(0, 2000),))


def carrying(spoken_ms, target_ms, speech, **more):
    return fit(spoken(spoken_ms), target_ms, PCM, LIMITS, deadline_s=1.0, clock=lambda: 0.0, speech=speech, **more)


def test_what_runs_over_the_end_is_handed_on_and_nothing_of_it_is_lost():
    result = carrying(2750, 2000, (Span(0, 2000),), overhang_ms=400)
    assert result.samples.shape == (2 * RATE_HZ,)
    assert result.verdict == "success"
    assert result.speed_ratio == 1.25
    assert result.over.shape == (RATE_HZ // 5,)
    (heard,) = pcm.loud_spans(np.concatenate([result.samples, result.over]), RATE_HZ)
    assert (heard.start_ms, heard.end_ms) == (0, 2200)


def test_a_dub_that_fits_hands_nothing_on():
    assert carrying(2400, 2000, (Span(0, 2000),), overhang_ms=400).over is None
    assert carrying(2750, 2000, (Span(0, 2000),)).over is None


def test_a_border_that_a_word_runs_over_clicks_on_neither_side():
    result = carrying(2750, 2000, (Span(0, 2000),), overhang_ms=400)
    assert result.samples[-1] == result.over[0] == result.over[-1] == 0
    loudest_step = np.abs(np.diff(spoken(1000).samples)).max()
    assert np.abs(np.diff(np.concatenate([result.samples, result.over]))).max() <= 1.3 * loudest_step


@pytest.mark.parametrize("speech", [(Span(0, 2000),), ()])
def test_what_the_dub_before_takes_of_the_start_stays_free(speech):
    result = carrying(1500, 2000, speech, lead_ms=300)
    assert result.lead_ms == 300
    assert np.abs(result.samples[: free_from_ms(300) * RATE_HZ // 1000]).max() == 0
    (heard,) = pcm.loud_spans(result.samples, RATE_HZ)
    assert heard.start_ms == pytest.approx(380, abs=10)
    assert result.samples.shape == (2 * RATE_HZ,)


@pytest.mark.parametrize("speech", [(Span(0, 2000),), ()])
def test_a_dub_that_would_be_too_long_then_takes_its_start_back(speech):
    result = carrying(3900, 2000, speech, lead_ms=300)
    assert (result.lead_ms, result.verdict) == (0, "success")
    assert np.abs(result.samples[: RATE_HZ // 5]).max() > 0.1


def test_an_original_shorter_than_what_is_left_over_has_no_room_for_it():
    assert carrying(300, 350, (Span(0, 350),), lead_ms=300).lead_ms == 0


def test_speech_counts_from_where_the_dub_may_begin():
    speech = (Span(0, 400), Span(500, 1000), Span(3000, 3500))
    assert speech_ms(speech) == 1500
    assert speech_ms(speech, 600) == 900
    assert speech_ms(speech, 4000) is None
    assert speech_ms(()) is None


@pytest.mark.parametrize("overhang_ms", [0, 400])
def test_soft_sounds_at_both_ends_are_kept_where_the_original_speaks_all_the_time(overhang_ms):
    soft = 0.002 * np.ones(40 * RATE_HZ // 1000, dtype=np.float32)
    voice = Spoken(np.concatenate([soft, spoken(2200).samples, soft]), RATE_HZ)
    dub = fit(
        voice, 2000, PCM, LIMITS, deadline_s=1.0, clock=lambda: 0.0, speech=(Span(0, 2000),), overhang_ms=overhang_ms
    ).samples
    (heard,) = pcm.loud_spans(dub, RATE_HZ)
    assert heard.start_ms >= 20
    assert heard.end_ms <= 1980
    assert np.abs(dub[10 * 24 : 25 * 24]).min() > 0
    assert np.abs(dub[-25 * 24 : -10 * 24]).min() > 0
