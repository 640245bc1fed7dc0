"""What a replica does once its model has loaded: it says a sentence to itself, which warms it and is measured.

It owns the sentences and the arithmetic; the deployments know how to say them.
"""

import time
from collections.abc import Callable

from deployments.contracts import FRAGMENT_MS, Measured
from deployments.errors import Stage, StageError
from deployments.logs import get_logger
from deployments.machine import usable_cores

SENTENCE_MS = 2500
"""How long a sentence is spoken, about."""
_SENTENCES = {
    "en": "The keeper stops the ball, and the whole stadium applauds.",
    "es": "El portero detiene el balón y todo el estadio aplaude.",
    "fr": "Le gardien arrête le ballon et tout le stade applaudit.",
    "it": "Il portiere ferma il pallone e tutto lo stadio applaude.",
    "pt": "O goleiro segura a bola e todo o estádio aplaude.",
    "de": "Der Torwart hält den Ball, und das ganze Stadion jubelt.",
}
_LONG_S = 3.0
"""A first run of this length isn't followed by a second: the start would take too long."""

logger = get_logger(__name__)


def sentence(language: str) -> str:
    """A sentence of `SENTENCE_MS` in a base language; in one that has none here an English one takes as long."""
    return _SENTENCES.get(language, _SENTENCES["en"])


def measured(
    stage: Stage,
    work: Callable[[], object],
    slots: int,
    *,
    sound_ms: int = FRAGMENT_MS,
    clock: Callable[[], float] = time.perf_counter,
    cpu_clock: Callable[[], float] = time.process_time,
) -> Measured | None:
    """Do the work twice and take the second time, the first being a cold model's; None: it can't be done.

    Args:
        stage: whose work it is.
        work: what a fragment takes, for a sound of `sound_ms`; blocks.
        slots: how much of it the replica does at once.
        sound_ms: how long the sound is.
        clock: seconds, monotonic.
        cpu_clock: seconds that all threads of this process have computed.
    """
    elapsed_s = cpu_s = 0.0
    for _run in range(2):
        started_s, cpu_started_s = clock(), cpu_clock()
        try:
            work()
        except StageError as error:
            logger.warning("not_measured", stage=stage, code=error.code)
            return None
        elapsed_s, cpu_s = clock() - started_s, cpu_clock() - cpu_started_s
        if elapsed_s > _LONG_S:
            break
    in_a_fragment = FRAGMENT_MS / sound_ms * 1000
    found = Measured(round(elapsed_s * in_a_fragment, 1), round(cpu_s * in_a_fragment, 1), slots, usable_cores())
    logger.info("measured", stage=stage, fragment_ms=found.fragment_ms, cpu_ms=found.cpu_ms, slots=slots)
    return found
