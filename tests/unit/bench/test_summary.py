"""REPORT.md is what the committed results give, and says what is missing and missed."""

from pathlib import Path

import pytest

from bench import measurements, summary
from bench.report import RESULTS
from bench.sentences import SENTENCES, told
from bench.tables import markdown, named, tables, value

PROJECT = Path(__file__).resolve().parents[3]
TITLE = next(one.title for one in measurements.MEASUREMENTS if one.name == "latency")
MACHINE = {"cpu": "a CPU", "cores": 2, "memory_gib": 8, "python": "3.11", "packages": {"ray": "2.60.0"}}


def result(**figures):
    return {"machine": MACHINE, "date": "2026-01-02", "quick": False, **figures}


def target(what="p95 of the overhead", *, met, because=""):
    return {"what": what, "found": 70.5, "bound": 60, "unit": "ms", "at_least": False, "because": because, "met": met}


# --- the report ---


def test_the_report_is_what_the_results_give():
    pictures = {png.stem: f"results/{png.name}" for png in RESULTS.glob("*.png")}
    told = summary.REPORT.read_text(encoding="utf-8")
    assert told == summary.render(summary.load(RESULTS), pictures), "`make report` writes bench/REPORT.md anew"


def test_the_page_s_figures_are_those_of_the_results():
    told = summary.FIGURES_PAGE.read_text(encoding="utf-8")
    assert summary.FIGURES.search(told)
    assert told == summary.with_headlines(told, summary.load(RESULTS)), "`make report` writes the figures anew"


def test_only_headlines_come_into_the_page():
    text = "before\n<!-- figures: make report -->\nold\n<!-- end of figures -->\nbehind"
    found = {"latency": result(targets=[target(met=True) | {"headline": True}, target("p99 of acks", met=True)])}
    missed = {"latency": result(targets=[target(met=False) | {"headline": True}])}
    assert "| **missed** |" in summary.with_headlines(text, missed)
    told = summary.with_headlines(text, found)
    assert f"| {TITLE}: p95 of the overhead | 70.5 ms | ≤ 60 ms | met |" in told
    assert "p99 of acks" not in told
    assert "old" not in told
    assert (told.split("\n")[0], told.split("\n")[-1]) == ("before", "behind")
    assert "Nothing has been measured yet." in summary.with_headlines(text, {})


def test_every_result_has_a_section_of_its_own():
    found = {path.stem for path in RESULTS.glob("*.json")}
    known = [one.name for one in measurements.catalogue(found)]
    assert len(set(known)) == len(known)
    assert found <= set(known)


def test_batches_on_a_gpu_have_a_section_behind_those_on_the_cpu():
    told = summary.render({"asr_batching_some_gpu": result(), "asr_batching_cpu": result(), "latency": result()}, {})
    titles = [line for line in told.splitlines() if line.startswith("### ")]
    assert titles[1:] == ["### Batches across streams", "### Batches across streams, some gpu"]


def test_what_make_bench_runs_is_there():
    for one in measurements.MEASUREMENTS:
        assert (one.minutes is None) == (not one.module)
        if one.module:
            assert (PROJECT / "bench" / f"{one.module}.py").exists(), one.module


def test_the_report_names_the_machine_the_day_and_the_foreign_load():
    told = summary.render({"latency": result(foreign_percent=3.2)}, {})
    assert "- a CPU, 2 cores; 8 GiB; Python 3.11; ray 2.60.0: latency." in told
    assert "`make bench ONLY=latency` | 2026-01-02 | 3.2 % |" in told


def test_a_busy_machine_is_told_of():
    assert "| **30 %**: its times say little |" in summary.render({"latency": result(foreign_percent=30.0)}, {})


def test_what_was_not_measured_is_said_to_be_missing():
    told = summary.render({"latency": result()}, {})
    assert "| Live streams at once | `make bench ONLY=scaling` | not measured | – |" in told
    assert "### Live streams at once" not in told
    assert "None was judged." in told


def test_a_missed_target_stands_with_its_reason():
    found = {"latency": result(targets=[target(met=True), target("p99 of acks", met=False, because="Two cores.")])}
    told = summary.render(found, {})
    assert "1 of 2 are met." in told
    assert "| p99 of acks | ≤ 60 ms | 70.5 ms | **missed** |" in told
    assert f"- {TITLE}: p99 of acks. Two cores." in told


def test_a_missed_target_without_a_reason_says_so():
    told = summary.render({"latency": result(targets=[target(met=False)])}, {})
    assert "p95 of the overhead. The reason is not known." in told


def test_bounds_of_older_measurements_are_told():
    assert "**Missed**: it fell." in summary.render({"quality": result(missed=["it fell"])}, {})
    assert "All bounds that this measurement is judged by held." in summary.render({"quality": result(missed=[])}, {})


def test_sentences_are_made_of_the_figures():
    rows = [{"stage": "Asr", "cpu_ms_a_fragment": 500.4}, {"stage": "Tts", "cpu_ms_a_fragment": 1000.0}]
    [sentence] = told("stages_cpu", {"rows": rows})
    assert sentence == "A fragment takes 1.5 s of CPU time: Asr 500 ms, Tts 1000 ms."
    assert list(told("latency", {})) == []
    assert set(SENTENCES) <= {one.name for one in measurements.MEASUREMENTS}


def test_a_plot_is_shown_where_there_is_one():
    found = {"latency": result(), "scaling": result()}
    told = summary.render(found, {"scaling": "results/scaling.png"})
    assert told.count("![") == 1
    assert "![Live streams at once](results/scaling.png)" in told


def test_a_quick_report_says_so_and_misses_only_what_a_quick_run_measures():
    told = summary.render({"latency": result()}, {}, quick=True)
    assert "These are quick runs" in told
    assert "make quality" in told
    assert "make chaos" not in told


# --- the tables ---


def test_figures_that_stand_alone_make_one_table():
    [table] = tables({"streams": 6, "p95_ms": 12.34})
    assert table == "|  |  |\n| --- | --- |\n| streams | 6 |\n| p95 ms | 12.34 |"


def test_rows_with_the_same_columns_share_a_table_and_what_their_names_begin_with():
    [table] = tables({"overhead_ms": {"one": {"n": 1, "p50": 2.0}, "two": {"n": 3, "p50": 4.0}}})
    assert table.splitlines()[0] == "| overhead ms | n | p50 |"
    assert table.splitlines()[2:] == ["| one | 1 | 2 |", "| two | 3 | 4 |"]


def test_a_list_of_rows_is_called_by_its_first_word_or_by_its_place():
    [words, places] = tables({"rows": [{"stage": "Asr", "ms": 1}], "killed": [{"after_s": 2}, {"after_s": 3}]})
    assert words.splitlines()[-1] == "| Asr | 1 |"
    assert [line.split(" | ")[0] for line in places.splitlines()[2:]] == ["| 1", "| 2"]


def test_no_figure_is_lost_at_any_depth():
    found = {"a": {"b": {"c": 1, "d": {"e": 2}}, "f": [3, 4]}, "g": []}
    told = "\n".join(tables(found))
    assert all(figure in told for figure in (" 1 |", " 2 |", "3, 4"))


def test_an_interval_is_one_cell():
    [table] = tables({"rtf": {"n": 5, "median": 0.51234, "low": 0.5, "high": 0.6}, "none": {"n": 0}})
    assert "| rtf | 0.5123 (0.5 to 0.6) |" in table
    assert "| none | – |" in table


@pytest.mark.parametrize(
    ("key", "said"),
    [("p95_ms", "p95 ms"), ("fragments_per_s", "fragments a second"), ("cpu_ms_a_fragment", "cpu ms a fragment"),
     ("variance_p95_percent", "variance p95 %"), ("memory_mib", "memory MiB"), ("QUEUE_FULL", "`QUEUE_FULL`")],
)  # fmt: skip
def test_keys_are_said_as_words(key, said):
    assert named(key) == said


@pytest.mark.parametrize(
    ("figure", "said"),
    [(None, "–"), (float("nan"), "–"), (True, "yes"), (12345.6, "12346"), (0.00012345, "0.0001234"), (7, "7")],
)
def test_figures_have_four_digits(figure, said):
    assert value(figure) == said


def test_what_would_break_a_table_is_escaped():
    assert markdown(("a|b",), []) == "| a\\|b |\n| --- |"
