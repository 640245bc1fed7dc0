"""What can't be done in time is refused before anything is computed, and what can be is not; judged in virtual time."""

import dataclasses

import pytest

from deployments.contracts.values import FASTER_VOICE
from deployments.errors import QueueFull, Stage
from deployments.forecast import EXPECTED_MS, TRY_AGAIN_AFTER_S
from serve_app.scheduling.admission import START, VOICE, Admission, Passage, StreamAdmission
from tests.simulation.overload import run
from tests.unit.serve_app.stream.recorder import failed, heard, timed_outcome

TIMEOUT_S = 8.0
SECONDS = 6.0
WARM_S, UNTIL_S = 40.0, 160.0
ENOUGH = 0.9
"""Share of what an all-knowing scheduler would get."""


def best(service_s: float, *, servers: int, streams: int, keeps: int, period_s: float) -> float:
    """Results in time that the servers could give at most, of what the workers have."""
    alone_s = service_s + 0.072
    if alone_s > TIMEOUT_S:
        return 0.0
    counted_s = UNTIL_S - WARM_S
    offered = streams * counted_s / period_s if period_s else streams * keeps * counted_s / (alone_s + 0.02)
    return min(servers * counted_s / service_s, offered)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.54, 0.8, 0.9, 1.3, 3.0])
@pytest.mark.parametrize(
    ("streams", "keeps", "period_s"), [(1, 1, 0), (1, 2, 0), (1, 3, 0), (1, 10, 0), (3, 3, 0), (20, 10, 0), (12, 3, 6)]
)
def test_results_come_at_nearly_the_rate_that_the_models_could_have(share, streams, keeps, period_s):
    """Whatever a call takes, from a tenth of a fragment's time to three times as much, and however much is sent."""
    found = run(service_s=share * TIMEOUT_S, streams=streams, keeps=keeps, period_s=period_s, until_s=UNTIL_S)
    possible = best(share * TIMEOUT_S, servers=1, streams=streams, keeps=keeps, period_s=period_s)
    assert found.good(WARM_S) >= ENOUGH * possible - 1  # the last one may not have come yet


@pytest.mark.parametrize("servers", [2, 4])
@pytest.mark.parametrize("share", [0.1, 0.54, 0.7])
@pytest.mark.parametrize("seed", [1, 2])
def test_so_they_do_with_several_servers_and_texts_of_different_length(servers, share, seed):
    service_s = share * TIMEOUT_S
    found = run(service_s=service_s, servers=servers, streams=5, keeps=3, jitter=0.25, until_s=UNTIL_S, seed=seed)
    possible = best(service_s, servers=servers, streams=5, keeps=3, period_s=0)
    assert found.good(WARM_S) >= ENOUGH * possible


@pytest.mark.parametrize("before_s", [0.5, 2.0, 3.5])
def test_a_machine_whose_speed_halves_on_the_way_gives_half_as_much_and_not_nothing(before_s):
    halves_at_s, learnt_s, until_s = 120.0, 80.0, 400.0
    found = run(service_s=lambda now: before_s * (1 + (now >= halves_at_s)), streams=3, keeps=3, until_s=until_s)
    possible = (until_s - halves_at_s - learnt_s) / (2 * before_s)
    assert found.good(halves_at_s + learnt_s) >= ENOUGH * possible


def test_one_that_was_too_slow_for_a_while_is_used_again():
    found = run(service_s=lambda now: 12.0 if 60 <= now < 120 else 2.0, keeps=3, until_s=300)
    assert found.good(200.0) >= ENOUGH * 50


def test_bursts_are_taken_as_far_as_they_can_be_done():
    """Twenty streams send at the same moment, twelve seconds apart: eight seconds of each twelve are of use."""
    found = run(service_s=1.0, streams=20, keeps=1, period_s=12.0, bunched=True, until_s=UNTIL_S)
    assert found.good(WARM_S) >= ENOUGH * 7 * (UNTIL_S - WARM_S) / 12


def test_without_a_forecast_the_same_load_comes_to_nothing(monkeypatch):
    monkeypatch.setattr(Admission, "refusal", lambda *_: None)
    monkeypatch.setattr(Admission, "reach", lambda *_: 0.0)
    monkeypatch.setattr(Admission, "waits", lambda *_: (0.0, 1.0))
    found = run(service_s=4.3, keeps=3, knows=False, until_s=UNTIL_S)
    assert found.good(WARM_S) < 0.5 * (UNTIL_S - WARM_S) / 4.3


@pytest.mark.parametrize(("streams", "service_s", "servers"), [(1, 4.3, 1), (3, 1.5, 1), (10, 2.0, 4)])
def test_live_streams_that_the_models_carry_lose_nothing(streams, service_s, servers):
    found = run(service_s=service_s, servers=servers, streams=streams, keeps=3, period_s=6.0, until_s=UNTIL_S)
    assert not any(worker.bad for worker in found.workers)


@pytest.mark.parametrize("faster_s", [0.1, 0.4])
@pytest.mark.parametrize(("streams", "asr_s", "period_s"), [(12, 2.0, 0.0), (20, 1.0, 6.0)])
def test_the_stages_before_a_faster_voice_leave_it_its_time(faster_s, streams, asr_s, period_s):
    """Where recognition has more to do than it can, and what is late there would be late for any voice."""
    found = run(
        service_s=0.3,
        servers=50,
        asr_s=asr_s,
        streams=streams,
        keeps=3,
        period_s=period_s,
        faster_s=faster_s,
        until_s=UNTIL_S,
    )
    assert found.good(WARM_S) >= ENOUGH * 2 * (UNTIL_S - WARM_S) / asr_s - 1


def test_what_a_slow_voice_can_not_speak_the_faster_one_does():
    found = run(service_s=4.3, streams=3, keeps=3, period_s=6.0, faster_s=0.1, until_s=UNTIL_S)
    assert not any(worker.bad for worker in found.workers)


def test_what_is_refused_at_the_door_is_told_when_to_come_back():
    admission, passages = warm(service_s=4.3)
    stream = StreamAdmission(admission)
    now = 100.0
    enter(passages, stream, now)
    delay_s = stream.refusal(SECONDS, TIMEOUT_S, now)
    assert delay_s == pytest.approx(2 * 4.3 - 0.94 * TIMEOUT_S, abs=0.05)
    assert stream.refusal(SECONDS, TIMEOUT_S, now + delay_s + 0.01) is None


def test_a_stream_with_little_in_flight_comes_before_one_with_much():
    admission, passages = warm(service_s=1.0)
    hog, calm = StreamAdmission(admission), StreamAdmission(admission)
    for _ in range(7):
        enter(passages, hog, 100.0)
    assert hog.refusal(SECONDS, TIMEOUT_S, 100.0) is not None
    assert calm.refusal(SECONDS, TIMEOUT_S, 100.0) is None


def test_what_can_never_be_in_time_is_tried_once_in_a_while():
    admission, _ = warm(service_s=20.0, at=0.0)
    stream = StreamAdmission(admission)
    stream.tried = True
    assert stream.refusal(SECONDS, TIMEOUT_S, 1.0) == pytest.approx(TRY_AGAIN_AFTER_S - 1.0)
    assert stream.refusal(SECONDS, TIMEOUT_S, TRY_AGAIN_AFTER_S + 0.1) is None
    trial = stream.enter(SECONDS, TIMEOUT_S, TRY_AGAIN_AFTER_S + 0.1)
    assert trial.trial
    assert stream.refusal(SECONDS, TIMEOUT_S, TRY_AGAIN_AFTER_S + 0.2) is not None


def test_a_fragment_that_is_late_already_is_known_to_be_before_the_next_stage():
    admission, _ = warm(service_s=4.3)
    stream = StreamAdmission(admission)
    passage = stream.enter(SECONDS, TIMEOUT_S, 100.0)
    assert stream.reach(passage, Stage.TTS, heard(timed_outcome()), 105.0) == pytest.approx(4.3, abs=0.05)


def test_a_call_that_was_given_up_holds_its_server_to_its_end():
    admission, _ = warm(service_s=4.0)
    stream = StreamAdmission(admission)
    passage = stream.enter(SECONDS, TIMEOUT_S, 100.0)
    stream.reach(passage, Stage.TTS, heard(timed_outcome()), 100.0)
    stream.leave(passage, None, 101.0)
    assert admission.forecast_s(stream, SECONDS, 101.0) == pytest.approx(3.0 + 4.0, abs=0.1)


def test_no_stream_is_let_in_beyond_its_share_while_others_go_on_sending():
    """What they send later goes first where they have less in flight, so the last of many would come late."""
    admission, passages = warm(service_s=1.0)
    one, other = StreamAdmission(admission), StreamAdmission(admission)
    enter(passages, other, 100.0)
    for _ in range(3):
        assert one.refusal(SECONDS, TIMEOUT_S, 100.0) is None
        enter(passages, one, 100.0)
    assert admission.forecast_s(one, SECONDS, 100.0) < 6.0
    assert one.refusal(SECONDS, TIMEOUT_S, 100.0) is not None
    assert other.refusal(SECONDS, TIMEOUT_S, 100.0) is None


def test_waits_that_cannot_be_seen_from_here_are_learnt_and_forgotten():
    """Other ingress replicas load the same models."""
    admission, _ = warm(service_s=1.0, at_once=4)
    stream = StreamAdmission(admission)
    for step in range(60):
        passage = stream.enter(SECONDS, TIMEOUT_S, 100.0 + 10 * step)
        stream.reach(passage, Stage.TTS, heard(timed_outcome()), 100.0 + 10 * step)
        stream.leave(passage, timed_outcome(tts_s=1.0), 104.0 + 10 * step)
    assert stream.off_s == pytest.approx(3.0, abs=0.3)
    for step in range(90):
        passage = stream.enter(SECONDS, TIMEOUT_S, 900.0 + 10 * step)
        stream.reach(passage, Stage.TTS, heard(timed_outcome()), 900.0 + 10 * step)
        stream.leave(passage, timed_outcome(tts_s=1.0), 901.0 + 10 * step)
    assert stream.off_s < 0.2


def test_what_a_replica_refused_tells_how_long_it_would_have_taken():
    admission, _ = warm(service_s=1.0)
    stream = StreamAdmission(admission)
    for _ in range(20):
        passage = stream.enter(SECONDS, TIMEOUT_S, 100.0)
        stream.reach(passage, Stage.TTS, heard(timed_outcome()), 100.0)
        stream.leave(passage, failed(QueueFull, Stage.TTS, **{EXPECTED_MS: 2000}), 100.1)
    assert admission.forecast_s(stream, SECONDS, 100.1) == pytest.approx(2.0, abs=0.2)


def test_what_another_voice_took_says_nothing_of_the_first():
    admission, _ = warm(service_s=4.0)
    stream = StreamAdmission(admission)
    for step in range(10):
        passage = stream.enter(SECONDS, TIMEOUT_S, 100.0 + step)
        stream.reach(passage, Stage.TTS, heard(timed_outcome()), 100.0 + step)
        stream.step_aside(passage, 100.0 + step)
        stream.leave(passage, timed_outcome(tts_s=0.1), 100.5 + step)
    assert admission.forecast_s(stream, SECONDS, 200.0) >= 3.9


def test_a_voice_that_had_to_be_rescued_took_at_least_so_long():
    admission, _ = warm(service_s=4.0)
    stream = StreamAdmission(admission)
    stream.faster_voice = True
    passage = stream.enter(SECONDS, TIMEOUT_S, 100.0)
    stream.reach(passage, Stage.TTS, heard(timed_outcome()), 100.0)
    outcome = timed_outcome(tts_s=0.1)
    assert outcome.speech is not None
    rescued = dataclasses.replace(outcome, speech=dataclasses.replace(outcome.speech, warnings=(FASTER_VOICE,)))
    stream.leave(passage, rescued, 107.0)
    assert admission._takes[VOICE].of(SECONDS) > 4.5


def test_what_is_sent_in_place_of_a_failure_is_judged_by_the_failure():
    admission, _ = warm(service_s=1.0)
    stream = StreamAdmission(admission)
    failure = QueueFull(Stage.TTS, "full", {EXPECTED_MS: 2000})
    for _ in range(20):
        passage = stream.enter(SECONDS, TIMEOUT_S, 100.0)
        stream.reach(passage, Stage.TTS, heard(timed_outcome()), 100.0)
        stream.leave(passage, dataclasses.replace(timed_outcome(tts_s=0.01), replaced=failure), 100.1)
    assert admission.forecast_s(stream, SECONDS, 100.1) == pytest.approx(2.0, abs=0.2)


def test_where_a_faster_voice_comes_in_the_slow_one_refuses_nothing():
    admission, passages = warm(service_s=20.0)
    stream = StreamAdmission(admission)
    stream.faster_voice = True
    for _ in range(5):
        assert stream.refusal(SECONDS, TIMEOUT_S, 100.0) is None
        enter(passages, stream, 100.0)


def test_the_limit_is_what_the_models_do_in_a_fragments_time():
    assert Admission().limit == START
    admission, _ = warm(service_s=2.0, at_once=3)
    StreamAdmission(admission).refusal(SECONDS, TIMEOUT_S, 100.0)
    assert admission.limit == pytest.approx(3 / 2.0 * TIMEOUT_S, rel=0.05)


def warm(service_s: float, *, at_once: float = 1, at: float = 90.0) -> tuple[Admission, list[Passage]]:
    """A forecast that has seen voices take so long, lately."""
    admission = Admission()
    for stage in Stage:
        admission.serves(stage, at_once if stage is Stage.TTS else 100)
    stream = StreamAdmission(admission)
    for _ in range(10):
        passage = stream.enter(SECONDS, TIMEOUT_S, at)
        done = timed_outcome(tts_s=service_s)
        stream.reach(passage, Stage.TTS, heard(done), at)
        stream.leave(passage, done, at)
    return admission, []


def enter(passages: list[Passage], stream: StreamAdmission, now: float) -> None:
    """A fragment comes in and goes on to the voice at once."""
    passage = stream.enter(SECONDS, TIMEOUT_S, now)
    done = timed_outcome(tts_s=1.0)
    stream.reach(passage, Stage.TTS, heard(done), now)
    passages.append(passage)


def test_a_stream_that_never_had_its_turn_is_let_in_once_whatever_others_take():
    """Its own words may be quicker to say."""
    admission, passages = warm(service_s=20.0)
    stream = StreamAdmission(admission)
    assert stream.refusal(SECONDS, TIMEOUT_S, 100.0) is None
    enter(passages, stream, 100.0)
    assert passages[0].trial
    assert stream.refusal(SECONDS, TIMEOUT_S, 100.0) is not None


def test_one_text_that_takes_for_ever_closes_the_door_for_nobody():
    admission, passages = warm(service_s=2.0)
    stream = StreamAdmission(admission)
    enter(passages, stream, 90.0)
    stream.leave(passages[0], timed_outcome(tts_s=100.0), 90.0)
    assert stream.refusal(SECONDS, TIMEOUT_S, 90.0) is None
