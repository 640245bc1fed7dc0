"""How the stages of a configuration are measured: fragments side by side, and what a row says."""

import asyncio

import pytest

from bench.stages import measure, paced
from serve_app.configuration.loading import ConfigError
from serve_app.configuration.shipped import PROJECT_DIR


@pytest.mark.parametrize(("at_once", "most"), [(1, 1), (3, 3), (8, 7)])
async def test_so_many_fragments_run_side_by_side_and_results_keep_their_order(at_once, most):
    running, seen = set(), []

    def job(number):
        async def work():
            running.add(number)
            await asyncio.sleep(0)
            seen.append(len(running))
            running.remove(number)
            return number

        return work

    results, answers_ms, wall_s, cpu_s = await paced([job(number) for number in range(7)], at_once)
    assert results == list(range(7))
    assert max(seen) == most
    assert len(answers_ms) == 7
    assert wall_s > 0
    assert cpu_s >= 0


def test_what_is_missing_is_told_before_anything_is_measured(monkeypatch):
    monkeypatch.setattr("bench.stages.count_gpus", lambda: 0)
    with pytest.raises(ConfigError, match=r"a GPU: asr\.device and tts\.device say cuda"):
        measure(PROJECT_DIR / "configs" / "prod.yaml", 1, 1)
