"""The real DeepL client against a server that answers as it is told: every failure has its code, in time."""

import asyncio
import json
import logging
import os
import pickle
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from deployments.contracts.values import FragmentRef, TranslateRequest
from deployments.errors import (
    DeadlineExceeded,
    InvalidText,
    RateLimitExceeded,
    StageError,
    TranslationAuthFailed,
    TranslationQuotaExceeded,
    TranslationUnavailable,
    UnsupportedLanguage,
)
from deployments.logs import configure_logs
from deployments.resilience.breaker import BreakerState
from deployments.resilience.retries import CallOutcome
from deployments.translation.deepl import DeepL, DeepLOptions
from deployments.translation.deepl_requests import MAX_REQUEST_BYTES
from deployments.translation.deployment import Translation
from tests.support.deepl_stub import Answer, DeepLStub, deepl_stub
from tests.support.speed import seconds

KEY = "canary-7f3e:fx"
TEXT = "What nobody may read in a log."
NO_LEEWAY_S = 0.25
"""For a busy machine to come back in, after the deadline."""


class Watching:
    def __init__(self) -> None:
        self.outcomes: list[CallOutcome] = []
        self.states: list[BreakerState] = []

    def attempted(self, service: str, outcome: CallOutcome, elapsed_s: float) -> None:
        assert service == "deepl"
        assert elapsed_s >= 0
        self.outcomes.append(outcome)

    def breaker_changed(self, service: str, state: BreakerState) -> None:
        self.states.append(state)


class Clock:
    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


@pytest.fixture
def stub() -> Iterator[DeepLStub]:
    with deepl_stub() as running:
        yield running


@pytest.fixture
def watching() -> Watching:
    return Watching()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def made(stub: DeepLStub, watching: Watching, clock: Clock):
    """Makes loaded engines, and closes them."""
    engines = []

    def make(**options) -> DeepL:
        given = {"engine": "deepl", "api_key": KEY, "server_url": stub.url, "concurrency": 4, **options}
        engine = DeepL(DeepLOptions(**given), clock)
        engine.observe(watching)
        engines.append(engine)
        engine.load()
        return engine

    yield make
    for engine in engines:
        engine.close()


def asked(text=TEXT, *, target="es", context="", hints=(), budget_ms=2000, number=1) -> TranslateRequest:
    return TranslateRequest(FragmentRef("radio", f"f-{number}", number), text, "en", target, hints, context, budget_ms)


def answer_of(engine: DeepL, request: TranslateRequest | None = None) -> str | StageError:
    [answer] = engine.translate([request or asked()])
    return answer


# --- the matrix -------------------------------------------------------------------------------------------------

ROWS = [
    # answer, error, retryable, calls within 2 s
    (Answer(n_texts_missing=1), TranslationUnavailable, True, 4),
    (Answer(body="<html>maintenance</html>"), TranslationUnavailable, True, 4),
    (Answer(body='{"translations": [{}]}'), TranslationUnavailable, True, 4),
    (Answer(body='["odd"]'), TranslationUnavailable, True, 4),
    (Answer(400), InvalidText, False, 1),
    (Answer(400, '{"message": "Value for \'target_lang\' not supported."}'), UnsupportedLanguage, False, 1),
    (Answer(401), TranslationAuthFailed, False, 1),
    (Answer(403), TranslationAuthFailed, False, 1),
    (Answer(404), TranslationUnavailable, True, 1),
    (Answer(413), InvalidText, False, 1),
    (Answer(429), RateLimitExceeded, True, 2),
    (Answer(429, headers={"Retry-After": "1"}), RateLimitExceeded, True, 2),
    (Answer(429, headers={"Retry-After": "30"}), RateLimitExceeded, True, 1),
    (Answer(429, headers={"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"}), RateLimitExceeded, True, 1),
    (Answer(456), TranslationQuotaExceeded, False, 1),
    (Answer(500), TranslationUnavailable, True, 4),
    (Answer(502), TranslationUnavailable, True, 4),
    (Answer(503), TranslationUnavailable, True, 2),
    (Answer(504), TranslationUnavailable, True, 4),
    (Answer(hang=True), DeadlineExceeded, True, 1),
    (Answer(drip=True), DeadlineExceeded, True, 1),
]


def row_name(row) -> str:
    answer = row[0]
    how = "hang" if answer.hang else "drip" if answer.drip else "short" if answer.n_texts_missing else ""
    return "-".join(filter(None, [str(answer.status), how, (answer.body or "")[:12], *answer.headers.values()]))


@pytest.mark.parametrize(("answer", "error", "retryable", "most_calls"), ROWS, ids=map(row_name, ROWS))
def test_each_failure_has_its_code_within_the_deadline(made, stub, answer, error, retryable, most_calls):
    engine = made()
    stub.answer = answer

    started_s = time.monotonic()
    told = answer_of(engine)

    assert type(told) is error
    assert told.retryable is retryable
    assert time.monotonic() - started_s < 2.0 + seconds(NO_LEEWAY_S)
    assert 1 <= stub.n_calls <= most_calls
    assert pickle.loads(pickle.dumps(told)).code == error.code  # noqa: S301
    assert TEXT not in str(told)
    assert KEY not in str(told)


def test_a_good_answer_is_a_translation(made, stub, watching):
    assert answer_of(made()) == f"[ES] {TEXT}"
    assert watching.outcomes == [CallOutcome.SUCCESS]
    assert stub.keys == {f"DeepL-Auth-Key {KEY}"}


def test_a_service_that_is_not_there_is_unavailable(made):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        started_s = time.monotonic()
        engine = made(server_url=url, start_timeout_ms=200)
        assert ("en", "es") in engine.pairs
        assert type(answer_of(engine)) is TranslationUnavailable
    assert time.monotonic() - started_s < 2.0 + seconds(1.0)


@pytest.mark.parametrize(
    ("first", "outcome"),
    [
        (Answer(500), CallOutcome.SERVER_ERROR),
        (Answer(n_texts_missing=1), CallOutcome.SERVER_ERROR),
        (Answer(429, headers={"Retry-After": "0"}), CallOutcome.RATE_LIMITED),
    ],
)
def test_what_passes_is_tried_again_and_well(made, stub, watching, first, outcome):
    engine = made()
    stub.answers = [first]

    assert answer_of(engine) == f"[ES] {TEXT}"
    assert watching.outcomes == [outcome, CallOutcome.SUCCESS]


def test_an_attempt_that_hangs_is_given_up_for_another_while_there_is_time(made, stub, watching):
    engine = made(timeout_ms=300)
    stub.answers = [Answer(hang=True)]

    assert answer_of(engine) == f"[ES] {TEXT}"
    assert watching.outcomes == [CallOutcome.TIMED_OUT, CallOutcome.SUCCESS]


def test_with_one_attempt_only_the_worker_tries_again(made, stub):
    engine = made(max_attempts=1)
    stub.answer = Answer(500)

    assert type(answer_of(engine)) is TranslationUnavailable
    assert stub.n_calls == 1


def test_when_deepl_asks_for_patience_nobody_asks_it_before(made, stub, watching):
    engine = made()
    stub.answers = [Answer(429, headers={"Retry-After": "30"})]
    answer_of(engine)

    assert type(answer_of(engine)) is RateLimitExceeded
    assert stub.n_calls == 1


# --- the breaker ------------------------------------------------------------------------------------------------


def test_an_open_breaker_makes_no_call_and_one_probe_at_a_time_closes_it(made, stub, watching, clock):
    engine = made(max_attempts=1)
    stub.answer = Answer(500)
    for _ in range(10):
        answer_of(engine)
    assert engine.breaker_state is BreakerState.OPEN

    started_s = time.monotonic()
    assert type(answer_of(engine)) is TranslationUnavailable
    assert time.monotonic() - started_s < seconds(NO_LEEWAY_S)
    assert stub.n_calls == 10

    clock.ahead_s = 61.0
    stub.answer = Answer(hang=True)
    with ThreadPoolExecutor(8) as threads:
        told = list(threads.map(lambda _: answer_of(engine, asked(budget_ms=1500)), range(8)))
    assert stub.n_calls == 11
    assert sorted(error.code for error in told) == ["TIMEOUT"] + ["TRANSLATION_API_UNAVAILABLE"] * 7
    assert engine.breaker_state is BreakerState.OPEN

    clock.ahead_s = 122.0
    stub.answer = Answer()
    assert [answer_of(engine) for _ in range(3)] == [f"[ES] {TEXT}"] * 3
    closed, opened, half = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
    assert watching.states == [closed, opened, half, opened, half, closed]
    assert watching.outcomes.count(CallOutcome.BREAKER_OPEN) == 8


@pytest.mark.parametrize("status", [400, 403, 404, 456])
def test_refusals_do_not_open_the_breaker(made, stub, status):
    engine = made()
    stub.answer = Answer(status)
    for _ in range(12):
        answer_of(engine)

    assert engine.breaker_state is BreakerState.CLOSED
    assert stub.n_calls == 12


# --- batches ----------------------------------------------------------------------------------------------------


def test_a_request_holds_50_texts_at_most(made, stub):
    texts = [f"number {number}" for number in range(120)]

    told = made().translate([asked(text) for text in texts])

    assert told == [f"[ES] {text}" for text in texts]
    assert sorted(len(body["text"]) for body in stub.bodies) == [20, 50, 50]


def test_a_request_holds_128_kib_at_most(made, stub):
    texts = ["日" * 3000, "a" * 90_000, "🎉" * 2000, "b" * 60_000, "ñ" * 9000]

    told = made().translate([asked(text, budget_ms=8000) for text in texts])

    assert told == [f"[ES] {text}" for text in texts]
    assert len(stub.lengths) > 1
    assert max(stub.lengths) <= MAX_REQUEST_BYTES


def test_a_text_that_no_request_holds_harms_none_of_its_neighbours(made, stub):
    told = made().translate([asked("one"), asked("日" * 40_000), asked("two")])

    assert [told[0], told[2]] == ["[ES] one", "[ES] two"]
    assert type(told[1]) is InvalidText
    assert stub.n_calls == 1


def test_a_text_that_deepl_does_not_take_harms_none_of_its_neighbours(made, stub):
    engine = made()
    stub.answer = Answer(400, only_for="t3")

    told = engine.translate([asked(f"t{number}") for number in range(8)])

    assert type(told[3]) is InvalidText
    assert told[:3] + told[4:] == [f"[ES] t{number}" for number in range(8) if number != 3]


def test_a_short_answer_is_used_for_none_since_nobody_knows_which_is_missing(made, stub):
    engine = made(max_attempts=1)
    stub.answer = Answer(n_texts_missing=1)

    told = engine.translate([asked("one"), asked("two")])

    assert [type(error) for error in told] == [TranslationUnavailable] * 2


def test_pairs_and_contexts_go_side_by_side_and_come_back_in_order(made, stub):
    engine = made()
    requests = [asked("a"), asked("b", target="de"), asked("c", context="Before."), asked("d"), asked("e", target="de")]

    assert engine.translate(requests) == ["[ES] a", "[DE] b", "[ES] c", "[ES] d", "[DE] e"]
    assert sorted(body["text"] for body in stub.bodies) == [["a", "d"], ["b", "e"], ["c"]]


def test_a_pair_that_hangs_does_not_keep_another(made, stub):
    engine = made()
    stub.answer = Answer(hang=True, only_for="slow")

    told = engine.translate([asked("slow", budget_ms=600), asked("quick", target="de")])

    assert type(told[0]) is DeadlineExceeded
    assert told[1] == "[DE] quick"


async def test_the_deployment_gathers_what_comes_at_once(made, stub, monkeypatch):
    engine = made(batch_wait_ms=100)
    monkeypatch.setattr(engine, "load", lambda: None)
    deployment = Translation(engine, 4)

    told = await asyncio.gather(*(deployment.translate(asked(f"t{number}", number=number)) for number in range(60)))

    assert [translation.text for translation in told] == [f"[ES] t{number}" for number in range(60)]
    assert sorted(len(body["text"]) for body in stub.bodies) == [10, 50]


# --- what DeepL is told -----------------------------------------------------------------------------------------


def test_hints_and_what_was_said_before_go_along_as_context(made, stub):
    answer_of(made(), asked(hints=("Ray Serve", "dubbing"), context="We begin."))
    answer_of(made(context_characters=0), asked(hints=("Ray Serve",), context="We begin."))

    assert stub.bodies[0]["context"] == "Ray Serve, dubbing. We begin."
    assert "context" not in stub.bodies[1]


def test_formality_variant_model_and_glossary_go_along(made, stub):
    stub.glossaries = {"sports": ("en", "pt"), "other": ("en", "es")}
    engine = made(formality="prefer_less", variants={"pt": "PT-PT"}, glossaries={"en-pt": "sports"})

    assert answer_of(engine, asked("a", target="pt")) == "[PT-PT] a"
    assert answer_of(engine, asked("b")) == "[ES] b"

    first, second = stub.bodies
    assert (first["source_lang"], first["target_lang"], first["formality"]) == ("EN", "PT-PT", "prefer_less")
    assert (first["model_type"], first["glossary_id"]) == ("latency_optimized", "id-of-sports")
    assert "glossary_id" not in second


def test_a_model_type_that_the_account_has_not_is_given_up_for_good(made, stub):
    engine = made()
    stub.answers = [Answer(400, '{"message": "model_type latency_optimized not supported"}')]

    assert answer_of(engine) == f"[ES] {TEXT}"
    answer_of(engine)
    assert [body.get("model_type") for body in stub.bodies] == ["latency_optimized", None, None]


# --- the start --------------------------------------------------------------------------------------------------


def test_pairs_are_what_deepl_says(made):
    engine = made()

    assert {("en", "es"), ("pt", "en"), ("en", "pt"), ("de", "ja"), ("en", "no"), ("en", "nb")} <= engine.pairs
    assert not {("en", "fr"), ("en", "en")} & engine.pairs


@pytest.mark.parametrize("answer", [Answer(hang=True), Answer(500), Answer(body="[]"), Answer(body="nonsense")])
def test_without_an_answer_the_start_goes_on_in_time_with_the_documented_languages(made, stub, answer):
    stub.languages = answer
    started_s = time.monotonic()

    engine = made(start_timeout_ms=300)

    assert time.monotonic() - started_s < 0.3 + seconds(1.2)
    assert {("en", "es"), ("fr", "de")} <= engine.pairs
    assert answer_of(engine) == f"[ES] {TEXT}"


def test_nothing_starts_without_a_key(made):
    with pytest.raises(TranslationAuthFailed, match="no key"):
        made(api_key=None)


def test_a_refused_key_ends_the_start(made, stub):
    stub.languages = Answer(403)

    with pytest.raises(TranslationAuthFailed, match="DEEPL_API_KEY"):
        made()


def test_a_glossary_that_is_not_there_ends_the_start(made):
    with pytest.raises(TranslationUnavailable, match="no glossary 'sports' for en-es"):
        made(glossaries={"en-es": "sports"})


# --- connections, logs ------------------------------------------------------------------------------------------


def test_many_calls_share_few_connections(made, stub):
    engine = made()
    for _ in range(40):
        answer_of(engine)
    assert stub.n_connections <= 2

    with ThreadPoolExecutor(4) as threads:
        assert all(isinstance(a, str) for a in threads.map(lambda _: answer_of(engine), range(80)))
    assert stub.n_connections <= 8


def test_neither_the_key_nor_a_text_is_ever_logged(made, stub, capfd):
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage() + str(record.exc_info or ""))

    root, handler = logging.getLogger(), Lines()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    configure_logs("DEBUG")
    logging.getLogger("deployments").addHandler(handler)
    try:
        engine = made()
        stub.answers = [answer for answer, *_ in ROWS if not (answer.hang or answer.drip or answer.headers)]
        while stub.answers:
            answer_of(engine)
        repr(engine._options)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        logging.getLogger("deployments").removeHandler(handler)
        configure_logs()

    written = "\n".join([*lines, *capfd.readouterr()])
    failed = [json.loads(line) for line in lines if "service_call_failed" in line]
    assert {"service", "outcome", "code", "attempt", "stream_id", "stage"} <= failed[0].keys()
    assert "canary" not in written
    assert "nobody may read" not in written.lower()


def test_options_cross_processes_with_the_key_and_never_show_it():
    options = DeepLOptions(engine="deepl", api_key=f" {KEY}\n")

    assert pickle.loads(pickle.dumps(options)).api_key.get_secret_value() == KEY  # noqa: S301
    assert "canary" not in repr(options) + str(options) + options.model_dump_json()


def test_a_closed_engine_leaves_no_call_behind(made, stub):
    engine = made()
    stub.answer = Answer(hang=True)
    waiting = threading.Thread(target=lambda: answer_of(engine, asked(budget_ms=500)))
    waiting.start()
    waiting.join(3)
    assert not waiting.is_alive()


# --- the real thing ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.environ.get("DEEPL_API_KEY"), reason="DEEPL_API_KEY is not set: DeepL itself is not asked")
def test_deepl_itself_translates():
    engine = DeepL(DeepLOptions(engine="deepl", api_key=os.environ["DEEPL_API_KEY"]))
    engine.load()
    try:
        told = engine.translate([asked("Good morning.", budget_ms=8000), asked("The house is red.", budget_ms=8000)])
    finally:
        engine.close()
    assert "casa" in told[1]
    assert all(isinstance(text, str) and text for text in told)
