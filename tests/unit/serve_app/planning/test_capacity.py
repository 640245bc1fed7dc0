"""How many live streams a machine carries, and what people are told of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.contracts.values import Measured
from serve_app.planning.capacity import UTILISATION, Fleet, machine, sentences
from serve_app.planning.figures import INGRESS_MS


def took(ms, cpu_ms=None, slots=1, cores=2.0):
    return Measured(ms, ms if cpu_ms is None else cpu_ms, slots, cores)


def streams(fleets=None, nodes=1, **measured):
    told = {"Asr": took(1, 0), "Translation": took(1, 0), "Tts": took(1, 0)} | measured
    return machine(told, fleets or {}, nodes).live_streams


def test_the_narrowest_stage_decides_where_none_computes_here():
    assert streams(Tts=took(4300, 0)) == pytest.approx(UTILISATION * 6000 / 4300, abs=0.01)
    assert streams(Tts=took(3000, 0, slots=2)) == pytest.approx(UTILISATION * 4, abs=0.01)
    assert streams({"Tts": Fleet(3)}, Tts=took(3000, 0)) == pytest.approx(UTILISATION * 6, abs=0.01)


def test_stages_that_share_cores_carry_what_they_compute_together():
    """Each alone would carry eight; two cores that do 500 + 1500 ms for each fragment carry six at most."""
    found = streams(Asr=took(500, 500, slots=2), Tts=took(750, 1500, slots=2))
    assert found == pytest.approx(UTILISATION * 2 * 6000 / (2000 + INGRESS_MS.value), abs=0.01)


def test_more_replicas_on_the_same_cores_carry_no_more():
    busy = {"Asr": took(500), "Tts": took(1500, 2500, slots=2)}
    assert streams({"Tts": Fleet(4), "Asr": Fleet(4)}, **busy) == streams({"Tts": Fleet(2)}, **busy)


def test_replicas_that_share_a_card_have_their_part_of_its_time():
    whole, half = ({"Tts": Fleet(1, share)} for share in (1.0, 0.5))
    assert streams(half, Tts=took(1000, 0)) == pytest.approx(streams(whole, Tts=took(1000, 0)) / 2, abs=0.01)
    assert streams(whole, Tts=took(1000, 0, slots=4)) == streams(whole, Tts=took(1000, 0))


def test_several_machines_have_their_cores_together():
    busy = {"Tts": took(100, 3000, slots=8)}
    assert streams(nodes=3, **busy) == pytest.approx(3 * streams(**busy), abs=0.05)


@pytest.mark.parametrize("missing", ["Asr", "Tts"])
def test_nothing_is_told_while_a_model_has_told_nothing(missing):
    assert streams(**{missing: None}) is None


def test_somebody_elses_translation_takes_nothing_of_this_machine():
    found = machine({"Asr": took(300), "Translation": None, "Tts": took(900)}, {})
    assert found.live_streams is not None
    assert found.measured.translation_ms is None
    assert (found.measured.asr_ms, found.measured.tts_ms, found.measured.tts_cpu_ms) == (300, 900, 900)


@given(
    st.floats(1, 20_000),
    st.floats(1, 20_000),
    st.integers(1, 8),
    st.floats(0.25, 64),
    st.floats(1.01, 4),
)
def test_a_slower_machine_carries_less_and_never_more_than_its_cores_compute(asr_ms, tts_ms, slots, cores, slower):
    fast = streams(Asr=took(asr_ms, cores=cores), Tts=took(tts_ms, slots=slots, cores=cores))
    slow = streams(Asr=took(asr_ms * slower, cores=cores), Tts=took(tts_ms * slower, slots=slots, cores=cores))
    assert slow <= fast
    assert fast * (asr_ms + tts_ms) <= cores * 6000 + 0.005 * (asr_ms + tts_ms) + 1


def ready(live_streams, **measured):
    times = {"asr_ms": 300.0, "translation_ms": 2.0, "tts_ms": 1500.0, **measured}
    return {"status": "ready", "deployments": {}, "live_streams": live_streams, "measured": times}


@pytest.mark.parametrize(("streams", "told"), [(2.83, "about 2 live streams"), (1.0, "about 1 live stream (")])
def test_people_are_told_whole_streams_and_what_a_fragment_takes(streams, told):
    [line] = sentences(ready(streams))
    assert told in line
    assert "300 ms to recognise, 2 ms to translate, 1500 ms to speak" in line


def test_where_the_voice_is_too_slow_for_one_stream_people_are_told_what_to_do():
    first, second = sentences(ready(0.66, tts_ms=6100.0))
    assert "less than one live stream (0.66;" in first
    for word in ("tts.faster", "LIVEDUB_TTS__ENGINE=espeak", "LIVEDUB_STREAMS__TIMEOUT_MS"):
        assert word in second


def test_no_voice_is_blamed_for_a_slow_recogniser():
    assert len(sentences(ready(0.5, asr_ms=9000.0))) == 1


def test_what_was_not_measured_is_not_told():
    assert sentences(ready(None)) == sentences({"status": "ready", "deployments": {}}) == []


def test_a_machine_whose_voice_takes_longer_than_a_fragment_has_carries_less_than_one_stream():
    """Two such at once may keep the pace, and each comes too late."""
    ready = {"live_streams": 1.18, "measured": {"asr_ms": 400.0, "translation_ms": 5.0, "tts_ms": 8124.0}}
    [told, advice] = sentences(ready)
    assert "less than one live stream (one fragment takes longer than the 8 s it has" in told
    assert "LIVEDUB_TTS__ENGINE=espeak" in advice
