"""The core as it is breaks no promise in any seed, and every planted defect shows."""

import os
import subprocess
import sys

import pytest

from tests.simulation.scenario import OVERLOADED_EVERY, simulate
from tests.support.server import PROJECT
from tests.unit.serve_app.stream.mutants import AT_THE_DOOR, GROWING, MUTANTS

SEEDS = range(300)
MUTANT_SEEDS = range(150)
OVERLOADED_SEEDS = SEEDS[OVERLOADED_EVERY - 1 :: OVERLOADED_EVERY]
PLANTS = {**MUTANTS, **AT_THE_DOOR, **GROWING}
OUT_OF_REACH = {"refused_numbers_have_no_limit", "statistics_are_a_list"}
"""They take more than the fragments of a run; `test_bounded.py` catches them."""


def test_no_seed_breaks_a_promise() -> None:
    broken = {seed: run.violations for seed in SEEDS if (run := simulate(seed)).violations}
    assert not broken, f"replay with make simulate SEED={min(broken)}"


def test_overloaded_servers_refuse_and_still_dub() -> None:
    """What the door's mutants are judged on is there: refusals at the door, and results beside them."""
    refusing = dubbing = 0
    for seed in OVERLOADED_SEEDS:
        history = simulate(seed).history
        refusing += any(entry.event == "error" and entry.fields["code"] == "QUEUE_FULL" for entry in history)
        dubbing += any(entry.event == "fragment:processed" and entry.fields["status"] == "success" for entry in history)
    assert min(refusing, dubbing) > len(OVERLOADED_SEEDS) / 2


@pytest.mark.parametrize("name", sorted(PLANTS.keys() - OUT_OF_REACH))
def test_the_simulation_catches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTS[name](monkeypatch)
    found = next((run for seed in MUTANT_SEEDS if (run := simulate(seed)).violations), None)
    assert found is not None, f"{name} shows in none of {len(MUTANT_SEEDS)} seeds"
    print(f"{name}: {found.violations[0].check} at seed {found.seed}")  # noqa: T201 - `pytest -s` shows the table


def replayed(seed: int, hash_seed: str) -> bytes:
    command = [sys.executable, "-m", "tests.simulation", "--seed", str(seed)]
    environ = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(command, cwd=PROJECT, env=environ, check=True, capture_output=True, timeout=60).stdout


def test_a_seed_replays_byte_for_byte_in_another_process() -> None:
    first = replayed(7, "1")
    assert first == replayed(7, "2")
    assert simulate(7).digest.encode() in first
