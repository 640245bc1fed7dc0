"""That figures said to be measured are those in bench/results, and that all others say what they are."""

import json
import re
from pathlib import Path

import pytest

from serve_app.planning import figures
from serve_app.planning.figures import CARDS, CPU_MS, GPU_MEMORY_GIB, HOST_MEMORY_MIB, How, real_time_factor

RESULTS = Path(__file__).parents[4] / "bench" / "results"
MODELS = {
    ("faster_whisper", "embedded"): "whisper-tiny.en",
    ("apertium", ""): "apertium",
    ("kokoro", ""): "kokoro-82m",
    ("espeak", ""): "espeak-ng",
}
COMPLETE = ("rtx-3080", "rtx-3090", "rtx-4090")


def result(figure):
    return json.loads((RESULTS / re.search(r"bench/results/(\w+\.json)", figure.source)[1]).read_text())


@pytest.mark.parametrize(("table", "column"), [(CPU_MS, "cpu_ms_a_fragment"), (HOST_MEMORY_MIB, "memory_mib")])
def test_what_was_measured_stands_in_the_results(table, column):
    measured = {key: figure for key, figure in table.items() if figure.how is How.MEASURED}
    assert set(measured) == set(MODELS)
    for key, figure in measured.items():
        [row] = [row for row in result(figure)["rows"] if row["model"] == MODELS[key]]
        assert figure.value == row[column]
        assert result(figure)["fragment_ms"] == figures.MEASURED_FRAGMENT_S * 1000


def test_the_ingress_costs_what_the_results_say():
    parts = result(figures.INGRESS_MS)["streams"]["1"]["base64"]["parts_p50_ms"]
    outside = ("arriving", "emitting")
    assert round(sum(ms for name, ms in parts.items() if name not in outside), 1) == figures.INGRESS_MS.value
    before = result(figures.INGRESS_MEMORY_MIB)["before_bytes"]
    assert (
        round(sum(before[kind]["ingress"] for kind in ("private", "shared")) / 2**20)
        == figures.INGRESS_MEMORY_MIB.value
    )


def all_figures():
    yield from (*CPU_MS.values(), *HOST_MEMORY_MIB.values(), *GPU_MEMORY_GIB.values())
    for card in CARDS:
        for engine, model in (("faster_whisper", "medium"), ("faster_whisper", "large-v2"), ("xtts", "")):
            if (factor := real_time_factor(engine, model, card)) is not None:
                yield factor


def test_no_figure_of_a_gpu_is_said_to_be_measured():
    assert all(figure.how is not How.MEASURED for figure in GPU_MEMORY_GIB.values())
    assert {real_time_factor("xtts", "", card).how for card in COMPLETE} == {How.CITED}


def test_every_figure_has_a_source_and_a_cited_one_a_link():
    for figure in all_figures():
        assert figure.value > 0
        assert figure.source
        assert figure.how is not How.CITED or "https://" in figure.source


def test_what_is_published_of_the_very_card_and_model_is_cited_and_all_else_estimated():
    assert real_time_factor("faster_whisper", "large-v2", "rtx-3070-ti").how is How.CITED
    same_card = real_time_factor("faster_whisper", "medium", "rtx-3070-ti")
    other_card = real_time_factor("faster_whisper", "large-v2", "rtx-4090")
    assert (same_card.how, other_card.how) == (How.ESTIMATED, How.ESTIMATED)
    assert "RTX 3070 Ti" in other_card.source


@pytest.mark.parametrize(
    ("engine", "model", "card"),
    [
        ("xtts", "", "v100s"),
        ("xtts", "", "h100"),
        ("faster_whisper", "medium", "h100"),
        ("faster_whisper", "large-v3", "rtx-4090"),  # only large-v2 is published, and no larger one
        ("faster_whisper", "embedded", "rtx-4090"),
        ("kokoro", "", "rtx-4090"),
    ],
)
def test_nothing_is_made_up(engine, model, card):
    assert real_time_factor(engine, model, card) is None


def test_cards_said_to_be_complete_have_both_models_of_production():
    for card in CARDS:
        both = [real_time_factor("faster_whisper", "medium", card), real_time_factor("xtts", "", card)]
        assert all(both) == (card in COMPLETE)
