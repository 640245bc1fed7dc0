"""The core as it is breaks no promise in any seed, and every planted defect shows."""

import os
import subprocess
import sys

import pytest

from tests.simulation.scenario import simulate
from tests.support.server import PROJECT
from tests.unit.serve_app.stream.mutants import MUTANTS

SEEDS = range(300)
MUTANT_SEEDS = range(150)


def test_no_seed_breaks_a_promise() -> None:
    broken = {seed: run.violations for seed in SEEDS if (run := simulate(seed)).violations}
    assert not broken, f"replay with make simulate SEED={min(broken)}"


@pytest.mark.parametrize("name", MUTANTS)
def test_the_simulation_catches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
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
