"""What a replica does once its model has loaded: it says a sentence to itself, which warms it and is measured.

It owns the sentences and the arithmetic; the deployments know how to say them.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from deployments.contracts.values import FRAGMENT_MS, Measured
from deployments.errors import Stage, StageError
from deployments.logs import get_logger
from deployments.replica.machine import usable_cores, waited_s

SENTENCE_MS = 2000
"""How long a sentence is spoken, about."""
_SENTENCES = {
    "en": "The keeper stops the ball in time.",
    "es": "El portero detiene el balón.",
    "fr": "Le gardien arrête le ballon à temps.",
    "it": "Il portiere ferma il pallone.",
    "pt": "O goleiro segura a bola bem.",
    "de": "Der Torwart hält den Ball sicher.",
}
_LONG_S = 3.0
"""A first run of this length isn't followed by a second: the start would take too long."""

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds."""

    elapsed_s: float
    computed_s: float
    """By all threads of this process together."""
    waited_s: float
    """By all threads that could have computed, had a core been free."""

    def __sub__(self, before: "Times") -> "Times":
        return Times(
            self.elapsed_s - before.elapsed_s,
            self.computed_s - before.computed_s,
            self.waited_s - before.waited_s,
        )

    @property
    def alone_s(self) -> float:
        """What it would have taken with free cores: without the waiting, which threads did side by side."""
        threads = max(1.0, (self.computed_s + self.waited_s) / self.elapsed_s) if self.elapsed_s else 1.0
        return max(self.elapsed_s - self.waited_s / threads, 0.0)


@dataclass(frozen=True, slots=True)
class Clocks:
    """Where times are read."""

    elapsed_s: Callable[[], float] = time.perf_counter
    computed_s: Callable[[], float] = time.process_time
    waited_s: Callable[[], float] = waited_s

    def read(self) -> Times:
        """All of them now."""
        return Times(self.elapsed_s(), self.computed_s(), self.waited_s())


_CLOCKS = Clocks()


def text(language: str, sound_ms: int = FRAGMENT_MS) -> str:
    """What takes so long to say in a base language; in one that has nothing here, English takes as long."""
    return " ".join([_SENTENCES.get(language, _SENTENCES["en"])] * max(1, round(sound_ms / SENTENCE_MS)))


def measured(
    stage: Stage,
    work: Callable[[], object],
    slots: int,
    *,
    sound_ms: int = FRAGMENT_MS,
    clocks: Clocks = _CLOCKS,
) -> Measured | None:
    """Do the work twice and take the shorter time, the first being a cold model's; None: it can't be done.

    Models load beside each other, so what was spent on waiting for a core is taken off.

    Args:
        stage: whose work it is.
        work: what a fragment takes, for a sound of `sound_ms`; blocks.
        slots: how much of it the replica does at once.
        sound_ms: how long the sound is.
        clocks: of this process.
    """
    alone_s = cpu_s = math.inf
    for _run in range(2):
        before = clocks.read()
        try:
            work()
        except StageError as error:
            logger.warning("not_measured", stage=stage, code=error.code)
            return None
        took = clocks.read() - before
        alone_s, cpu_s = min(alone_s, took.alone_s), min(cpu_s, took.computed_s)
        if took.elapsed_s > _LONG_S:
            break
    in_a_fragment = FRAGMENT_MS / sound_ms * 1000
    found = Measured(round(alone_s * in_a_fragment, 1), round(cpu_s * in_a_fragment, 1), slots, usable_cores())
    logger.info("measured", stage=stage, fragment_ms=found.fragment_ms, cpu_ms=found.cpu_ms, slots=slots)
    return found
