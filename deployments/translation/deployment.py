"""The Translation deployment. A plain class; Ray is put around it in `serve_app.app`."""

import time
from collections.abc import Callable

from deployments import contracts
from deployments.contracts import TranslateRequest, TranslationCapabilities, TranslationEngine
from deployments.errors import InvalidText, Stage, StageError, UnsupportedLanguage
from deployments.health import Health
from deployments.logs import about, configure_logs, get_logger
from deployments.worker import WorkerThreads

MAX_TEXT_BYTES = 128 * 1024
"""In UTF-8; what translation services take in one request. Speech of one fragment comes nowhere near it."""

logger = get_logger(__name__)


class Translation:
    """One replica: one loaded engine.

    Args:
        engine: not loaded yet.
        concurrency: texts that may be translated at once.
        log_level: of the replica's process.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        engine: TranslationEngine,
        concurrency: int = 1,
        log_level: str = "INFO",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._engine = engine
        configure_logs(log_level)
        self._clock = clock
        self._threads = WorkerThreads(Stage.TRANSLATION, concurrency)
        self._health = Health()
        started_s = clock()
        engine.load()
        logger.info("translation_loaded", model=engine.model, elapsed_ms=self._ms_since(started_s))

    async def translate(self, request: TranslateRequest) -> contracts.Translation:
        """Translate one fragment's text. The result's text may be empty.

        Raises:
            UnsupportedLanguage: the engine can't do the pair.
            InvalidText: the text is too long.
            DeadlineExceeded: no thread came free, or no answer came, within the budget.
            StageError: what else the engine could not do.
        """
        with about(request.ref, Stage.TRANSLATION):
            try:
                translation = await self._threads.run(lambda: self._translate(request), request.budget_ms)
            except StageError as error:
                self._health.failed(error)
                logger.warning("translation_failed", code=error.code)
                raise
            self._health.succeeded()
            logger.info("translated", elapsed_ms=translation.elapsed_ms, n_characters=len(translation.text))
            return translation

    def _translate(self, request: TranslateRequest) -> contracts.Translation:
        started_s = self._clock()
        pairs = self._engine.pairs
        if pairs is not None and (request.source_language, request.target_language) not in pairs:
            pair = f"{request.source_language} to {request.target_language}"
            raise UnsupportedLanguage(Stage.TRANSLATION, f"{self._engine.model} does not translate {pair}")
        n_bytes = len(request.text.encode())
        if n_bytes > MAX_TEXT_BYTES:
            raise InvalidText(Stage.TRANSLATION, f"the text has {n_bytes} bytes, more than {MAX_TEXT_BYTES}")
        [translated] = self._engine.translate([request])
        if isinstance(translated, StageError):
            raise translated
        return contracts.Translation(
            text=translated.strip(),
            source_language=request.source_language,
            target_language=request.target_language,
            model=self._engine.model,
            elapsed_ms=self._ms_since(started_s),
        )

    def _ms_since(self, started_s: float) -> int:
        return round((self._clock() - started_s) * 1000)

    async def capabilities(self) -> TranslationCapabilities:
        """What streams may ask for."""
        return TranslationCapabilities(self._engine.model, self._engine.pairs)

    def check_health(self) -> None:
        """Raise RuntimeError when the replica should be replaced."""
        self._health.check()

    def __del__(self) -> None:
        self._engine.close()
