"""Where the phrases of a dub go."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.audio.alignment import LEAST_GAP_MS, MOST_PIECES, Placed, joined, overlap_ms, place, with_edges
from deployments.audio.timing import FitLimits
from deployments.contracts.values import Span

LIMITS = FitLimits()


def spans(*pairs):
    return [Span(start, end) for start, end in pairs]


def heard(phrases, speech, room_ms=6000):
    return [(placed.start_ms, placed.heard.end_ms) for placed in place(phrases, speech, room_ms, LIMITS)]


def test_a_dub_begins_and_ends_with_its_original():
    assert heard(spans((0, 2000)), spans((1500, 3500))) == [(1500, 3500)]


def test_a_pause_stays_where_it_was():
    assert heard(spans((0, 1000), (1300, 2300)), spans((200, 1200), (4000, 5000))) == [(200, 1200), (4000, 5000)]


def test_a_short_phrase_is_slowed_to_the_natural_limit_and_no_further():
    (placed,) = place(spans((0, 500)), spans((1000, 3000)), 6000, LIMITS)
    assert placed.speed_ratio == LIMITS.natural_speed
    assert placed.start_ms == 1000


def test_its_own_pauses_are_shortened_before_anything_is_hurried():
    placed = place(spans((0, 1000), (1600, 2600)), spans((0, 1800)), 1800, LIMITS)
    assert placed[-1].heard.end_ms == pytest.approx(1800, abs=2)
    assert {one.speed_ratio for one in placed} == {LIMITS.comfortable_speed}


def test_what_is_too_long_runs_into_the_pause_behind_at_a_comfortable_speed():
    (placed,) = place(spans((0, 2500)), spans((500, 2000)), 6000, LIMITS)
    assert (placed.start_ms, placed.heard.end_ms, placed.speed_ratio) == (500, 2500, LIMITS.comfortable_speed)


def test_with_no_pause_behind_it_begins_in_the_one_before():
    (placed,) = place(spans((0, 2500)), spans((4500, 6000)), 6000, LIMITS)
    assert (placed.start_ms, placed.heard.end_ms, placed.speed_ratio) == (4000, 6000, LIMITS.comfortable_speed)


def test_only_then_it_is_squeezed_and_takes_all_the_room():
    (placed,) = place(spans((0, 9000)), spans((1000, 5000)), 6000, LIMITS)
    assert (placed.start_ms, placed.heard.end_ms, placed.speed_ratio) == (0, 6000, 1.5)


def test_what_may_run_over_the_end_does_so_before_it_is_squeezed():
    (placed,) = place(spans((0, 7750)), spans((1000, 5000)), 6000, LIMITS, beyond_ms=400)
    assert (placed.start_ms, placed.heard.end_ms, placed.speed_ratio) == (0, 6200, LIMITS.comfortable_speed)


def test_what_fits_into_the_pauses_does_not_run_over():
    (placed,) = place(spans((0, 2500)), spans((4500, 6000)), 6000, LIMITS, beyond_ms=400)
    assert placed.heard.end_ms == 6000


def test_what_is_squeezed_takes_the_time_beyond_the_end_too():
    (placed,) = place(spans((0, 9600)), spans((1000, 5000)), 6000, LIMITS, beyond_ms=400)
    assert (placed.heard.end_ms, placed.speed_ratio) == (6400, 1.5)


def test_only_the_last_phrases_run_over():
    first, last = place(spans((0, 2000), (2500, 8000)), spans((0, 1500), (3500, 6000)), 6000, LIMITS, beyond_ms=400)
    assert first.heard.end_ms <= last.start_ms - LEAST_GAP_MS
    assert 6000 < last.heard.end_ms <= 6400


def test_time_that_is_taken_at_the_start_stays_free():
    (placed,) = place(spans((0, 1000)), spans((0, 1200)), 6000, LIMITS, free_from_ms=480)
    assert (placed.start_ms, placed.speed_ratio) == (480, LIMITS.comfortable_speed)


def test_what_no_speed_fits_is_not_placed():
    assert place(spans((0, 12_001)), spans((0, 6000)), 6000, LIMITS) == ()


@pytest.mark.parametrize(("phrases", "speech"), [([], [(0, 100)]), ([(0, 100)], []), ([(0, 100)], [(6000, 6100)])])
def test_without_speech_on_both_sides_nothing_is_placed(phrases, speech):
    assert place(spans(*phrases), spans(*speech), 6000, LIMITS) == ()


def _track(most_ms, most_gap_ms):
    lengths = st.tuples(st.integers(LEAST_GAP_MS, most_gap_ms), st.integers(1, most_ms))
    return st.lists(lengths, min_size=1, max_size=20).map(_laid_out)


def _laid_out(lengths):
    found, at_ms = [], 0
    for gap_ms, duration_ms in lengths:
        found.append(Span(at_ms + gap_ms, at_ms + gap_ms + duration_ms))
        at_ms = found[-1].end_ms
    return found


@given(_track(2000, 900), _track(3000, 2000), st.integers(1, 3000), st.integers(0, 480), st.integers(0, 400))
def test_whatever_is_placed_keeps_its_order_its_room_and_the_limits(phrases, speech, more_ms, free_ms, beyond_ms):
    room_ms = speech[-1].end_ms + more_ms
    placed = place(phrases, speech, room_ms, LIMITS, free_from_ms=free_ms, beyond_ms=beyond_ms)
    if not placed:
        voice_ms = free_ms + sum(phrase.duration_ms for phrase in phrases)
        assert voice_ms / LIMITS.max_speed > min(span.duration_ms for span in speech) - MOST_PIECES * LEAST_GAP_MS
        return
    sources = [one.spoken for one in placed]
    assert (sources[0].start_ms, sources[-1].end_ms) == (phrases[0].start_ms, phrases[-1].end_ms)
    assert overlap_ms(sources, phrases) == sum(phrase.duration_ms for phrase in phrases), "nothing is left out"
    assert placed[0].start_ms >= free_ms
    assert placed[-1].heard.end_ms <= room_ms + beyond_ms + len(placed), "but for rounding"
    for before, after in pairwise(placed):
        assert after.start_ms - before.heard.end_ms >= LEAST_GAP_MS / LIMITS.max_speed - 2
    for one in placed:
        assert LIMITS.slowest_speed - 1e-9 <= one.speed_ratio <= LIMITS.max_speed + 1e-9


def test_neighbours_are_joined_below_the_least_gap():
    assert joined(spans((900, 1000), (0, 100), (299, 500)), 200) == (Span(0, 500), Span(900, 1000))


def test_overlap_is_what_two_sets_of_spans_have_in_common():
    assert overlap_ms(spans((0, 100), (200, 400)), spans((50, 250), (390, 1000))) == 50 + 50 + 10


def test_edges_come_out_of_the_quiet_around_and_move_nothing():
    placed = [
        Placed(Span(20, 1000), 500, 1.0),
        Placed(Span(1060, 2000), 2000, 2.0),
        Placed(Span(2400, 3000), 2500, 1.0),
    ]
    found = with_edges(placed, 3000, 3130, 50)
    assert [(one.spoken.start_ms, one.spoken.end_ms) for one in found] == [(0, 1030), (1030, 2030), (2385, 3000)]
    assert [one.start_ms for one in found] == [480, 1985, 2485]


@given(_track(2000, 900), _track(3000, 2000), st.integers(1, 3000), st.integers(0, 100), st.integers(0, 480))
def test_edges_never_touch(phrases, speech, more_ms, edge_ms, free_ms):
    room_ms, spoken_ms = speech[-1].end_ms + more_ms, phrases[-1].end_ms + edge_ms
    placed = place(phrases, speech, room_ms, LIMITS, free_from_ms=free_ms)
    found = with_edges(placed, spoken_ms, room_ms, edge_ms, free_ms)
    for before, after in pairwise(found):
        assert before.spoken.end_ms <= after.spoken.start_ms
        assert before.heard.end_ms <= after.start_ms + 1, "but for rounding"
    for one in found:
        assert one.start_ms >= free_ms
        assert one.spoken.end_ms <= spoken_ms
