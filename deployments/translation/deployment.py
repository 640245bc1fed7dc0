"""The Translation deployment. A plain class; Ray is put around it in `serve_app.app`."""

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from deployments.batching.collection import BatchLimits
from deployments.batching.gatherer import Gatherer
from deployments.contracts import values
from deployments.contracts.engines import TranslationEngine
from deployments.contracts.values import ITSELF, Measured, TranslateRequest, TranslationCapabilities
from deployments.errors import DeadlineExceeded, InvalidText, Stage, StageError, UnsupportedLanguage
from deployments.logs import about, configure_logs, get_logger
from deployments.replica import measuring
from deployments.replica.health import Health
from deployments.replica.slowdown import slowed
from deployments.replica.thread_pool import ThreadPool

MAX_TEXT_BYTES = 128 * 1024
"""In UTF-8; what translation services take in one request. Speech of one fragment comes nowhere near it."""
_OWN_BUDGET_MS = 5000
"""For the sentence that it is measured with."""

logger = get_logger(__name__)


@runtime_checkable
class Batching(Protocol):
    """What an engine has beside its protocol when several texts are better given to it at once: it asks a service.

    Its calls run side by side anyway, so gathering saves requests, not computing time.
    """

    @property
    def batch_limits(self) -> BatchLimits:
        """How many, and how long to wait for them."""

    def batch_key(self, request: TranslateRequest) -> Hashable:
        """Requests with equal keys fit into one call."""


@dataclass(frozen=True, slots=True)
class _Arrived:
    request: TranslateRequest
    at_s: float


class Translation:
    """One replica: one loaded engine.

    Args:
        engine: not loaded yet. One that is Batching gets the texts of several streams at once.
        concurrency: texts that may be translated at once.
        log_level: of the replica's process.
        slowdown: each call of the engine takes so many times as long as it would.
        measure: translate a sentence once it is loaded, and tell in the capabilities what that took.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        engine: TranslationEngine,
        concurrency: int = 1,
        log_level: str = "INFO",
        *,
        slowdown: float = 1.0,
        measure: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._engine = engine
        self._slowdown = slowdown
        configure_logs(log_level)
        self._clock = clock
        self._concurrency = concurrency
        self._threads = ThreadPool(Stage.TRANSLATION, concurrency, clock)
        self._health = Health()
        started_s = clock()
        engine.load()
        self._batching = engine if isinstance(engine, Batching) else None
        limits = self._batching.batch_limits if self._batching else BatchLimits()
        self._gatherer: Gatherer[_Arrived, values.Translation] = Gatherer(
            Stage.TRANSLATION, self._run, limits, concurrency, waits_for_all=True, clock=clock
        )
        logger.info("translation_loaded", model=engine.model, elapsed_ms=self._ms_since(started_s))
        self._measured = self._measure(concurrency) if measure else None

    async def translate(self, request: TranslateRequest) -> values.Translation:
        """Translate one fragment's text. The result's text may be empty.

        Raises:
            UnsupportedLanguage: the engine can't do the pair.
            InvalidText: the text is too long.
            DeadlineExceeded: no thread came free, or no answer came, within the budget.
            StageError: what else the engine could not do.
        """
        with about(request.ref, Stage.TRANSLATION):
            try:
                self._refuse_what_cannot_be(request)
                key = self._batching.batch_key(request) if self._batching else None
                arrived = _Arrived(request, self._clock())
                translation = await self._gatherer.submit(arrived, request.budget_ms, key)
            except StageError as error:
                self._health.failed(error)
                logger.warning("translation_failed", code=error.code)
                raise
            self._health.succeeded()
            logger.info("translated", elapsed_ms=translation.elapsed_ms, n_characters=len(translation.text))
            return translation

    def _refuse_what_cannot_be(self, request: TranslateRequest) -> None:
        pairs = self._engine.pairs
        if pairs is not None and (request.source_language, request.target_language) not in pairs:
            pair = f"{request.source_language} to {request.target_language}"
            raise UnsupportedLanguage(Stage.TRANSLATION, f"{self._engine.model} does not translate {pair}")
        n_bytes = len(request.text.encode())
        if n_bytes > MAX_TEXT_BYTES:
            raise InvalidText(Stage.TRANSLATION, f"the text has {n_bytes} bytes, more than {MAX_TEXT_BYTES}")

    async def _run(self, batch: Sequence[_Arrived]) -> Sequence[values.Translation | StageError]:
        """Translate several texts in one thread, each within what is left of its budget then."""
        longest_ms = max(arrived.request.budget_ms for arrived in batch)
        return await self._threads.run(lambda: self._translate(batch), longest_ms, len(batch))

    def _translate(self, batch: Sequence[_Arrived]) -> list[values.Translation | StageError]:
        started_s = self._clock()
        requests = [replace(a.request, budget_ms=a.request.budget_ms - _ms(started_s - a.at_s)) for a in batch]
        timely = [request for request in requests if request.budget_ms > 0]
        answers = iter(slowed(lambda: self._engine.translate(timely), self._slowdown) if timely else ())
        elapsed_ms = self._ms_since(started_s)
        late = DeadlineExceeded(Stage.TRANSLATION, "the fragment's time ran out while it waited for a free slot")
        return [
            self._told(request, next(answers), elapsed_ms) if request.budget_ms > 0 else late for request in requests
        ]

    def _told(
        self, request: TranslateRequest, answer: str | StageError, elapsed_ms: int
    ) -> values.Translation | StageError:
        if isinstance(answer, StageError):
            return answer
        return values.Translation(
            text=answer.strip(),
            source_language=request.source_language,
            target_language=request.target_language,
            model=self._engine.model,
            elapsed_ms=elapsed_ms,
        )

    def _measure(self, slots: int) -> Measured | None:
        pairs = self._engine.pairs or {("en", "es")}
        source, target = ("en", "es") if ("en", "es") in pairs else min(pairs)
        text = measuring.text(source)
        request = TranslateRequest(ITSELF, text, source, target, hints=(), context="", budget_ms=_OWN_BUDGET_MS)

        def translate() -> None:
            [answer] = self._engine.translate([request])
            if isinstance(answer, StageError):
                raise answer

        return measuring.measured(Stage.TRANSLATION, translate, slots)

    def _ms_since(self, started_s: float) -> int:
        return _ms(self._clock() - started_s)

    async def capabilities(self) -> TranslationCapabilities:
        """What streams may ask for."""
        at_once = 0 if self._batching else self._concurrency
        return TranslationCapabilities(self._engine.model, self._engine.pairs, self._measured, at_once)

    def check_health(self) -> None:
        """Raise RuntimeError when the replica should be replaced."""
        self._health.check()
        self._threads.check()

    def __del__(self) -> None:
        self._engine.close()


def _ms(elapsed_s: float) -> int:
    return round(elapsed_s * 1000)
