"""DeepL as a service: one attempt at a time, each within its own time, each failure told by its kind.

The official client does the talking. What it lacks is added where requests lets it be added, in a transport adapter:
it has one timeout for the whole process and never below a second, drops the Retry-After header, and tries again by
itself, which is switched off here. To be imported when an engine loads: it brings the client.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

import deepl

from deployments.errors import (
    DeadlineExceeded,
    InvalidText,
    RateLimitExceeded,
    Stage,
    StageError,
    TranslationAuthFailed,
    TranslationQuotaExceeded,
    TranslationUnavailable,
    UnsupportedLanguage,
)
from deployments.logs import get_logger
from deployments.resilience.caller import AttemptFailed
from deployments.resilience.retries import CallOutcome, retry_after_s
from deployments.translation.deepl_requests import Batch, pairs, source_code, target_code
from deployments.translation.deepl_transport import BoundedAdapter, is_timeout

Pair = tuple[str, str]

_UNREADABLE = (TypeError, ValueError, KeyError, AttributeError)
"""What the client raises over JSON that is not DeepL's."""

logger = get_logger(__name__)


class DeepLService:
    """The client with its connections. Any thread may use it.

    Args:
        key: of the account.
        server_url: None: DeepL's own, free or paid as the key says.
        connections: kept open at most.
        variants: base language to the DeepL code of the variant that is wanted of it.
        formality: as DeepL calls it.
        model_type: as DeepL calls it; given up for good when the account doesn't have it.
        glossaries: pair to the name of its glossary.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        key: str,
        server_url: str | None,
        connections: int,
        *,
        variants: Mapping[str, str],
        formality: str | None,
        model_type: str | None,
        glossaries: Mapping[Pair, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        deepl.http_client.max_network_retries = 0
        logging.getLogger("deepl").setLevel(logging.WARNING)  # below that it logs every text
        self._client = deepl.DeepLClient(key, server_url=server_url, send_platform_info=False)
        self._transport = BoundedAdapter(connections)
        for scheme in ("https://", "http://"):
            self._client._client._session.mount(scheme, self._transport)  # noqa: SLF001 - the client offers no way
        self._variants = variants
        self._formality = formality
        self._model_type = model_type
        self._glossaries = glossaries
        self._glossary_ids: dict[Pair, str] | None = None if glossaries else {}
        self._glossary_lock = threading.Lock()
        self._clock = clock

    def translate(self, batch: Batch, timeout_s: float) -> list[str]:
        """One translation a text.

        Raises:
            AttemptFailed: it didn't work, for all of them. An answer with a text missing can't be told apart from one
                that is out of step, so nothing of it is used.
        """
        give_up_at_s = self._clock() + timeout_s
        if self._glossary_ids is None:
            self.find_glossaries(timeout_s)
        model_type = self._model_type
        source, target = batch.pair
        try:
            with self._asking(give_up_at_s - self._clock()):
                results = self._client.translate_text(
                    [request.text for request in batch.requests],
                    source_lang=source_code(source),
                    target_lang=target_code(target, self._variants),
                    context=batch.context or None,
                    formality=self._formality,
                    glossary=(self._glossary_ids or {}).get(batch.pair),
                    model_type=model_type,
                )
        except ModelTypeRefused:
            self._model_type = None
            logger.warning("deepl_model_type_refused", model_type=model_type)
            return self.translate(batch, give_up_at_s - self._clock())
        texts = [result.text for result in results] if isinstance(results, list) else []
        if len(texts) != len(batch.requests):
            raise _no_answer(f"DeepL answered {len(texts)} of {len(batch.requests)} texts")
        return texts

    def languages(self, timeout_s: float) -> frozenset[Pair]:
        """(source, target) base languages that it knows now. Raises AttemptFailed."""
        give_up_at_s = self._clock() + timeout_s
        with self._asking(timeout_s):
            sources = self._client.get_source_languages()
        with self._asking(give_up_at_s - self._clock()):
            targets = self._client.get_target_languages()
        found = pairs((language.code for language in sources), (language.code for language in targets))
        if not found:
            raise _no_answer("DeepL named no languages")
        return found

    def find_glossaries(self, timeout_s: float) -> None:
        """Look the glossaries' names up, once. Raises AttemptFailed, also when there is none of that name."""
        with self._glossary_lock:
            if self._glossary_ids is not None:
                return
            with self._asking(timeout_s):
                known = self._client.list_multilingual_glossaries()
            found = {
                (glossary.name, dictionary.source_lang.lower(), dictionary.target_lang.lower()): glossary.glossary_id
                for glossary in known
                for dictionary in glossary.dictionaries
            }
            ids = {}
            for (source, target), name in self._glossaries.items():
                wanted = (name, source_code(source).lower(), source_code(target).lower())
                if wanted not in found:
                    message = f"the DeepL account has no glossary {name!r} for {source}-{target}"
                    raise AttemptFailed(CallOutcome.REFUSED, TranslationUnavailable(Stage.TRANSLATION, message))
                ids[source, target] = found[wanted]
            self._glossary_ids = ids

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()  # type: ignore[no-untyped-call]

    @contextmanager
    def _asking(self, timeout_s: float) -> Iterator[None]:
        """Bound what is asked inside, and tell its failure by its kind."""
        if timeout_s <= 0:
            raise AttemptFailed(
                CallOutcome.TIMED_OUT, DeadlineExceeded(Stage.TRANSLATION, "no time is left to ask DeepL")
            )
        with self._transport.within(timeout_s) as exchange:
            try:
                yield
            except deepl.exceptions.ConnectionException as error:
                raise _unreached(error.__cause__) from None  # Serve logs causes, and DeepL's words may quote the text
            except deepl.DeepLException as error:
                raise _answered(error, exchange.retry_after) from None
            except _UNREADABLE:
                raise _no_answer("DeepL's answer can't be read") from None


class ModelTypeRefused(Exception):
    """The account has no such model type."""


def _failed(outcome: CallOutcome, error: type[StageError], message: str, asked_s: float | None = None) -> AttemptFailed:
    return AttemptFailed(outcome, error(Stage.TRANSLATION, message), asked_s)


def _no_answer(message: str) -> AttemptFailed:
    return _failed(CallOutcome.SERVER_ERROR, TranslationUnavailable, message)


def _unreached(cause: BaseException | None) -> AttemptFailed:
    if is_timeout(cause):
        return _failed(CallOutcome.TIMED_OUT, DeadlineExceeded, "DeepL did not answer in time")
    return _failed(CallOutcome.UNREACHABLE, TranslationUnavailable, f"DeepL can't be reached: {type(cause).__name__}")


def _answered(error: deepl.DeepLException, retry_after: str | None) -> AttemptFailed | ModelTypeRefused:
    """The failure that an answer is. DeepL's own words decide, and stay here: they may quote the text."""
    status = error.http_status_code
    told = f"DeepL answered {status}"
    words = str(error).lower()
    match status:
        case 401 | 403:
            return _failed(
                CallOutcome.REFUSED, TranslationAuthFailed, f"{told}: it refuses the key, check DEEPL_API_KEY"
            )
        case 456:
            return _failed(
                CallOutcome.REFUSED, TranslationQuotaExceeded, f"{told}: the account's characters are used up"
            )
        case 429:
            asked_s = retry_after_s(retry_after, datetime.now(UTC))
            return _failed(CallOutcome.RATE_LIMITED, RateLimitExceeded, f"{told}: too many requests", asked_s)
        case 400 if "model_type" in words:
            return ModelTypeRefused()
        case 400 if "target_lang" in words or "source_lang" in words:
            return _failed(CallOutcome.REFUSED, UnsupportedLanguage, f"{told}: it does not know a language of the pair")
        case 400 | 413 | 414 | 422:
            return _failed(CallOutcome.REFUSED, InvalidText, f"{told}: it does not take the text")
        case 503 | 529:
            asked_s = retry_after_s(retry_after, datetime.now(UTC))
            return _failed(CallOutcome.OVERLOADED, TranslationUnavailable, told, asked_s)
        case None:
            return _failed(CallOutcome.REFUSED, TranslationUnavailable, "DeepL could not be asked")
        case _ if status < 500:  # noqa: PLR2004
            return _failed(CallOutcome.REFUSED, TranslationUnavailable, f"{told}: check server_url and glossaries")
        case _:
            return _failed(CallOutcome.SERVER_ERROR, TranslationUnavailable, told)
