"""DeepL, the engine of production. It asks one service; there is no local engine behind it (FR-016b).

Texts of one pair, context and formality share a request. Since the context is what a stream said before, texts of
different streams share one only where `context_characters` is 0: fewer requests against better translations.
"""

import re
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, SecretStr, field_validator

from deployments.batching.collection import BatchLimits
from deployments.contracts.engines import TranslationEngine
from deployments.contracts.values import TranslateRequest
from deployments.errors import DeadlineExceeded, InvalidText, Stage, StageError, TranslationAuthFailed
from deployments.logs import about, get_logger
from deployments.options import EngineOptions
from deployments.resilience.breaker import BreakerLimits, BreakerState
from deployments.resilience.caller import AttemptFailed, CallLimits, CallObserver, ResilientCaller
from deployments.resilience.retries import CallOutcome
from deployments.translation.deepl_requests import MAX_TEXTS, SOURCES, TARGETS, Batch, batches, key_of, pairs

if TYPE_CHECKING:
    from deployments.translation.deepl_service import DeepLService

SERVICE = "deepl"
"""Its name in logs and metrics."""
_MARGIN_S = 0.05
"""Before the deadline, for an attempt to tell what it died of."""

logger = get_logger(__name__)


def _pair(text: str) -> str:
    if not re.fullmatch(r"[a-z]{2,3}-[a-z]{2,3}", text):
        raise ValueError(f"{text!r} is not a pair of base languages such as en-es")
    return text


class DeepLOptions(EngineOptions):
    """Options of DeepL."""

    measured_ms: ClassVar[int | None] = None

    engine: Literal["deepl"]
    concurrency: int = Field(default=32, ge=1, le=256)
    """Requests at once in one replica; each has a kept-alive connection."""
    api_key: SecretStr | None = None
    """Of the account; from DEEPL_API_KEY or DEEPL_AUTH_KEY. Nothing starts without one."""
    server_url: str | None = Field(default=None, pattern=r"^https?://[^\s/]+")
    """None: DeepL's own, free or paid as the key says."""
    timeout_ms: int = Field(default=5000, ge=100, le=30_000)
    """Of one attempt; less where the fragment's deadline is nearer."""
    start_timeout_ms: int = Field(default=3000, ge=0, le=30_000)
    """How long the start may wait for languages and glossaries; after it the documented languages count."""
    max_attempts: int = Field(default=4, ge=1, le=10)
    """The first one included; 1: the worker alone tries again."""
    formality: Literal["prefer_more", "prefer_less"] | None = None
    model_type: Literal["latency_optimized", "quality_optimized", "prefer_quality_optimized"] | None = (
        "latency_optimized"
    )
    """Given up when the account doesn't have it. None: DeepL's choice."""
    glossaries: Mapping[Annotated[str, AfterValidator(_pair)], str] = {}
    """Pair, such as en-es, to the name of a glossary of the account."""
    variants: Mapping[str, str] = {"en": "EN-US", "pt": "PT-BR", "zh": "ZH-HANS"}
    """Base language to the variant that is translated into; where none stands DeepL gets the base language."""
    context_characters: int = Field(default=500, ge=0, le=4000)
    """Of domain hints and what the stream said before, to help the translation; 0: none."""
    max_batch_size: int = Field(default=MAX_TEXTS, ge=1, le=MAX_TEXTS)
    """Texts in one request."""
    batch_wait_ms: int = Field(default=10, ge=0, le=1000)
    """How long a text waits for others."""
    breaker_failures: int = Field(default=10, ge=1)
    """In a row, after which DeepL is left alone."""
    breaker_pause_s: float = Field(default=60.0, gt=0)
    """How long it is left alone."""
    breaker_successes: int = Field(default=3, ge=1)
    """In a row, one call at a time, after which all is well again."""

    @field_validator("api_key")
    @classmethod
    def _usable(cls, key: SecretStr | None) -> SecretStr | None:
        text = key.get_secret_value().strip() if key else ""
        if not text:
            return None
        if not re.fullmatch(r"[!-~]+", text):
            raise ValueError("the key has characters that no key has")
        return SecretStr(text)

    @field_validator("variants")
    @classmethod
    def _of_their_language(cls, variants: Mapping[str, str]) -> Mapping[str, str]:
        for language, variant in variants.items():
            if variant.partition("-")[0].lower() != language:
                raise ValueError(f"{variant!r} is no variant of {language!r}")
        return {**cls.model_fields["variants"].default, **variants}

    def build(self) -> TranslationEngine:
        """The engine, not loaded yet."""
        return DeepL(self)


class DeepL:
    """One replica's connections to DeepL.

    Args:
        options: of the engine.
        clock: seconds, monotonic.
    """

    model = "deepl"

    def __init__(self, options: DeepLOptions, clock: Callable[[], float] = time.monotonic) -> None:
        self._options = options
        self._clock = clock
        self._observers: tuple[CallObserver, ...] = ()
        self._pairs: frozenset[tuple[str, str]] | None = None
        self._service: DeepLService | None = None

    def observe(self, observer: CallObserver) -> None:
        """Tell this one of attempts and of the breaker. To be called before `load`."""
        self._observers = (*self._observers, observer)

    @property
    def pairs(self) -> frozenset[tuple[str, str]] | None:
        """(source, target) base languages: DeepL's own answer at the start, else its documentation's."""
        return self._pairs

    @property
    def batch_limits(self) -> BatchLimits:
        """How texts are gathered."""
        return BatchLimits(self._options.max_batch_size, self._options.batch_wait_ms)

    @property
    def breaker_state(self) -> BreakerState:
        """Whether DeepL is being left alone. For a loaded engine."""
        return self._caller.breaker_state

    def batch_key(self, request: TranslateRequest) -> Hashable:
        """Equal for requests that DeepL can be asked in one."""
        return key_of(request, self._options.context_characters)

    def load(self) -> None:
        """Open the connections; ask for languages and glossaries, for a bounded time.

        Raises:
            TranslationAuthFailed: there is no key, or DeepL refuses it.
            TranslationUnavailable: a glossary is not there.
        """
        from deployments.translation.deepl_service import DeepLService  # noqa: PLC0415 - brings the client

        options = self._options
        if options.api_key is None:
            raise TranslationAuthFailed(Stage.TRANSLATION, "DeepL was given no key")
        self._service = DeepLService(
            options.api_key.get_secret_value(),
            options.server_url,
            2 * options.concurrency,
            variants=options.variants,
            formality=options.formality,
            model_type=options.model_type,
            glossaries={_split(pair): name for pair, name in options.glossaries.items()},
            clock=self._clock,
        )
        limits = BreakerLimits(options.breaker_failures, options.breaker_pause_s, options.breaker_successes)
        self._caller = ResilientCaller(
            SERVICE,
            Stage.TRANSLATION,
            CallLimits(options.timeout_ms / 1000, options.max_attempts, limits),
            self._observers,
            clock=self._clock,
        )
        # An attempt has a thread that can be left behind: looking a name up, for one, knows no timeout.
        self._threads = ThreadPoolExecutor(2 * options.concurrency, thread_name_prefix="livedub-deepl")
        self._pairs = self._asked_pairs(self._service) or pairs(SOURCES, TARGETS)

    def _asked_pairs(self, service: "DeepLService") -> frozenset[tuple[str, str]] | None:
        """What DeepL says it can do; None when it doesn't say. Looks the glossaries up too."""
        give_up_at_s = self._clock() + self._options.start_timeout_ms / 1000

        def ask() -> frozenset[tuple[str, str]]:
            service.find_glossaries(give_up_at_s - self._clock())
            return service.languages(give_up_at_s - self._clock())

        try:
            return self._threads.submit(ask).result(timeout=self._options.start_timeout_ms / 1000)
        except AttemptFailed as failed:
            if failed.outcome is CallOutcome.REFUSED:
                raise failed.error from failed
            logger.warning("deepl_languages_unknown", outcome=failed.outcome)
        except TimeoutError:
            logger.warning("deepl_languages_unknown", outcome=CallOutcome.TIMED_OUT)
        return None

    def translate(self, requests: Sequence[TranslateRequest]) -> list[str | StageError]:
        """Translate several texts, those that fit together in one request, the requests side by side."""
        started_s = self._clock()
        made, too_long = batches(requests, self._options.context_characters)
        too_long_error = InvalidText(Stage.TRANSLATION, "the text is longer than a request to DeepL may be")
        answers: dict[int, str | StageError] = dict.fromkeys(too_long, too_long_error)
        running = []
        for batch in made:
            give_up_at_s = started_s + batch.budget_ms / 1000
            running.append((batch, give_up_at_s, self._threads.submit(self._answers, batch, give_up_at_s - _MARGIN_S)))
        for batch, give_up_at_s, future in running:
            try:
                told = future.result(timeout=max(0.0, give_up_at_s - self._clock()))
            except TimeoutError:
                future.cancel()
                told = [DeadlineExceeded(Stage.TRANSLATION, "DeepL did not answer in time")] * len(batch.requests)
            answers.update(zip(batch.indices, told, strict=True))
        return [answers[index] for index in range(len(requests))]

    def _answers(self, batch: Batch, give_up_at_s: float) -> list[str | StageError]:
        """One entry a text. A text that DeepL doesn't take is parted from its neighbours, which it does."""
        assert self._service is not None  # noqa: S101  # nosec B101 - for mypy: loaded
        translate = self._service.translate
        alone = len(batch.requests) == 1
        with about(batch.requests[0].ref, Stage.TRANSLATION) if alone else nullcontext():
            try:
                return list(self._caller.call(lambda timeout_s: translate(batch, timeout_s), give_up_at_s))
            except InvalidText as error:
                if alone:
                    return [error]
            except StageError as error:
                return [error] * len(batch.requests)
        first, second = batch.halves()
        return self._answers(first, give_up_at_s) + self._answers(second, give_up_at_s)

    def close(self) -> None:
        """Let go of the connections; do not wait for what still asks."""
        if self._service is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._service.close()


def _split(pair: str) -> tuple[str, str]:
    source, _, target = pair.partition("-")
    return source, target
