"""A voice that is slower than the speaker hurries, and never falls behind without bound."""

import pytest

from serve_app.transcription.playback import HIGHEST_RATE, MAX_LAG_S, Playback


def test_what_was_sent_is_heard_in_its_own_time() -> None:
    playback = Playback()
    playback.sent(4.0, 10.0)
    assert (playback.lag_s(11.0), playback.lag_s(20.0)) == (3.0, 0.0)
    playback.sent(1.0, 20.0)
    assert playback.lag_s(20.0) == 1.0


@pytest.mark.parametrize(
    ("lag_s", "rate"), [(0.0, 1.0), (3.0, 1.0), (6.5, 1.25), (10.0, 1.5), (30.0, 1.5), (30.1, None)]
)
def test_the_further_behind_the_faster_up_to_where_it_is_too_late(lag_s: float, rate: float | None) -> None:
    playback = Playback()
    playback.sent(lag_s, 0.0)
    assert playback.rate(0.0) == (rate if rate is None else pytest.approx(rate))


@pytest.mark.parametrize("longer", [1.1, 1.3, 1.5, 3.0])
def test_a_language_that_takes_longer_lags_by_a_bound_for_hours(longer: float) -> None:
    """An utterance of 5 s every 5 s, whose translation takes so many times as long at the natural rate."""
    playback, worst, left_out = Playback(), 0.0, 0
    for number in range(5_000):
        now = 5.0 * number
        rate = playback.rate(now)
        if rate is None:
            left_out += 1
        else:
            playback.sent(5.0 * longer / rate, now)
        worst = max(worst, playback.lag_s(now))
    assert worst <= MAX_LAG_S + 5.0 * longer
    assert (left_out == 0) == (longer <= HIGHEST_RATE)
