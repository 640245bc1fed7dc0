"""What a process may use of its machine, by what the kernel says."""

import os

import pytest

from deployments.replica.machine import usable_cores, waited_s


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """`groups("pod", "pod/box")` makes control groups, the last one this process's; values are their `cpu.max`."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)

    def made(quotas):
        root, own = tmp_path / "cgroup", tmp_path / "own"
        for name, quota in quotas.items():
            (root / name).mkdir(parents=True, exist_ok=True)
            (root / name / "cpu.max").write_text(quota)
        own.write_text(f"4:memory:/other\n0::/{list(quotas)[-1]}\n")
        return usable_cores(root, own)

    return made


@pytest.mark.parametrize(
    ("quotas", "cores"),
    [
        ({"pod": "max 100000\n"}, 8.0),
        ({"pod": "150000 100000\n"}, 1.5),
        ({"pod": "50000 100000\n", "pod/box": "max 100000\n"}, 0.5),
        ({"": "max 100000\n", "pod": "400000 100000\n", "pod/box": "200000 100000\n"}, 2.0),
        ({"pod": "1600000 100000\n"}, 8.0),
        ({"pod": "what is this\n"}, 8.0),
    ],
)
def test_a_quota_of_the_group_or_of_one_around_it_counts(groups, quotas, cores):
    assert groups(quotas) == cores


def test_without_control_groups_the_cores_that_it_may_run_on_count(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 3}, raising=False)
    assert usable_cores(tmp_path, tmp_path / "none") == 2.0


def test_the_waiting_of_all_threads_is_added_up(tmp_path):
    for name, text in {"1": "500 1500000000 3\n", "2": "9 500000000 1\n", "3": "", "4": "0 0 0\n"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "schedstat").write_text(text)
    assert waited_s(tmp_path) == 2.0
    assert waited_s(tmp_path / "none") == 0.0
