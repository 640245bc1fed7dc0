"""One loaded engine with its threads: utterances of many callers, heard together."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from deployments.batching.collection import BatchLimits
from deployments.batching.gatherer import Gatherer
from deployments.contracts.engines import AsrEngine, Utterance
from deployments.contracts.values import Recognition
from deployments.errors import Stage, StageError
from deployments.replica.health import Health
from deployments.replica.slowdown import slowed
from deployments.replica.thread_pool import ThreadPool, aside

_ANY_BUDGET_MS = 1000
"""The engine is called only when one of its threads is free."""
Heard: TypeAlias = tuple[Recognition, int]
"""What was heard, and how many ms the call took in which it was."""


class Recogniser:
    """Calls of one engine.

    Args:
        engine: not loaded yet.
        concurrency: calls of it that may compute at once.
        slowdown: each takes so many times as long as it would.
        clock: seconds, monotonic.
    """

    def __init__(self, engine: AsrEngine, concurrency: int, slowdown: float, clock: Callable[[], float]) -> None:
        self.engine = engine
        self.threads = ThreadPool(Stage.ASR, concurrency, clock=clock)
        self.health = Health()
        self._slowdown = slowdown
        self._clock = clock
        self._gatherer: Gatherer[Utterance, Heard] = Gatherer(
            Stage.ASR, self._call, BatchLimits(), concurrency, foretells=True, clock=clock
        )

    @property
    def n_waiting(self) -> int:
        """Utterances that wait for their call to begin."""
        return self._gatherer.n_waiting

    @property
    def at_once(self) -> int:
        """Utterances that are heard at once, at most."""
        return self._gatherer.at_once

    def load(self) -> None:
        """Load the engine; blocks."""
        aside(self.engine.load)

    def configure(self, limits: BatchLimits) -> None:
        """Change how utterances are gathered."""
        self._gatherer.configure(limits)

    def hears(self, language: str) -> bool:
        """Whether the engine knows the base language."""
        return self.engine.languages is None or language in self.engine.languages

    async def hear(self, coming: Awaitable[Utterance], budget_ms: int, *, gives_way: bool) -> Heard:
        """Hear an utterance that is being decoded, in one call with others.

        Raises:
            StageError: what `coming` raised, what the engine said, or that it would come too late.
        """
        return await self._gatherer.submit_coming(coming, budget_ms, gives_way=gives_way)

    def hear_now(self, utterance: Utterance) -> None:
        """Hear one in the calling thread.

        Raises:
            StageError: what the engine said.
        """
        [answer] = slowed(lambda: self.engine.transcribe([utterance]), self._slowdown)
        if isinstance(answer, StageError):
            raise answer

    async def _call(self, utterances: Sequence[Utterance]) -> list[Heard | StageError]:
        def call() -> tuple[list[Recognition | StageError], int]:
            started_s = self._clock()
            answers = slowed(lambda: self.engine.transcribe(utterances), self._slowdown)
            return answers, round((self._clock() - started_s) * 1000)

        try:
            answers, elapsed_ms = await self.threads.run(call, _ANY_BUDGET_MS, len(utterances))
        except StageError as error:
            self.health.failed(error)
            raise
        errors = [answer for answer in answers if isinstance(answer, StageError)]
        if len(errors) < len(answers):
            self.health.succeeded()
        else:
            self.health.failed(errors[0])
        return [answer if isinstance(answer, StageError) else (answer, elapsed_ms) for answer in answers]
