"""Calls of the stages wait for their turns, with their deadlines running."""

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from deployments.contracts.values import (
    FillRequest,
    FragmentRef,
    ListenRequest,
    SynthesizeRequest,
    TranscribeRequest,
    TranslateRequest,
)
from deployments.errors import DeadlineExceeded, ModelFailed, Stage
from serve_app.scheduling.fair_queue import RECENT_S
from serve_app.stages import fair_stages
from serve_app.stages.fair_stages import BackgroundStages, FairStages
from tests.unit.serve_app.scripted import FRAGMENT, M4A, SPEECH, TRANSLATION, transcript

SLOTS = 2


def synthesis(stream: str, number: int = 0, budget_ms: int = 5000) -> SynthesizeRequest:
    return SynthesizeRequest(FragmentRef(stream, f"f{number}", number), "hola", "maria", 1000, M4A, budget_ms)


@dataclass
class Models:
    """A synthesis that ends when the test says so; the other stages answer at once."""

    now: float = 100.0
    running: dict[tuple[str, int], asyncio.Future[object]] = field(default_factory=dict)
    budgets_ms: dict[tuple[str, int], int] = field(default_factory=dict)
    hastened: set[tuple[str, int]] = field(default_factory=set)

    async def call(self, request):
        match request:
            case TranscribeRequest() | ListenRequest():
                return transcript()
            case TranslateRequest():
                return TRANSLATION
            case FillRequest():
                return SPEECH
        name = request.ref.stream_id, request.ref.sequence_number
        self.budgets_ms[name] = request.budget_ms
        if request.hasten:
            self.hastened.add(name)
        self.running[name] = asyncio.get_running_loop().create_future()
        try:
            return await self.running[name]
        finally:
            del self.running[name]


class Shared:
    """A replica whose models have waited before, so that their slots are known."""

    def __init__(self) -> None:
        self.models = Models()
        self.stages = FairStages(self.models, lambda: self.models.now)
        self.stages._turns[Stage.TTS].room = SLOTS

    async def ask(self, stream: str, number: int = 0, budget_ms: int = 5000) -> asyncio.Task[object]:
        task = asyncio.create_task(self.stages.call(synthesis(stream, number, budget_ms)))
        await self.settle()
        return task

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def end(self, stream: str, number: int = 0, error: Exception | None = None) -> None:
        future = self.models.running[stream, number]
        future.set_exception(error) if error else future.set_result(SPEECH)
        await self.settle()


async def hog_and_neighbour() -> tuple[Shared, list[asyncio.Task[object]]]:
    """One call of each runs, and two of the hog's wait."""
    shared = Shared()
    await shared.ask("calm")
    return shared, [await shared.ask("hog", number) for number in range(3)]


async def test_a_call_beyond_the_share_waits_until_another_is_over() -> None:
    shared, (first, *_) = await hog_and_neighbour()
    assert set(shared.models.running) == {("calm", 0), ("hog", 0)}
    await shared.end("hog", 0)
    assert first.result() == SPEECH
    assert set(shared.models.running) == {("calm", 0), ("hog", 1)}


async def test_what_waiting_took_is_gone_from_the_budget() -> None:
    shared, _ = await hog_and_neighbour()
    shared.models.now += 1.5
    await shared.end("hog", 0)
    assert shared.models.budgets_ms["hog", 1] == 3500


async def test_a_call_whose_time_ran_out_while_it_waited_is_not_made() -> None:
    shared, (_, second, third) = await hog_and_neighbour()
    shared.models.now += 5
    await shared.end("hog", 0)
    assert isinstance(second.exception(), DeadlineExceeded)
    assert isinstance(third.exception(), DeadlineExceeded)
    assert set(shared.models.running) == {("calm", 0)}


async def test_a_waiting_call_that_is_cancelled_lets_the_next_one_pass() -> None:
    shared, (_, second, third) = await hog_and_neighbour()
    second.cancel()
    await shared.end("hog", 0)
    assert second.cancelled()
    assert set(shared.models.running) == {("calm", 0), ("hog", 2)}
    await shared.end("hog", 2)
    assert third.result() == SPEECH


async def test_a_running_call_that_is_cancelled_frees_its_turn() -> None:
    shared, (first, *_) = await hog_and_neighbour()
    first.cancel()
    await shared.settle()
    assert set(shared.models.running) == {("calm", 0), ("hog", 1)}


async def test_a_call_cancelled_just_as_its_turn_comes_gives_it_on() -> None:
    shared, (_, second, _) = await hog_and_neighbour()
    shared.models.running["hog", 0].set_result(SPEECH)
    while ("hog", 0) in shared.models.running:
        await asyncio.sleep(0)
    second.cancel()
    await shared.settle()
    assert second.cancelled()
    assert set(shared.models.running) == {("calm", 0), ("hog", 2)}


async def test_a_failure_frees_its_turn_and_reaches_the_caller() -> None:
    shared, (first, *_) = await hog_and_neighbour()
    await shared.end("hog", 0, ModelFailed(Stage.TTS, "no"))
    assert isinstance(first.exception(), ModelFailed)
    assert ("hog", 1) in shared.models.running


async def test_stages_do_not_wait_for_each_other() -> None:
    shared, _ = await hog_and_neighbour()
    ref = FragmentRef("hog", "f9", 9)
    heard = await shared.stages.call(TranscribeRequest(ref, FRAGMENT.audio, "en", (), 5000))
    said = await shared.stages.call(TranslateRequest(ref, "hello", "en", "es", (), "", 5000))
    filled = await shared.stages.call(FillRequest(ref, 1000, M4A, 5000))
    assert (heard, said, filled) == (transcript(), TRANSLATION, SPEECH)


@pytest.mark.parametrize("waited_ms", [0, 60_000])
async def test_slots_are_learnt_from_what_the_stage_says_that_it_computed(waited_ms: int) -> None:
    shared = Shared()
    shared.stages._turns[Stage.TTS].room = 100.0
    for number in range(6):
        for name in ("a", "b"):
            await shared.ask(name, number, budget_ms=100_000)
        shared.models.now += (SPEECH.elapsed_ms + waited_ms) / 1000
        for name in ("a", "b"):
            await shared.end(name, number)
    assert shared.stages._turns[Stage.TTS].room == (1.0 if waited_ms else 100.0)


async def test_a_faster_voice_waits_for_no_turn() -> None:
    shared, _ = await hog_and_neighbour()
    asked = replace(synthesis("hog", 7), faster_voice="fast", hasten=True)
    speaking = asyncio.create_task(shared.stages.call(asked))
    await shared.settle()
    assert ("hog", 7) in shared.models.running
    await shared.end("hog", 7)
    assert speaking.result() == SPEECH


async def test_where_a_turn_is_long_in_coming_the_faster_voice_speaks() -> None:
    shared, _ = await hog_and_neighbour()
    asked = replace(synthesis("hog", 7, budget_ms=2), faster_voice="fast")
    speaking = asyncio.create_task(shared.stages.call(asked))
    while ("hog", 7) not in shared.models.running:
        await asyncio.sleep(0)
    assert shared.models.hastened == {("hog", 7)}
    await shared.end("hog", 7)
    assert await speaking == SPEECH


async def test_what_the_faster_voice_took_says_nothing_of_the_slots() -> None:
    shared = Shared()
    shared.stages._turns[Stage.TTS].room = 100.0
    for number in range(6):
        for name in ("a", "b"):
            await shared.ask(name, number)
        shared.models.now += 4
        for name in ("a", "b"):
            shared.models.running[name, number].set_result(replace(SPEECH, warnings=("faster_voice",)))
            await shared.settle()
    assert shared.stages.room(Stage.TTS) == 100.0


async def test_a_call_in_the_background_waits_until_no_live_one_does() -> None:
    shared, _ = await hog_and_neighbour()
    background = asyncio.create_task(BackgroundStages(shared.stages).call(synthesis("file", budget_ms=60_000)))
    for number in (0, 1):
        await shared.end("hog", number)
        assert ("file", 0) not in shared.models.running
    await shared.end("hog", 2)
    shared.models.now += 3 * RECENT_S
    await shared.end("calm", 0)
    assert ("file", 0) in shared.models.running
    await shared.end("file", 0)
    assert await background == SPEECH


async def test_a_call_in_the_background_starts_though_none_ends_once_nobody_keeps_its_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fair_stages, "LOOK_AGAIN_S", 0.0)
    shared, hogs = await hog_and_neighbour()
    background = asyncio.create_task(BackgroundStages(shared.stages).call(synthesis("file", budget_ms=60_000)))
    for task in hogs:
        task.cancel()
    await shared.end("calm", 0)
    assert not shared.models.running
    shared.models.now += 3 * RECENT_S
    while ("file", 0) not in shared.models.running:
        await asyncio.sleep(0)
    await shared.end("file", 0)
    assert await background == SPEECH


async def test_listening_and_interims_wait_for_no_turn_where_a_final_does():
    """They compute next to nothing, or give way at the replica."""
    shared = Shared()
    turns = shared.stages._turns[Stage.ASR]
    turns.serves(0.5)
    ref, audio = FragmentRef("captions", "1", 1), FRAGMENT.audio
    async with asyncio.timeout(5):
        await shared.stages.call(TranscribeRequest(ref, audio, "en", (), 5000, interim=True))
        await shared.stages.call(ListenRequest(ref, audio, 0, 5000))
    assert not len(turns)
    await shared.stages.call(TranscribeRequest(ref, audio, "en", (), 5000))
    assert len(turns)
