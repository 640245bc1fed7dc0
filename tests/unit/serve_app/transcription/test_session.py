"""A live transcription session, in virtual time."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.errors import InvalidAudio, ModelFailed, QueueFull, Stage
from serve_app.transcription import (
    Completed,
    Final,
    Listen,
    Overdue,
    Recognise,
    SpeechEnded,
    SpeechStarted,
    TranscriptionLimits,
    UtteranceEnd,
)
from tests.unit.serve_app.transcription.simulated import ENGLISH, Models, Simulation, words

TWO = words((500, 2500), (4000, 6000))


def spoken(speech, duration_ms, *, chunk_ms=100, **settings_):
    models = settings_.pop("models", None) or Models(speech)
    limits = settings_.pop("limits", None) or TranscriptionLimits()
    simulation = Simulation(models, replace(ENGLISH, **settings_), limits)
    simulation.end_at(simulation.send(duration_ms, chunk_ms))
    return simulation.run()


def check_cover(simulation, duration_ms):
    """Finals cover the audio without gap or overlap, and the session ends once."""
    at_ms = 0
    for final in simulation.finals:
        assert final.start_ms == at_ms
        assert final.end_ms >= at_ms
        for word in final.words:
            assert final.start_ms <= word.start_ms <= word.end_ms <= final.end_ms
        at_ms = final.end_ms
    assert at_ms == duration_ms
    assert [type(event) for event in simulation.events].count(Completed) == 1
    assert isinstance(simulation.events[-1], Completed)
    assert simulation.session.over
    assert simulation.session.next_tick() is None


def check_committed(simulation):
    """What an interim commits stands in each later one of its utterance."""
    before = None
    for event in simulation.events:
        if isinstance(event, Final):
            before = None
        elif hasattr(event, "committed"):
            if before is not None:
                assert event.committed.startswith(before)
            before = event.committed


def test_each_utterance_gets_one_final_with_its_words_at_their_times():
    simulation = spoken(TWO, 8000)
    check_cover(simulation, 8000)
    said = [final for final in simulation.finals if final.text]
    assert [final.text for final in said] == [
        " ".join(one.text for one in TWO[:8]),
        " ".join(one.text for one in TWO[8:]),
    ]
    assert [(word.start_ms, word.end_ms) for final in said for word in final.words] == [
        (one.start_ms, one.end_ms) for one in TWO
    ]
    assert all(final.utterance_over for final in said)


def test_a_voice_is_told_when_it_begins_and_when_it_has_ended():
    simulation = spoken(TWO, 8000)
    started = [event.at_ms for event in simulation.events if isinstance(event, SpeechStarted)]
    ended = [event.at_ms for event in simulation.events if isinstance(event, SpeechEnded)]
    assert [abs(at - told) <= 32 for at, told in zip((500, 4000), started, strict=True)] == [True, True]
    assert [abs(at - told) <= 32 for at, told in zip((2500, 6000), ended, strict=True)] == [True, True]


def test_words_are_shown_while_they_are_said_and_committed_once_two_hypotheses_agree():
    simulation = spoken(words((500, 6000)), 8000)
    check_committed(simulation)
    first_at, first = next((at, event) for at, event in simulation.told if event is simulation.interims[0])
    assert first_at < 0.5 + 0.8
    assert first.committed == ""
    assert first.tentative
    assert simulation.interims[1].committed == first.tentative
    assert simulation.session.statistics.revised_words == 0


def test_without_interims_only_finals_are_asked_for():
    simulation = spoken(TWO, 8000, interims=False)
    assert not simulation.interims
    assert not [call for _, call in simulation.calls if isinstance(call, Recognise) and call.interim]


def test_one_interim_at_a_time_and_none_while_a_final_is_due():
    simulation = Simulation(Models(words((500, 9000)), interim_s=lambda _: 1.5))
    running = []
    original = simulation.perform

    def perform(effects):
        original(effects)
        running.append([call.interim for call in simulation.in_flight.values() if isinstance(call, Recognise)])

    simulation.perform = perform
    simulation.end_at(simulation.send(11_000))
    simulation.run()
    assert max(calls.count(True) for calls in running) == 1
    assert not any(True in calls and False in calls for calls in running)


def test_slow_interims_come_less_often_and_finals_stay_on_time():
    fast = spoken(words((500, 12_000)), 13_000)
    slow = spoken(words((500, 12_000)), 13_000, models=Models(words((500, 12_000)), interim_s=lambda _: 1.2))
    assert len(slow.interims) < len(fast.interims) / 2
    assert slow.text == fast.text
    assert [at for at, event in slow.told if isinstance(event, Final)] == [
        at for at, event in fast.told if isinstance(event, Final)
    ]


def test_an_interim_that_nobody_has_time_for_is_dropped_and_counted():
    def fails(_ticket, call):
        busy = isinstance(call, Recognise) and call.interim
        return QueueFull(Stage.ASR, "busy") if busy else None

    simulation = spoken(TWO, 8000, models=Models(TWO, fails=fails))
    assert not simulation.interims
    assert simulation.session.statistics.interims_dropped > 0
    assert simulation.session.statistics.errors == 0
    assert simulation.text == " ".join(one.text for one in TWO)


def test_a_final_that_fails_for_a_passing_reason_is_tried_again():
    tries = []

    def fails(ticket, call):
        if isinstance(call, Recognise) and not call.interim:
            tries.append(ticket)
            return ModelFailed(Stage.ASR, "once") if len(tries) == 1 else None
        return None

    simulation = spoken(words((500, 2500)), 4000, models=Models(words((500, 2500)), fails=fails))
    assert len(tries) == 2
    assert simulation.text == " ".join(one.text for one in words((500, 2500)))
    assert simulation.session.statistics.codes == {"MODEL_ERROR": 1}


def test_a_final_that_fails_for_good_is_empty_and_says_why():
    def fails(_ticket, call):
        final = isinstance(call, Recognise) and not call.interim
        return InvalidAudio(Stage.ASR, "broken") if final else None

    simulation = spoken(words((500, 2500)), 4000, models=Models(words((500, 2500)), fails=fails))
    check_cover(simulation, 4000)
    [failed] = [final for final in simulation.finals if final.failure]
    assert failed.text == ""
    assert failed.failure.code == "INVALID_AUDIO"


def test_a_final_that_takes_too_long_is_given_up():
    models = Models(words((500, 2500)), final_s=lambda _: 60.0)
    simulation = spoken(words((500, 2500)), 4000, models=models)
    check_cover(simulation, 4000)
    [late] = [final for final in simulation.finals if final.failure]
    assert late.failure.code == "TIMEOUT"
    [call] = [call for _, call in simulation.calls if isinstance(call, Recognise) and not call.interim]
    assert call.ticket in simulation.cancelled


def test_finals_leave_in_order_though_a_later_one_is_ready_first():
    def final_s(ticket):
        return 4.0 if ticket in first else 0.1

    first = set()

    def fails(ticket, call):
        if isinstance(call, Recognise) and not call.interim and not first:
            first.add(ticket)

    simulation = spoken(TWO, 8000, models=Models(TWO, final_s=final_s, fails=fails))
    check_cover(simulation, 8000)
    assert simulation.text == " ".join(one.text for one in TWO)


def test_a_flush_gives_a_final_at_once_and_the_session_goes_on():
    simulation = Simulation(Models(words((500, 6000))))
    simulation.send(8000)
    simulation.at(3.0, lambda: simulation.perform(simulation.session.flush(simulation.now)))
    simulation.end_at(8.0)
    simulation.run()
    check_cover(simulation, 8000)
    flushed = [(at, event) for at, event in simulation.told if isinstance(event, Final) and event.flushed]
    [(at, final)] = flushed
    assert final.end_ms == 3000
    assert at < 3.5
    assert simulation.text.split() == [one.text for one in words((500, 6000))]


def test_a_flush_of_nothing_new_is_answered_too():
    simulation = Simulation(Models(()))
    simulation.at(0.5, lambda: simulation.perform(simulation.session.flush(simulation.now)))
    simulation.end_at(1.0)
    simulation.run()
    assert [final.flushed for final in simulation.finals] == [True]


def test_each_flush_gets_a_final_of_its_own_however_slow_the_models_are():
    speech = words((200, 1000), (1200, 2000))
    simulation = Simulation(Models(speech, listen_s=lambda _: 3.0, final_s=lambda _: 1.0))
    simulation.send(2500)
    for at_s in (1.1, 2.1):
        simulation.at(at_s, lambda: simulation.perform(simulation.session.flush(simulation.now)))
    simulation.end_at(2.6)
    simulation.run()
    check_cover(simulation, 2500)
    flushed = [final for final in simulation.finals if final.flushed]
    assert [final.end_ms for final in flushed] == [1000, 2000] or [final.end_ms for final in flushed] == [1100, 2100]
    assert all(final.text for final in flushed)


def test_a_flood_of_flushes_while_a_final_is_on_its_way_is_answered_by_that_final_alone():
    simulation = Simulation(Models(words((500, 2000)), final_s=lambda _: 5.0))
    simulation.send(2000)
    for number in range(500):
        simulation.at(2.1 + number / 1000, lambda: simulation.perform(simulation.session.flush(simulation.now)))
    simulation.at(3.0, lambda: held.append(len(simulation.session._finals)))
    held: list[int] = []
    simulation.end_at(8.0)
    simulation.run()
    assert held == [1]
    assert [(final.flushed, bool(final.text)) for final in simulation.finals] == [(True, True)]


def test_a_word_that_ends_with_the_audio_is_not_lost():
    speech = words((500, 700), each_ms=200)
    simulation = spoken(speech, 700)
    assert simulation.text == "word0"


def test_a_short_noise_gets_no_call_of_the_model():
    simulation = spoken(words((1000, 1120), each_ms=120), 4000)
    check_cover(simulation, 4000)
    assert simulation.text == ""
    assert not [call for _, call in simulation.calls if isinstance(call, Recognise) and not call.interim]


def test_a_long_utterance_is_cut_where_it_is_quietest():
    speech = words((500, 12_000), (12_200, 20_000))
    simulation = spoken(speech, 22_000)
    check_cover(simulation, 22_000)
    first, *_ = [final for final in simulation.finals if final.text]
    assert not first.utterance_over
    assert 11_900 <= first.end_ms <= 12_300
    assert simulation.text.split() == [one.text for one in speech]


def test_silence_is_covered_by_empty_finals_while_it_lasts():
    simulation = spoken((), 60_000)
    check_cover(simulation, 60_000)
    assert len(simulation.finals) >= 10
    assert all(not final.text for final in simulation.finals)
    assert simulation.kept_ms < 2000


def test_the_end_of_what_was_said_is_told_once_a_pause_is_long_enough():
    simulation = spoken(TWO, 9000, utterance_end_ms=1000)
    told = [(at, event) for at, event in simulation.told if isinstance(event, UtteranceEnd)]
    assert [event.last_word_end_ms for _, event in told] == [2500, 6000]
    assert all(at >= event.last_word_end_ms / 1000 + 1 for at, event in told)


def test_a_client_that_stops_sending_in_the_middle_gets_its_final():
    simulation = Simulation(Models(words((500, 3000))))
    simulation.send(2500)
    simulation.end_at(30.0)
    simulation.run()
    [(at, _)] = [(at, event) for at, event in simulation.told if isinstance(event, Final) and event.text]
    assert at < 5


def test_a_stretch_that_cannot_be_listened_to_is_taken_for_a_voice():
    def fails(_ticket, call):
        return ModelFailed(Stage.ASR, "deaf") if isinstance(call, Listen) else None

    simulation = spoken(words((500, 2500)), 3000, models=Models(words((500, 2500)), fails=fails))
    check_cover(simulation, 3000)
    assert simulation.text.split() == [one.text for one in words((500, 2500))]


@pytest.mark.parametrize(("why", "limits"), [("idle", {"idle_timeout_s": 20}), ("lasted", {"max_session_s": 10})])
def test_a_session_has_to_end_when_its_time_is_over(why, limits):
    simulation = Simulation(Models(TWO), limits=TranscriptionLimits(**limits))
    simulation.send(8000)
    simulation.run()
    assert [event.why for event in simulation.events if isinstance(event, Overdue)] == [why]
    check_cover(simulation, 8000)


def test_a_client_that_says_it_is_there_is_not_idle():
    simulation = Simulation(Models(()), limits=TranscriptionLimits(idle_timeout_s=20))
    for at in range(0, 100, 10):
        simulation.at(at, lambda: simulation.session.message(simulation.now))
    simulation.end_at(100.0)
    simulation.run()
    assert not [event for event in simulation.events if isinstance(event, Overdue)]


def test_models_that_do_not_keep_up_stop_the_reading_and_nothing_is_lost():
    speech = words((0, 60_000))
    simulation = Simulation(
        Models(speech, final_s=lambda _: 9.0), limits=TranscriptionLimits(max_pending=1, max_backlog_ms=5000)
    )
    full = []
    sent = 0

    def send():
        nonlocal sent
        if not simulation.session.full:
            sent += 1000
            simulation.perform(simulation.session.audio(sent, simulation.now))
        full.append(simulation.session.full)
        if sent < 60_000:
            simulation.at(simulation.now + 0.1, send)
        else:
            simulation.end_at(simulation.now)

    simulation.at(0.0, send)
    simulation.run()
    assert any(full)
    check_cover(simulation, 60_000)
    assert simulation.text.split() == [one.text for one in speech]
    assert simulation.kept_ms <= 5000 + 1000 + 2 * 15_000 + 1000


def test_after_a_disconnect_nothing_is_told_or_asked():
    simulation = Simulation(Models(TWO))
    simulation.send(8000)

    def leave():
        simulation.perform(simulation.session.disconnect())
        assert not simulation.in_flight
        simulation.told.clear()
        simulation.calls.clear()

    simulation.at(2.0, leave)
    simulation.run()
    assert not simulation.told
    assert not simulation.calls
    assert simulation.session.end(9.0) == simulation.session.tick(9.0) == simulation.session.flush(9.0) == []


SPANS = st.lists(st.tuples(st.integers(200, 4000), st.integers(250, 20_000)), min_size=0, max_size=5)


@settings(max_examples=60, deadline=None)
@given(
    gaps=SPANS,
    tail_ms=st.integers(0, 3000),
    chunk_ms=st.integers(20, 900),
    slow=st.floats(0.02, 5.0),
    failing=st.sets(st.integers(1, 80), max_size=8),
    flushes=st.lists(st.floats(0.1, 40.0), max_size=3),
    least_ms=st.sampled_from([0, 4000]),
)
def test_whatever_is_said_and_fails_finals_cover_it_and_no_committed_word_changes(
    gaps, tail_ms, chunk_ms, slow, failing, flushes, least_ms
):
    spans, at_ms = [], 0
    for gap_ms, lasts_ms in gaps:
        spans.append((at_ms + gap_ms, at_ms + gap_ms + lasts_ms))
        at_ms += gap_ms + lasts_ms
    duration_ms = max(at_ms + tail_ms, 100)
    speech = words(*spans)

    def fails(ticket, _call):
        return ModelFailed(Stage.ASR, "now and then") if ticket in failing else None

    models = Models(speech, interim_s=lambda _: slow, final_s=lambda ticket: slow * (1 + ticket % 3) / 3, fails=fails)
    simulation = Simulation(models, replace(ENGLISH, least_utterance_ms=least_ms))
    simulation.end_at(simulation.send(duration_ms, chunk_ms))
    for when in flushes:
        simulation.at(when, lambda: simulation.perform(simulation.session.flush(simulation.now)))
    simulation.run()
    check_cover(simulation, duration_ms)
    check_committed(simulation)
    if not any(final.failure for final in simulation.finals):
        assert set(simulation.text.split()) <= {one.text for one in speech}


def test_the_state_of_a_session_stays_small_however_long_it_lasts():
    speech = words(*((at, at + 3000) for at in range(0, 600_000, 5000)))
    simulation = spoken(speech, 600_000, chunk_ms=250, limits=TranscriptionLimits(max_session_s=7200))
    assert simulation.kept_ms < 6000
    assert len(simulation.session._arrivals) < 100
    assert simulation.text.split() == [one.text for one in speech]


def test_a_client_that_has_sent_all_and_waits_for_its_finals_is_not_idle():
    models = Models(words((500, 3000)), final_s=lambda _: 8)
    simulation = Simulation(models, limits=TranscriptionLimits(idle_timeout_s=2))
    simulation.end_at(simulation.send(3000))
    simulation.run()
    assert not [event for event in simulation.events if isinstance(event, Overdue)]
    assert simulation.text.split() == [one.text for one in models.speech]


def test_a_session_that_ends_already_is_not_told_that_it_has_lasted_too_long():
    models = Models(words((500, 3000)), final_s=lambda _: 8)
    simulation = Simulation(models, limits=TranscriptionLimits(max_session_s=5))
    simulation.end_at(simulation.send(3000))
    simulation.run()
    assert not [event for event in simulation.events if isinstance(event, Overdue)]
