"""What a replica finds out about itself, in times that the test makes up."""

import pytest

from deployments.errors import ModelFailed, Stage
from deployments.replica.measuring import SENTENCE_MS, Clocks, Times, measured, text


class World:
    """Clocks that stand still but for what a run takes: seconds that pass, are computed and are waited."""

    def __init__(self, *runs):
        self.now, self.runs = Times(100.0, 10.0, 1.0), list(runs)
        self.clocks = Clocks(
            lambda: self.now.elapsed_s, lambda: self.now.computed_s, lambda: self.now.waited_s
        )  # fmt: skip

    def work(self):
        elapsed_s, computed_s, waited_s = self.runs.pop(0)
        before = self.now
        self.now = Times(before.elapsed_s + elapsed_s, before.computed_s + computed_s, before.waited_s + waited_s)

    def measured(self, **settings):
        return measured(Stage.TTS, self.work, 2, clocks=self.clocks, **settings)


def test_the_first_run_warms_and_the_second_counts():
    found = World((2.0, 2.5, 0.0), (0.9, 1.2, 0.0)).measured()
    assert (found.fragment_ms, found.cpu_ms, found.slots) == pytest.approx((900.0, 1200.0, 2))


def test_a_shorter_sound_counts_for_a_whole_fragment():
    found = World((1.0, 1.0, 0.0), (0.5, 0.8, 0.0)).measured(sound_ms=2000)
    assert (found.fragment_ms, found.cpu_ms) == pytest.approx((1500.0, 2400.0))


def test_a_long_first_run_is_not_followed_by_another():
    world = World((3.5, 4.0, 0.0))
    assert world.measured().fragment_ms == pytest.approx(3500.0)


@pytest.mark.parametrize(
    ("run", "alone_s"),
    [
        ((0.5, 0.0, 0.0), 0.5),  # it slept
        ((2.0, 0.5, 1.5), 0.5),  # one thread, which had a quarter of a core
        ((2.0, 1.0, 3.0), 0.5),  # two threads side by side, each with a quarter of a core
        ((1.5, 0.5, 0.5), 1.0),  # it slept .5 s, computed .5 s, waited .5 s
        ((0.0, 0.0, 0.0), 0.0),
    ],
)
def test_waiting_for_a_core_that_others_used_does_not_count(run, alone_s):
    assert Times(*run).alone_s == pytest.approx(alone_s)


def test_a_model_that_fails_at_it_is_not_measured():
    def fail():
        raise ModelFailed(Stage.TTS, "no")

    assert measured(Stage.TTS, fail, 1) is None


def test_what_is_no_failure_of_a_model_ends_the_start():
    with pytest.raises(ZeroDivisionError):
        measured(Stage.TTS, lambda: 1 / 0, 1)


def test_every_language_has_something_to_say():
    assert text("es") != text("ja") == text("en")
    assert text("es", 3 * SENTENCE_MS).count(text("es", SENTENCE_MS)) == 3
