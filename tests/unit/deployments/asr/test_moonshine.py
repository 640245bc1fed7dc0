"""Tokens are read and put together, loops are cut, what goes in and comes out is bounded, failures stay apart."""

import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from structlog.testing import capture_logs

from deployments.asr import AsrOptions, moonshine
from deployments.asr.moonshine import (
    MIN_SAMPLES,
    PACKAGED_SHA256,
    Moonshine,
    MoonshineOptions,
    max_tokens,
    packaged_model,
)
from deployments.asr.moonshine_model import LOOP_TIMES, LOOP_TOKENS, SpeechModel, before_loop, read_pieces
from deployments.checksums import WeightsChanged
from deployments.contracts.engines import ASR_RATE_HZ, Utterance
from deployments.contracts.values import FragmentRef, Recognition, Segment
from deployments.errors import ModelFailed, Stage

START, END = 1, 2
PIECES = [
    b"<unk>",
    b"<s>",
    b"</s>",
    *(f"\u2581{word}".encode() for word in ("zero", "one", "two", "three")),
    b".",
    b"\xc3",
]
"""Texts of the tokens; 3 is `zero`."""
N_TOKENS = 32_768


class Encoder:
    """Fails on samples that begin with `poison`."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.heard = 0

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, Any]) -> list[Any]:
        assert outputs is None
        assert inputs["input_values"].shape == inputs["attention_mask"].shape
        self.heard += 1
        if self.error and inputs["input_values"][0, 0] == 0.5:
            raise self.error
        return [np.zeros((1, 4, 288), np.float32)]


class Decoder:
    """Says a script's tokens, each as likely as half, and ends; over and over again without one."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = tokens
        self.asked: list[int] = []
        self.cached: list[bool] = []

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, Any]) -> list[Any]:
        assert outputs is not None
        [[asked]] = inputs["input_ids"].tolist()
        [cached] = inputs["use_cache_branch"].tolist()
        if not cached:
            self.asked, self.cached = [], []
        n_said = len(self.asked)
        self.asked.append(asked)
        self.cached.append(cached)
        assert inputs["past_key_values.0.decoder.key"].shape[2] == n_said
        assert inputs["past_key_values.5.encoder.value"].shape[2] == (4 if cached else 0)
        assert any("encoder" in name for name in outputs) is not cached
        logits = np.full((1, 1, N_TOKENS), -np.log(N_TOKENS - 1), np.float32)
        logits[0, 0, [*self.tokens, END][n_said]] = 0.0
        return [logits, *(np.zeros((1, 8, 4 if "encoder" in name else n_said + 1, 36)) for name in outputs[1:])]


def engine(tokens: Sequence[int], error: Exception | None = None, **options: Any) -> Moonshine:
    built = Moonshine(MoonshineOptions(engine="moonshine", **options))
    encoder, decoder = Encoder(error), Decoder(tokens)
    built.attach(SpeechModel(encoder, decoder, PIECES), (KeyError,))
    return built


def utterance(n_samples: int = ASR_RATE_HZ, level: float = 0.1) -> Utterance:
    return Utterance(FragmentRef("radio", "f", 0), np.full(n_samples, level, np.float32), "en", ("Dashwood",))


def test_what_is_said_is_one_segment_as_long_as_the_fragment() -> None:
    [heard] = engine([4, 5, 6, 7]).transcribe([utterance(24_000)])

    assert heard == Recognition((Segment("one two three.", 0, 1500, pytest.approx(0.5)),), "en")  # type: ignore[arg-type]


def test_each_token_is_asked_for_with_the_one_before_and_what_is_remembered() -> None:
    encoder, decoder = Encoder(), Decoder([4, 5])

    SpeechModel(encoder, decoder, PIECES).hear(utterance().samples, 9)

    assert decoder.asked == [START, 4, 5]
    assert decoder.cached == [False, True, True]
    assert encoder.heard == 1


@pytest.mark.parametrize(
    "samples",
    [utterance(0), utterance(MIN_SAMPLES - 1), utterance(level=0.0)],
    ids=["nothing", "less than 100 ms", "digital silence"],
)
def test_what_can_hold_no_word_never_reaches_the_model(samples: Utterance) -> None:
    built = engine([4])

    assert built.transcribe([samples]) == [Recognition((), "en")]
    assert built._speech._encoder.heard == 0  # type: ignore[attr-defined]


def test_a_tenth_of_a_second_is_heard() -> None:
    [heard] = engine([4]).transcribe([utterance(MIN_SAMPLES)])

    assert isinstance(heard, Recognition)
    assert heard.text == "one"


@pytest.mark.parametrize("tokens", [[], [7], [0, 32_100]])
def test_without_a_letter_or_digit_there_is_no_segment(tokens: list[int]) -> None:
    assert engine(tokens).transcribe([utterance()]) == [Recognition((), "en")]


def test_a_loop_ends_the_decoding_and_is_kept_once() -> None:
    built = engine([6, *[4, 5] * 100])

    [heard] = built.transcribe([utterance(60 * ASR_RATE_HZ)])

    assert isinstance(heard, Recognition)
    assert (heard.text, heard.repeats) == ("three one two", True)
    assert len(built._speech._decoder.asked) == 1 + LOOP_TOKENS  # type: ignore[attr-defined]


def test_a_model_that_does_not_end_is_stopped_and_told() -> None:
    rng = np.random.default_rng(0)
    built = engine(rng.integers(3, 7, 500).tolist(), max_tokens_per_s=2)

    with capture_logs() as logs:
        [heard] = built.transcribe([utterance(3 * ASR_RATE_HZ)])

    assert isinstance(heard, Recognition)
    assert len(heard.text.split()) == max_tokens(3 * ASR_RATE_HZ, 2) == 11
    assert [(line["event"], line["n_tokens"]) for line in logs] == [("tokens_bounded", 11)]


def test_one_that_fails_does_not_fail_the_others() -> None:
    answers = engine([4], KeyError("no memory")).transcribe([utterance(), utterance(level=0.5), utterance()])

    assert [isinstance(answer, Recognition) for answer in answers] == [True, False, True]
    failed = answers[1]
    assert isinstance(failed, ModelFailed)
    assert failed.stage == Stage.ASR
    assert "no memory" in failed.message


def test_a_bug_is_not_taken_for_a_failure_of_the_model() -> None:
    with pytest.raises(ZeroDivisionError):
        engine([4], ZeroDivisionError()).transcribe([utterance(level=0.5)])


def test_errors_of_onnxruntime_are_failures_of_the_model() -> None:
    errors = pytest.importorskip("onnxruntime.capi.onnxruntime_pybind11_state")

    assert {errors.Fail, errors.InvalidArgument, errors.RuntimeException} <= set(moonshine._onnxruntime_errors())


def test_half_a_letter_at_the_end_is_left_out() -> None:
    model = SpeechModel(Encoder(), Decoder([]), PIECES)

    assert model.text([4, 8]) == "one"
    assert model.text([START, 4, 5, END]) == "one two"


# --- loops ---


@pytest.mark.parametrize(
    ("tokens", "kept"),
    [
        ([], None),
        ([9] * (LOOP_TOKENS - 1), None),
        ([9] * LOOP_TOKENS, 1),
        ([1, 2, *[9] * LOOP_TOKENS], 3),
        ([3, 4] * 7, None),
        ([3, 4] * 8, 2),
        ([1, 2, 3, 4, 5, 6] * 3, None),
        ([0, *[1, 2, 3, 4, 5, 6] * LOOP_TIMES], 7),
        ([*[1, 2, 3, 4, 5, 6] * LOOP_TIMES, 7], None),
    ],
)
def test_only_an_end_that_repeats_itself_often_enough_is_a_loop(tokens: list[int], kept: int | None) -> None:
    assert before_loop(tokens) == kept


def test_rhetoric_is_no_loop() -> None:
    """It was the best of times, it was the worst of times: the same frame with other words in it."""
    tokens = [token for n in range(20) for token in (10, 11, 12, 100 + n, 13, 200 + n, 14)]

    assert all(before_loop(tokens[:n]) is None for n in range(len(tokens)))


@given(st.lists(st.integers(3, 5), max_size=20), st.lists(st.integers(6, 9), min_size=1, max_size=8))
def test_any_loop_is_found_within_its_bounds(before: list[int], loop: list[int]) -> None:
    tokens = before + loop * LOOP_TOKENS
    found = next(n for n in range(len(before), len(tokens) + 1) if before_loop(tokens[:n]) is not None)
    kept = before_loop(tokens[:found])

    assert kept is not None
    assert found <= len(before) + max(LOOP_TOKENS + len(loop) - 1, LOOP_TIMES * len(loop))
    assert kept <= len(before) + len(loop)


# --- tokenizer.bin ---


def written(pieces: Sequence[bytes]) -> bytes:
    """As the package writes them."""

    def parts() -> Iterator[bytes]:
        for piece in pieces:
            more, rest = divmod(len(piece), 128)
            yield bytes([rest + 128, more]) if more else bytes([rest])
            yield piece

    return b"".join(parts())


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_what_is_written_is_read(pieces: list[bytes]) -> None:
    assert read_pieces(written(pieces)) == pieces


@pytest.mark.parametrize("data", [b"\x02a", b"\x01a\x80", b"\xff\x01"])
def test_a_file_that_ends_too_soon_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="ends behind the end"):
        read_pieces(data)


# --- options and weights ---


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"max_tokens_per_s": 0}, {"beam_size": 2}])
def test_wrong_options_are_refused_naming_the_field(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        TypeAdapter(AsrOptions).validate_python({"engine": "moonshine", **wrong})


def test_it_is_picked_by_name_and_hears_english() -> None:
    options = TypeAdapter(AsrOptions).validate_python({"engine": "moonshine"})
    built = options.build()

    assert (built.model, built.languages) == ("moonshine-tiny-en", frozenset({"en"}))


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moonshine, "PACKAGE", "a_package_that_nobody_has")

    with pytest.raises(ImportError, match=r"moonshine-voice.*livedub\[local\]"):
        engine([]).load()


def test_a_version_without_the_model_counts_as_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: found)

    with pytest.raises(ImportError, match=r"0\.0\.62"):
        packaged_model()


def test_a_changed_package_is_refused_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec(moonshine.PACKAGE) is None:
        pytest.skip("moonshine_voice is not installed")
    monkeypatch.setitem(PACKAGED_SHA256, "tokenizer.bin", "0" * 64)

    with pytest.raises(WeightsChanged, match=r"tokenizer\.bin"):
        engine([]).load()


def test_the_package_is_never_imported() -> None:
    if importlib.util.find_spec(moonshine.PACKAGE) is None:
        pytest.skip("moonshine_voice is not installed")
    MoonshineOptions(engine="moonshine").build().load()

    assert moonshine.PACKAGE not in sys.modules
