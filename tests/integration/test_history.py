"""Workers of every kind against the real server: what they saw breaks no promise, and a doctored copy of it does."""

import asyncio
import dataclasses
import itertools

import pytest

from tests.oracle.history import Rules, judge, load, save
from tests.support import clips
from tests.support.recorded import RecordedWorker

MS = 500
RULES = Rules(tolerance_s=1.0)
SCRIPT = {
    "args.asr.script": [
        {"stream": "tidy", "delay_ms": 150},
        {"stream": "failing", "fragments": [1, 4], "times": 1, "error": "MODEL_ERROR"},
        {"stream": "slow", "fragments": [1], "delay_ms": 4000},
        {"stream": "crowd", "delay_ms": 600},
        {"stream": "taken", "delay_ms": 400},
        {"stream": "gone", "delay_ms": 1500},
        {"stream": "paused", "delay_ms": 300},
    ],
    "args.tts.script": [{"stream": "failing", "fragments": [3], "error": "INVALID_TEXT"}],
}


class Tale:
    """One server, one history, some workers."""

    def __init__(self, url):
        self.url = url
        self.audio = clips.adts_fragments(MS)
        self.history = []

    def worker(self, connection):
        return RecordedWorker(self.url, connection=connection, history=self.history)

    async def send(self, worker, *numbers, **changes):
        for number in numbers:
            audio = self.audio[number % len(self.audio)]
            await worker.send(number, audio, **{"audio__duration_ms": MS, **changes})

    async def end(self, worker):
        await worker.emit("stream:end", {"stream_id": worker.stream_id})
        await worker.wait(lambda: worker.of("stream:complete"))

    async def tidy(self):
        """Swapped neighbours, and duplicates of what is in flight."""
        async with self.worker("tidy") as worker:
            await worker.init("tidy", max_inflight=4)
            for first in range(0, 12, 4):
                await self.send(worker, first + 1, first, first + 1, first + 3, first + 2, first)
                await worker.wait_results(first + 4)
            await self.end(worker)

    async def holes(self):
        """Numbers that never come, one of them the first, and one that can't be read."""
        async with self.worker("holes") as worker:
            await worker.init("holes", timeout_ms=1500)
            await self.send(worker, 1, 2, 4)
            await self.send(worker, 5, audio__data_base64="not base64")
            await self.send(worker, 6)
            await worker.wait_results(4)
            await self.send(worker, 9)
            await self.end(worker)

    async def failing(self):
        """Failures are sent again and done anew, under their old number and under a new one."""
        async with self.worker("failing") as worker:
            await worker.init("failing")
            await self.send(worker, 0, 1, 2, 3, 4, 5)
            await worker.wait_results(6)
            await self.send(worker, 1)
            await worker.send(6, self.audio[4], fragment_id="failing-4", audio__duration_ms=MS)
            await self.send(worker, 7)
            await worker.wait_results(9)
            await self.end(worker)

    async def kept(self):
        """Results are asked for again, and an id is used for other audio."""
        async with self.worker("kept") as worker:
            await worker.init("kept")
            await self.send(worker, 0, 1, 2)
            await worker.wait_results(3)
            await self.send(worker, 0, 2)
            await worker.wait_results(5)
            await worker.send(3, self.audio[7], fragment_id="kept-1", audio__duration_ms=MS)
            await self.send(worker, 4)
            await worker.wait_results(6)
            await self.end(worker)

    async def slow(self):
        """A stage that takes longer than there is time; the fragment is sent again later."""
        async with self.worker("slow") as worker:
            await worker.init("slow", timeout_ms=1000)
            await self.send(worker, 0, 1, 2)
            await worker.wait_results(3)
            await self.send(worker, 3)
            await self.end(worker)

    async def crowd(self):
        """More at once than may be in flight; the refused ones come again."""
        async with self.worker("crowd") as worker:
            await worker.init("crowd")
            await self.send(worker, *range(13))
            await worker.wait_error("BACKPRESSURE_EXCEEDED")
            await worker.wait_results(10)
            await self.send(worker, 10, 11, 12)
            await worker.wait_results(13)
            await self.end(worker)

    async def paused(self):
        """Sends on though it has paused."""
        async with self.worker("paused") as worker:
            await worker.init("paused")
            await self.send(worker, 0, 1)
            await worker.emit("stream:pause", {"stream_id": "paused"})
            await self.send(worker, 2)
            await worker.wait_error("STREAM_PAUSED")
            await worker.emit("stream:resume", {"stream_id": "paused"})
            await self.send(worker, 2, 3)
            await worker.wait_results(4)
            await self.end(worker)

    async def taken(self):
        """A worker that restarted opens its stream again while the old connection has work in flight."""
        async with self.worker("taken/old") as old, self.worker("taken/new") as new:
            await old.init("taken")
            await self.send(old, 0, 1, 2)
            await old.wait(lambda: len(old.of("fragment:ack")) == 3)
            await new.init("taken")
            await old.wait(lambda: old.disconnects)
            await self.send(new, 0, 1, 2)
            await new.wait_results(3)
            await self.end(new)

    async def gone(self):
        """Leaves with work in flight."""
        async with self.worker("gone") as worker:
            await worker.init("gone")
            await self.send(worker, 0, 1)
            await worker.wait(lambda: len(worker.of("fragment:ack")) == 2)


@pytest.fixture(scope="module")
def history(serve, tmp_path_factory):
    """What all workers at once have seen, after it went through a file."""
    tale = Tale(serve("fakes", SCRIPT).url)

    async def tell():
        streams = tale.tidy, tale.holes, tale.failing, tale.kept, tale.slow, tale.crowd, tale.paused, tale.taken
        await asyncio.gather(*(stream() for stream in streams), tale.gone())

    asyncio.run(tell())
    path = tmp_path_factory.mktemp("history") / "history.jsonl"
    save(tale.history, path)
    return load(path)


def checks(history):
    return {violation.check for violation in judge(history, RULES)}


def results(history, connection):
    """Places of a connection's results in the history."""
    return [
        place
        for place, entry in enumerate(history)
        if (entry.connection, entry.event) == (connection, "fragment:processed")
    ]


def test_what_the_workers_saw_breaks_no_promise(history):
    assert judge(history, RULES) == []


def test_everything_that_was_meant_to_happen_did(history):
    errors = {(entry.connection, entry.fields["code"]) for entry in history if entry.event == "error"}
    failures = {
        (entry.connection, entry.fields["error"]["code"])
        for entry in history
        if entry.event == "fragment:processed" and entry.fields["status"] == "failed"
    }
    assert errors == {
        ("holes", "INVALID_SEQUENCE"),
        ("holes", "MALFORMED_DATA"),
        ("kept", "INVALID_FRAGMENT"),
        ("crowd", "BACKPRESSURE_EXCEEDED"),
        ("paused", "STREAM_PAUSED"),
        ("taken/old", "SESSION_REPLACED"),
    }
    behind_the_slow_one = {("slow", "QUEUE_FULL")}  # where the machine is busy, what comes behind it is late on its way
    assert failures - behind_the_slow_one == {
        ("failing", "MODEL_ERROR"),
        ("failing", "INVALID_TEXT"),
        ("slow", "TIMEOUT"),
    }
    assert {entry.connection for entry in history if entry.event == "stream:complete"} == {
        *("tidy", "holes", "failing", "kept", "slow", "crowd", "paused", "taken/new")
    }


@pytest.mark.parametrize("connection", ["tidy", "holes", "failing", "kept", "slow", "crowd", "paused", "taken/new"])
def test_a_result_that_is_missing_is_noticed(history, connection):
    for place in results(history, connection):
        assert checks([*history[:place], *history[place + 1 :]]), f"without the one at {place}"


@pytest.mark.parametrize("connection", ["tidy", "holes", "failing", "kept", "slow", "crowd", "paused", "taken/new"])
def test_a_result_that_comes_twice_is_noticed(history, connection):
    for place in results(history, connection):
        assert "result" in checks([*history[: place + 1], *history[place:]]), f"the one at {place} twice"


@pytest.mark.parametrize("connection", ["tidy", "crowd"])
def test_results_that_change_places_are_noticed(history, connection):
    places = results(history, connection)
    assert len(places) > 10
    for first, second in itertools.pairwise(places):
        doctored = list(history)
        doctored[first] = dataclasses.replace(history[first], fields=history[second].fields)
        doctored[second] = dataclasses.replace(history[second], fields=history[first].fields)
        assert "order" in checks(doctored), f"{first} and {second} swapped"


@pytest.mark.parametrize("connection", ["tidy", "holes", "crowd"])
def test_a_result_after_its_deadline_is_noticed(history, connection):
    timeout_s = 1.5 if connection == "holes" else RULES.timeout_ms / 1000
    delay_s = timeout_s + RULES.tolerance_s
    for place in results(history, connection):
        doctored = [
            dataclasses.replace(entry, time_s=entry.time_s + delay_s)
            if number >= place and entry.connection == connection
            else entry
            for number, entry in enumerate(history)
        ]
        assert "deadline" in checks(doctored), f"the one at {place} late"
