"""Calls of several threads in one batch."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from deployments.batching.threads import ThreadGatherer
from deployments.errors import GpuOutOfMemory, InvalidText, Stage


class Model:
    """Doubles numbers; the first batch waits until it is told to go on."""

    def __init__(self):
        self.batches = []
        self.started, self.go_on = threading.Event(), threading.Event()

    def __call__(self, jobs):
        self.batches.append(list(jobs))
        self.started.set()
        self.go_on.wait(10)
        return [2 * job for job in jobs]


def until_waiting(gatherer, count):
    """Spin until so many jobs wait; the test's timeout is the limit."""
    while len(gatherer._waiting) < count:
        threading.Event().wait(0.001)


def test_a_caller_alone_starts_at_once_and_gets_its_results_in_order():
    model = Model()
    model.go_on.set()
    assert ThreadGatherer(model, 2).run([1, 2, 3]) == [2, 4, 6]
    assert model.batches == [[1, 2], [3]]


def test_what_waits_while_the_model_computes_is_one_batch():
    model = Model()
    gatherer = ThreadGatherer(model, 8)
    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(gatherer.run, [1])
        model.started.wait(10)
        others = [threads.submit(gatherer.run, jobs) for jobs in ([2, 3], [4], [5])]
        until_waiting(gatherer, 4)
        model.go_on.set()
        assert first.result(10) == [2]
        assert [other.result(10) for other in others] == [[4, 6], [8], [10]]
    assert len(model.batches) == 2
    assert sorted(model.batches[1]) == [2, 3, 4, 5]


def test_one_job_that_is_too_much_doesnt_fail_its_neighbours():
    def compute(jobs):
        if 13 in jobs:
            raise GpuOutOfMemory(Stage.TTS, "no room")
        return jobs

    gatherer = ThreadGatherer(compute, 8)
    with ThreadPoolExecutor(2) as threads:
        with gatherer._turn:
            good, bad = threads.submit(gatherer.run, [1]), threads.submit(gatherer.run, [13])
            until_waiting(gatherer, 2)
        assert good.result(10) == [1]
        with pytest.raises(GpuOutOfMemory):
            bad.result(10)


def test_a_callers_other_jobs_are_dropped_with_its_error():
    seen = []

    def compute(jobs):
        seen.extend(jobs)
        raise InvalidText(Stage.TTS, "no")

    gatherer = ThreadGatherer(compute, 1)
    with pytest.raises(InvalidText):
        gatherer.run([1, 2, 3])
    assert seen == [1]
    assert not gatherer._waiting


def test_nothing_to_do_is_done():
    assert ThreadGatherer(Model(), 1).run([]) == []
