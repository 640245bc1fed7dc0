"""`make bench` runs one measurement after the other, whatever becomes of each."""

import pytest

from bench import __main__ as bench
from bench.measurements import MEASUREMENTS, Measurement

PLANNED = [one for one in MEASUREMENTS if one.minutes is not None]


def test_goes_on_after_one_that_fails_and_names_it():
    ran = []

    def run(one: Measurement, quick: bool) -> int:
        ran.append((one.module, quick))
        return int(one.module == PLANNED[1].module)

    assert bench.measure(PLANNED, run, quick=True) == [PLANNED[1].module]
    assert ran == [(one.module, True) for one in PLANNED]


def test_says_which_one_runs_and_how_long_it_takes(capsys):
    bench.measure(PLANNED[:1], lambda *_: 0, quick=False)
    assert f"1 of 1: {PLANNED[0].module}, about {PLANNED[0].minutes:g} min" in capsys.readouterr().out


def test_all_together_keep_to_half_an_hour_with_quality():
    assert sum(one.minutes for one in PLANNED if not one.by_name) + 6 <= 30


def planned(module: str) -> Measurement:
    return Measurement("one", "", "", "", minutes=1, module=module)


def test_the_exit_code_is_the_measurement_s():
    assert bench.run(planned("no_such_measurement"), quick=True) != 0


def test_one_that_takes_too_long_is_ended(monkeypatch):
    monkeypatch.setattr(bench, "PATIENCE", 0.0)
    assert bench.run(planned("latency"), quick=True) != 0


@pytest.mark.parametrize("arguments", [["--only", "nonsense"], ["--only"]])
def test_only_known_measurements_can_be_asked_for(arguments, monkeypatch):
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert ended.value.code == 2
