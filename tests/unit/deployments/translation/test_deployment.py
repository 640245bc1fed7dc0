"""The Translation deployment translates, measures, and tells every failure by its code."""

import asyncio
import gc
import itertools
import json
import logging
import pickle
import threading
from collections.abc import Iterator, Sequence

import pytest

from deployments.contracts.values import ITSELF, FragmentRef, TranslateRequest
from deployments.errors import (
    DeadlineExceeded,
    InvalidText,
    ModelFailed,
    RateLimitExceeded,
    Stage,
    StageError,
    TranslationQuotaExceeded,
    UnsupportedLanguage,
)
from deployments.fault_script import Step
from deployments.replica.watchdog import WEDGED_AFTER_S
from deployments.translation.apertium import ApertiumOptions
from deployments.translation.deepl import DeepLOptions
from deployments.translation.deployment import MAX_TEXT_BYTES, Batching, Translation
from deployments.translation.fake import FakeTranslation, FakeTranslationOptions


def request(text: str = "good morning", *, target: str = "es", budget_ms: int = 5000) -> TranslateRequest:
    return TranslateRequest(FragmentRef("radio", "f-7", 7), text, "en", target, (), "", budget_ms)


class OnlySpanish(FakeTranslation):
    model = "only-spanish"
    pairs = frozenset({("en", "es")})


def fake(*script: Step, text: str | None = None) -> Translation:
    return Translation(FakeTranslationOptions(script=script, text=text).build())


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """The lines that the deployments log."""
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Lines()
    logging.getLogger("deployments").addHandler(handler)
    yield lines
    logging.getLogger("deployments").removeHandler(handler)


async def test_a_text_is_translated() -> None:
    translation = await fake().translate(request())

    assert translation.text == "[es] good morning"
    assert (translation.source_language, translation.target_language) == ("en", "es")
    assert translation.model == "fake"


async def test_an_empty_translation_is_an_answer() -> None:
    assert (await fake(text=" \n").translate(request())).text == ""


async def test_requests_and_answers_cross_processes() -> None:
    translation = await fake().translate(pickle.loads(pickle.dumps(request())))  # noqa: S301

    assert pickle.loads(pickle.dumps(translation)) == translation  # noqa: S301


async def test_elapsed_time_is_whole_milliseconds_of_work() -> None:
    now_s = 1.0

    class Slow(FakeTranslation):
        def translate(self, requests: Sequence[TranslateRequest]) -> list[str | StageError]:
            nonlocal now_s
            now_s += 0.0016
            return super().translate(requests)

    translation = Translation(Slow(FakeTranslationOptions()), clock=lambda: now_s)

    assert (await translation.translate(request())).elapsed_ms == 2


async def test_a_translation_that_hangs_has_its_replica_replaced() -> None:
    now_s = 0.0
    started, release = threading.Event(), threading.Event()

    class Hanging(FakeTranslation):
        def translate(self, requests: Sequence[TranslateRequest]) -> list[str | StageError]:
            started.set()
            release.wait(10)
            return super().translate(requests)

    translation = Translation(Hanging(FakeTranslationOptions()), clock=lambda: now_s)
    hanging = asyncio.create_task(translation.translate(request()))
    await asyncio.to_thread(started.wait, 10)
    translation.check_health()
    now_s = WEDGED_AFTER_S + 1
    with pytest.raises(RuntimeError):
        translation.check_health()
    release.set()
    await hanging


async def test_a_pair_the_engine_cannot_do_is_refused_in_this_stage() -> None:
    with pytest.raises(UnsupportedLanguage, match="only-spanish does not translate en to fr") as refused:
        await Translation(OnlySpanish(FakeTranslationOptions())).translate(request(target="fr"))
    assert refused.value.stage is Stage.TRANSLATION


async def test_the_longest_text_goes_and_one_byte_more_is_refused() -> None:
    translation = fake(text="bien")
    await translation.translate(request("ñ" * (MAX_TEXT_BYTES // 2)))

    with pytest.raises(InvalidText):
        await translation.translate(request("ñ" * (MAX_TEXT_BYTES // 2) + "n"))


@pytest.mark.parametrize(
    ("code", "error"),
    [("RATE_LIMIT_EXCEEDED", RateLimitExceeded), ("TRANSLATION_QUOTA_EXCEEDED", TranslationQuotaExceeded)],
)
async def test_an_engines_failure_is_raised(code: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await fake(Step(error=code)).translate(request())


async def test_with_no_time_left_nothing_starts() -> None:
    with pytest.raises(DeadlineExceeded):
        await fake().translate(request(budget_ms=0))


async def test_an_engine_is_not_asked_when_rounding_leaves_no_time() -> None:
    asked: list[int] = []

    class Counting(FakeTranslation):
        def translate(self, requests: Sequence[TranslateRequest]) -> list[str | StageError]:
            asked.append(len(requests))
            return super().translate(requests)

    ticks = itertools.count()
    translation = Translation(Counting(FakeTranslationOptions()), clock=lambda: next(ticks) * 0.0003)
    with pytest.raises(DeadlineExceeded):
        await translation.translate(request(budget_ms=1))

    assert asked == []


async def test_capabilities_tell_model_and_pairs() -> None:
    told = await Translation(OnlySpanish(FakeTranslationOptions())).capabilities()

    assert (told.model, told.pairs) == ("only-spanish", frozenset({("en", "es")}))


async def test_the_engine_is_closed_when_the_replica_goes() -> None:
    closed: list[str] = []

    class Closing(FakeTranslation):
        def close(self) -> None:
            closed.append("closed")

    translation = Translation(Closing(FakeTranslationOptions()))
    translation.check_health()
    del translation
    gc.collect()

    assert closed == ["closed"]


@pytest.mark.parametrize(
    ("script", "event", "level"),
    [((), "translated", "info"), ((Step(error="RATE_LIMIT_EXCEEDED"),), "translation_failed", "warning")],
)
async def test_each_fragment_logs_one_line_that_names_it_and_not_what_it_says(
    logged: list[str], script: tuple[Step, ...], event: str, level: str
) -> None:
    translation = fake(*script)
    logged.clear()
    try:
        await translation.translate(request("nobody may read this"))
    except StageError as error:
        assert error.code == "RATE_LIMIT_EXCEEDED"  # noqa: PT017

    [line] = [json.loads(line) for line in logged]
    assert (line["event"], line["level"], line["stage"]) == (event, level, "translation")
    assert (line["stream_id"], line["fragment_id"], line["sequence_number"]) == ("radio", "f-7", 7)
    assert "nobody" not in logged[0]


async def test_a_sentence_is_translated_at_the_start_and_measured_where_that_is_wanted() -> None:
    asked: list[TranslateRequest] = []

    class Listening(OnlySpanish):
        def translate(self, requests: Sequence[TranslateRequest]) -> list[str | StageError]:
            asked.extend(requests)
            return super().translate(requests)

    engine = Listening(FakeTranslationOptions(delay_ms=5))
    measured = (await Translation(engine, 3, measure=True).capabilities()).measured
    assert measured is not None
    assert measured.slots == 3
    assert measured.fragment_ms >= 5
    assert {(r.ref, r.source_language, r.target_language) for r in asked} == {(ITSELF, "en", "es")}
    assert (await Translation(OnlySpanish(FakeTranslationOptions())).capabilities()).measured is None


async def test_a_failed_sentence_at_the_start_is_not_the_end_of_it() -> None:
    class Down(OnlySpanish):
        def translate(self, requests: Sequence[TranslateRequest]) -> list[str | StageError]:
            raise ModelFailed(Stage.TRANSLATION, "down")

    assert (await Translation(Down(FakeTranslationOptions()), measure=True).capabilities()).measured is None


def test_deepl_gathers_and_apertium_does_not() -> None:
    assert isinstance(DeepLOptions(engine="deepl", api_key="k").build(), Batching)
    assert not isinstance(ApertiumOptions(engine="apertium").build(), Batching)
