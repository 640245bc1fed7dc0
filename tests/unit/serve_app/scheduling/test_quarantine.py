"""Content that kills replicas is found, and what only shared a replica with it goes free."""

import pytest

from deployments.errors import Stage
from serve_app.scheduling.quarantine import Quarantine

ASR = Stage.ASR


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quarantine(clock: Clock) -> Quarantine:
    return Quarantine(clock, max_contents=3, expiry_s=100)


def die(quarantine: Quarantine, replica: str, *digests: str) -> list[str]:
    """All these are at the stage when the replica dies; returns who is convicted by it."""
    attempts = {digest: quarantine.begin(ASR, suspect=quarantine.suspected(ASR, digest)) for digest in digests}
    convicted = []
    for digest, attempt in attempts.items():
        if quarantine.died(attempt, digest, replica):
            convicted.append(digest)
        quarantine.end(attempt)
    return convicted


def test_who_was_alone_when_two_replicas_died_is_convicted_by_the_second(quarantine: Quarantine) -> None:
    assert die(quarantine, "r1", "killer") == []
    assert not quarantine.convicted(ASR, "killer")
    assert die(quarantine, "r2", "killer") == ["killer"]
    assert quarantine.convicted(ASR, "killer")


def test_one_of_the_two_times_alone_is_enough(quarantine: Quarantine) -> None:
    die(quarantine, "r1", "killer", "innocent")

    assert die(quarantine, "r2", "killer") == ["killer"]
    assert not quarantine.suspected(ASR, "innocent")


def test_a_replica_that_was_dead_already_is_no_second_death(quarantine: Quarantine) -> None:
    die(quarantine, "r1", "content")

    assert die(quarantine, "r1", "content") == []
    assert not quarantine.convicted(ASR, "content")


def test_company_at_both_deaths_makes_suspects_and_convicts_nobody(quarantine: Quarantine) -> None:
    die(quarantine, "r1", "killer", "innocent")
    assert die(quarantine, "r2", "killer", "innocent") == []

    assert quarantine.suspected(ASR, "killer")
    assert quarantine.suspected(ASR, "innocent")


def test_a_suspect_that_kills_apart_from_the_others_is_convicted_and_one_that_does_not_is_cleared(
    quarantine: Quarantine,
) -> None:
    die(quarantine, "r1", "killer", "innocent")
    die(quarantine, "r2", "killer", "innocent")
    quarantine.survived(ASR, "innocent")

    assert die(quarantine, "r3", "fresh", "killer") == ["killer"]
    assert not quarantine.suspected(ASR, "innocent")
    assert not quarantine.suspected(ASR, "fresh")


def test_company_counts_even_when_it_left_before_the_death_or_came_after_the_start(quarantine: Quarantine) -> None:
    quarantine.died(quarantine.begin(ASR), "other", "r0")
    first = quarantine.begin(Stage.TTS)
    brief = quarantine.begin(Stage.TTS)
    quarantine.end(brief)
    quarantine.died(first, "content", "r1")
    quarantine.end(first)
    early = quarantine.begin(Stage.TTS)
    second = quarantine.begin(Stage.TTS)
    quarantine.end(early)

    assert not quarantine.died(second, "content", "r2")
    assert quarantine.suspected(Stage.TTS, "content")


def test_stages_are_judged_apart(quarantine: Quarantine) -> None:
    elsewhere = quarantine.begin(Stage.TTS)
    die(quarantine, "r1", "killer")
    assert die(quarantine, "r2", "killer") == ["killer"]
    quarantine.end(elsewhere)

    assert not quarantine.convicted(Stage.TTS, "killer")


def test_success_between_two_deaths_starts_over(quarantine: Quarantine) -> None:
    die(quarantine, "r1", "content")
    quarantine.survived(ASR, "content")

    assert die(quarantine, "r2", "content") == []
    assert not quarantine.convicted(ASR, "content")


def test_a_conviction_stands_and_is_told_once(quarantine: Quarantine) -> None:
    running = quarantine.begin(ASR)
    quarantine.end(running)
    die(quarantine, "r1", "killer")
    die(quarantine, "r2", "killer")
    quarantine.survived(ASR, "killer")

    assert not quarantine.died(running, "killer", "r3")
    assert quarantine.convicted(ASR, "killer")
    assert not quarantine.suspected(ASR, "killer")


def test_marks_expire(quarantine: Quarantine, clock: Clock) -> None:
    die(quarantine, "r1", "killer")
    die(quarantine, "r2", "killer")
    clock.now_s += 99
    assert quarantine.convicted(ASR, "killer")
    clock.now_s += 1
    assert not quarantine.convicted(ASR, "killer")
    assert quarantine.empty


def test_it_is_empty_again_though_nobody_asks_for_what_has_expired(quarantine: Quarantine, clock: Clock) -> None:
    """Else one death would have every fragment hashed for ever after."""
    die(quarantine, "r1", "early")
    clock.now_s += 50
    die(quarantine, "r2", "late")
    clock.now_s += 99
    assert not quarantine.empty
    clock.now_s += 1
    assert quarantine.empty


def test_a_new_mark_makes_an_old_one_last(quarantine: Quarantine, clock: Clock) -> None:
    """Times are kept in the order of the last death, whatever came first."""
    die(quarantine, "r1", "again")
    clock.now_s += 10
    die(quarantine, "r2", "once")
    clock.now_s += 10
    die(quarantine, "r3", "again")
    clock.now_s += 90
    assert not quarantine.empty
    assert quarantine.convicted(ASR, "again")
    clock.now_s += 10
    assert quarantine.empty


def test_what_was_marked_longest_ago_is_forgotten_first(quarantine: Quarantine) -> None:
    die(quarantine, "r1", "a")
    die(quarantine, "r2", "a")
    for digest in ("b", "c"):
        die(quarantine, "r3", digest)
    assert quarantine.convicted(ASR, "a")
    die(quarantine, "r3", "d")

    assert not quarantine.convicted(ASR, "a")
