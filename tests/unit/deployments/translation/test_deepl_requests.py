"""Which texts share a request to DeepL, and in what words it is asked."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.contracts.values import FragmentRef, TranslateRequest
from deployments.translation.deepl_requests import (
    MAX_REQUEST_BYTES,
    MAX_TEXTS,
    SOURCES,
    TARGETS,
    batches,
    context_of,
    key_of,
    pairs,
    source_code,
    target_code,
)


def request(text="hi", *, target="es", hints=(), context="", budget_ms=5000) -> TranslateRequest:
    return TranslateRequest(FragmentRef("radio", "f", 1), text, "en", target, hints, context, budget_ms)


def test_pairs_join_every_source_with_every_other_target():
    assert pairs(["EN", "NB"], iter(["EN-US", "EN-GB", "NB"])) == {
        ("en", "nb"),
        ("en", "no"),
        ("nb", "en"),
        ("no", "en"),
        ("nb", "no"),
        ("no", "nb"),
    }
    assert {("en", "es"), ("zh", "pt")} <= pairs(SOURCES, TARGETS)


def test_languages_have_deepls_codes():
    variants = {"en": "EN-US", "pt": "PT-PT"}
    assert [source_code(language) for language in ("en", "pt", "no")] == ["EN", "PT", "NB"]
    assert [target_code(language, variants) for language in ("en", "pt", "es", "no")] == ["EN-US", "PT-PT", "ES", "NB"]


@pytest.mark.parametrize(
    ("hints", "said", "room", "context"),
    [
        ((), "", 100, ""),
        (("a", "b"), "", 100, "a, b"),
        ((), " We said this. ", 100, "We said this."),
        (("a", "b"), "We said this.", 100, "a, b. We said this."),
        (("a", "b"), "We said this.", 15, "a, b. this."),
        (("abc",), "We said this.", 4, "abc"),
        (("abc",), "We said this.", 2, "ab"),
        (("abc",), "We said this.", 0, ""),
    ],
)
def test_context_is_the_hints_and_the_end_of_what_was_said(hints, said, room, context):
    assert context_of(request(hints=hints, context=said), room) == context


@given(st.lists(st.text(max_size=20), max_size=5), st.text(max_size=100), st.integers(0, 60))
def test_context_keeps_its_limit(hints, said, room):
    assert len(context_of(request(hints=tuple(hints), context=said), room)) <= room


def test_what_differs_in_pair_or_context_goes_apart():
    requests = [request("a"), request("b", target="de"), request("c", context="x"), request("d"), request("e")]
    made, too_long = batches(requests, 100)
    assert [batch.indices for batch in made] == [(0, 3, 4), (1,), (2,)]
    assert [batch.pair for batch in made] == [("en", "es"), ("en", "de"), ("en", "es")]
    assert [batch.context for batch in made] == ["", "", "x"]
    assert too_long == []


def test_without_context_streams_go_together():
    made, _ = batches([request("a", context="x"), request("b", context="y")], 0)
    assert [batch.indices for batch in made] == [(0, 1)]


def test_who_has_little_time_does_not_go_with_who_has_much():
    made, _ = batches([request(budget_ms=8000), request(budget_ms=500), request(budget_ms=7000)], 0)
    assert [(batch.indices, batch.budget_ms) for batch in made] == [((0, 2), 7000), ((1,), 500)]
    assert key_of(request(budget_ms=8000), 0) != key_of(request(budget_ms=500), 0)


def test_halves_share_it_out():
    [batch], _ = batches([request(text) for text in "abc"], 0)
    first, second = batch.halves()
    assert (first.indices, second.indices) == ((0,), (1, 2))
    assert [r.text for r in second.requests] == ["b", "c"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "é", "日", "🎉", '"']), st.integers(1, 45_000), st.integers(1, 20_000)),
        max_size=70,
    )
)
def test_every_text_goes_once_within_the_limits_or_is_too_long(texts):
    requests = [request(char * length, budget_ms=budget_ms) for char, length, budget_ms in texts]
    made, too_long = batches(requests, 100)

    assert sorted([*too_long, *(index for batch in made for index in batch.indices)]) == list(range(len(requests)))
    for batch in made:
        assert 1 <= len(batch.requests) <= MAX_TEXTS
        assert batch.requests == tuple(requests[index] for index in batch.indices)
        assert len(json.dumps({"text": [r.text for r in batch.requests]})) <= MAX_REQUEST_BYTES - 1000
        assert max(r.budget_ms for r in batch.requests) < 2 * batch.budget_ms
    assert all(len(json.dumps(requests[index].text)) > MAX_REQUEST_BYTES - 1100 for index in too_long)
