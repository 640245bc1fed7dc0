"""A stream keeps its voice from fragment to fragment, whichever of the two it is."""

from serve_app.stream.voice_tier import HOLD_S, MOST_HOLD_S, VoiceTier


def test_the_first_voice_speaks_what_it_can_in_time() -> None:
    tier = VoiceTier()
    assert not tier.choose(6.9, 7.0, 0.0)


def test_the_faster_voice_speaks_what_it_can_not_and_stays_for_a_while() -> None:
    tier = VoiceTier()
    assert tier.choose(7.1, 7.0, 0.0)
    assert tier.choose(1.0, 7.0, HOLD_S - 0.1)
    assert not tier.choose(1.0, 7.0, HOLD_S)


def test_the_first_voice_comes_back_only_with_time_to_spare() -> None:
    tier = VoiceTier()
    tier.choose(8.0, 7.0, 0.0)
    assert tier.choose(6.0, 7.0, HOLD_S + 1)
    assert not tier.choose(4.0, 7.0, HOLD_S + 2)


def test_a_voice_that_soon_proves_too_slow_again_stays_away_longer_each_time() -> None:
    tier, now, stays_s = VoiceTier(), 0.0, []
    for _ in range(6):
        tier.fall(now)
        fell_at = now
        while tier.choose(1.0, 7.0, now):
            now += 1.0
        stays_s.append(now - fell_at)
        now += 1.0
    assert stays_s == [HOLD_S, 2 * HOLD_S, 4 * HOLD_S, MOST_HOLD_S, MOST_HOLD_S, MOST_HOLD_S]


def test_one_that_held_for_long_is_given_its_chance_anew() -> None:
    tier = VoiceTier()
    tier.fall(0.0)
    assert not tier.choose(1.0, 7.0, HOLD_S)
    tier.fall(10 * HOLD_S)
    assert not tier.choose(1.0, 7.0, 11 * HOLD_S)


def test_falling_once_more_changes_nothing() -> None:
    tier = VoiceTier()
    tier.fall(0.0)
    tier.fall(HOLD_S - 1)
    assert not tier.choose(1.0, 7.0, HOLD_S)
