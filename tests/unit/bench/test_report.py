"""Where results go, and what stands in them."""

import json

import pytest

from bench import report
from bench.report import Target


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(report, "QUICK_RESULTS", tmp_path / "quick")
    monkeypatch.setattr(report._Run, "quick", False)
    return tmp_path


def test_a_quick_run_leaves_the_results_of_a_full_one_alone(results):
    report.write("speed", {"n": 100})
    full = (results / "speed.json").read_text()
    report.quick()
    report.write("speed", {"n": 1})
    with report.plot("speed"):
        pass
    assert (results / "speed.json").read_text() == full
    assert not (results / "speed.png").exists()
    found = json.loads((results / "quick" / "speed.json").read_text())
    assert (found["n"], found["quick"]) == (1, True)
    assert (results / "quick" / "speed.png").exists()
    assert json.loads(full)["quick"] is False


def test_results_name_the_machine_and_judge_the_targets(results):
    found = json.loads(report.write("speed", {}, [Target("p95", 10.0, 5.0, "ms", because="Slow.")]).read_text())
    assert {"cpu", "cores", "memory_gib", "python", "packages"} == set(found["machine"])
    assert found["targets"] == [
        {"what": "p95", "found": 10.0, "bound": 5.0, "unit": "ms", "at_least": False, "because": "Slow.",
         "headline": False, "met": False}
    ]  # fmt: skip


@pytest.mark.parametrize(("found", "at_least", "met"), [(5, False, True), (5.1, False, False), (4, True, False)])
def test_a_target_is_met_up_to_its_bound(found, at_least, met):
    assert Target("p95", found, 5, at_least=at_least).met is met


def test_what_could_not_be_measured_meets_no_target():
    assert not Target("p95", float("nan"), 5).met
    assert not Target("overlap", float("nan"), 5, at_least=True).met


def test_a_median_lies_in_its_interval():
    found = report.median([1.0, 2.0, 3.0, 4.0, 50.0])
    assert (found["n"], found["median"]) == (5, 3.0)
    assert found["low"] <= found["median"] <= found["high"]
    assert report.median([]) == {"n": 0}
