"""The way of one fragment through the models."""

import asyncio
from dataclasses import replace

import pytest

from deployments.contracts.values import EncodedAudio, FillRequest, FragmentRef, Outcome, Overhang
from deployments.errors import DeadlineExceeded, GpuOutOfMemory, ModelFailed, QueueFull, Stage, SynthesisFailed
from serve_app.stages.pipeline import DubRequest, dub
from serve_app.stream.overhang import Overhangs
from serve_app.stream.values import LAST_RESORT_NEEDS_S
from tests.unit.serve_app.scripted import FRAGMENT, M4A, SETTINGS, SPEECH, TRANSLATION, transcript

FILLED = replace(SPEECH, audio=EncodedAudio(b"silence", M4A))


class Stages:
    """Stages that answer what they are told to, each taking its share of a fragment's time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.takes_s = 0.0
        self.requests: dict[str, object] = {}
        self.answers: dict[str, object] = {
            "transcribe": transcript(),
            "translate": TRANSLATION,
            "synthesize": SPEECH,
            "fill": FILLED,
        }

    async def call(self, request):
        call = request.METHOD
        self.requests[call] = request
        self.now += self.takes_s
        answer = self.answers[call]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, asyncio.Event):
            answer.set()
            await asyncio.Event().wait()
        return answer


class Context:
    """The session's side of an attempt, as the pipeline meets it."""

    def __init__(self, start) -> None:
        self.start = start
        self.number = 0
        self.said = ""
        self.overhangs = Overhangs()

    def said_before(self) -> str:
        return self.said

    def overhang_due(self, wake) -> bool:
        return self.overhangs.due(self.number, wake)

    def overhang(self) -> Overhang | None:
        return self.overhangs.before(self.number)

    def may_run_over(self) -> bool:
        return self.overhangs.begin(self.number)


@pytest.fixture
def stages() -> Stages:
    return Stages()


@pytest.fixture
def ran() -> list[Stage]:
    return []


@pytest.fixture
def job(stages, ran) -> DubRequest:
    return DubRequest(
        settings=SETTINGS,
        fragment=FRAGMENT,
        deadline=108.0,
        fallback_mode="silence",
        wants_original=False,
        context=Context(lambda stage, _: bool(ran.append(stage))),
        clock=lambda: stages.now,
    )


async def test_translation_hears_what_the_stream_said_before(job, stages):
    job.context.said = "said before"
    await dub(job, stages)
    assert stages.requests["translate"].context == "said before"


async def test_each_stage_that_starts_comes_with_what_was_done_before_it(job, stages):
    told = []
    await dub(replace(job, context=Context(lambda stage, so_far: bool(told.append((stage, so_far))))), stages)
    heard = stages.answers["transcribe"]
    assert told == [
        (Stage.ASR, Outcome()),
        (Stage.TRANSLATION, Outcome(heard)),
        (Stage.TTS, Outcome(heard, TRANSLATION)),
    ]


async def test_the_whole_way(job, stages, ran):
    outcome = await dub(job, stages)
    assert (outcome.transcript, outcome.translation, outcome.speech) == (transcript(), TRANSLATION, SPEECH)
    assert outcome.failure is None
    assert ran == [Stage.ASR, Stage.TRANSLATION, Stage.TTS]
    assert set(stages.requests) == {"transcribe", "translate", "synthesize"}


async def test_each_stage_gets_what_it_needs(job, stages):
    await dub(job, stages)
    ref = FragmentRef("radio", "f-0", 0)
    asr, translation, tts = (stages.requests[call] for call in ("transcribe", "translate", "synthesize"))
    assert (asr.ref, asr.audio, asr.language, asr.hints) == (ref, FRAGMENT.audio, "en", ("weather",))
    assert (translation.ref, translation.text, translation.source_language) == (ref, "hello", "en")
    assert translation.target_language == "es"
    assert (tts.ref, tts.text, tts.voice, tts.target_duration_ms, tts.output) == (ref, "hola", "maria", 6000, M4A)


async def test_the_budget_shrinks_by_what_the_stages_before_took(job, stages):
    stages.takes_s = 2.5
    await dub(job, stages)
    assert [request.budget_ms for request in stages.requests.values()] == [8000, 5500, 3000]


@pytest.mark.parametrize("silent", ["transcript", "translation"])
@pytest.mark.parametrize(("mode", "original"), [("silence", None), ("original", FRAGMENT.audio)])
async def test_what_says_nothing_is_filled_and_not_spoken(silent, mode, original, job, stages, ran):
    if silent == "transcript":
        stages.answers["transcribe"] = transcript("")
    else:
        stages.answers["translate"] = replace(TRANSLATION, text=" \n")
    outcome = await dub(replace(job, fallback_mode=mode), stages)
    assert outcome.speech == FILLED
    assert outcome.failure is None
    assert "synthesize" not in stages.requests
    assert ("translate" in stages.requests) == (silent == "translation")
    assert (outcome.translation is None) == (silent == "transcript")
    assert stages.requests["fill"] == FillRequest(FragmentRef("radio", "f-0", 0), 6000, M4A, 8000, original)
    assert ran[-1] is Stage.TTS


@pytest.mark.parametrize(("wants", "original"), [(True, FRAGMENT.audio), (False, None)])
async def test_the_original_goes_only_to_voices_that_want_it(wants, original, job, stages):
    await dub(replace(job, wants_original=wants), stages)
    assert stages.requests["synthesize"].original == original


@pytest.mark.parametrize(
    ("call", "failure", "kept"),
    [
        ("transcribe", GpuOutOfMemory(Stage.ASR, "full"), (None, None)),
        ("translate", ModelFailed(Stage.TRANSLATION, "down"), (transcript(), None)),
        ("synthesize", SynthesisFailed(Stage.TTS, "mute"), (transcript(), TRANSLATION)),
    ],
)
async def test_a_failure_ends_the_way_and_keeps_what_was_done(call, failure, kept, job, stages):
    stages.answers[call] = failure
    outcome = await dub(job, stages)
    assert outcome.failure is failure
    assert (outcome.transcript, outcome.translation) == kept
    assert outcome.speech is None
    assert list(stages.requests)[-1] == call


async def test_a_failed_fill_keeps_the_transcript(job, stages):
    stages.answers |= {"transcribe": transcript(""), "fill": ModelFailed(Stage.TTS, "down")}
    outcome = await dub(job, stages)
    assert (outcome.transcript, outcome.speech) == (transcript(""), None)
    assert outcome.failure is stages.answers["fill"]


@pytest.mark.parametrize(
    ("takes_s", "stage", "asked"),
    [
        (8.0, Stage.TRANSLATION, ["transcribe"]),
        (4.0, Stage.TTS, ["transcribe", "translate"]),
    ],
)
async def test_a_stage_that_begins_too_late_does_not_begin(takes_s, stage, asked, job, stages, ran):
    stages.takes_s = takes_s
    outcome = await dub(job, stages)
    assert isinstance(outcome.failure, DeadlineExceeded)
    assert outcome.failure.stage is stage
    assert list(stages.requests) == asked
    assert ran[-1] is stage


async def test_a_fragment_that_is_late_from_the_start_reaches_no_model(job, stages):
    outcome = await dub(replace(job, deadline=100.0), stages)
    assert (outcome.failure.code, outcome.failure.stage) == ("TIMEOUT", Stage.ASR)
    assert not stages.requests


@pytest.mark.parametrize("call", ["transcribe", "translate", "synthesize"])
async def test_cancelling_passes_through(call, job, stages):
    stages.answers[call] = entered = asyncio.Event()
    running = asyncio.create_task(dub(job, stages))
    await asyncio.wait_for(entered.wait(), 5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_bug_is_not_taken_for_a_stages_failure(job, stages):
    stages.answers["translate"] = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await dub(job, stages)


END = Overhang(b"\0" * 480, 24_000)


@pytest.fixture
def second(job) -> DubRequest:
    """The stream's fragment 1, both accepted."""
    job.context.number = 1
    job.context.overhangs.accept(0)
    job.context.overhangs.accept(1)
    return replace(job, fragment=replace(job.fragment, fragment_id="f-1", sequence_number=1))


@pytest.mark.parametrize(("heard", "call"), [("hello", "synthesize"), ("", "fill")])
async def test_a_dub_opens_with_what_the_one_before_left_over(heard, call, second, stages):
    stages.answers["transcribe"] = transcript(heard)
    second.context.overhangs.settle(0, END, heard=True)
    await dub(second, stages)
    assert stages.requests[call].overhang is END


async def test_it_may_leave_something_over_while_its_successor_has_not_come(job, stages):
    job.context.overhangs.accept(0)
    await dub(job, stages)
    assert stages.requests["synthesize"].may_run_over
    job.context.overhangs.accept(1)
    await dub(job, stages)
    assert not stages.requests["synthesize"].may_run_over


@pytest.mark.parametrize(("heard", "call"), [("hello", "synthesize"), ("", "fill")])
async def test_it_waits_for_one_that_may_leave_something_over(heard, call, job, second, stages, ran):
    stages.answers["transcribe"] = transcript(heard)
    overhangs = second.context.overhangs = Overhangs()
    overhangs.accept(0)
    overhangs.begin(0)
    waiting = asyncio.create_task(dub(second, stages))
    while Stage.TTS not in ran:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert call not in stages.requests
    stages.now += 3.0
    overhangs.settle(0, END, heard=True)
    await asyncio.wait_for(waiting, 5)
    assert stages.requests[call].overhang is END
    assert stages.requests[call].budget_ms == 5000, "the wait was its own time"


async def test_one_that_hangs_does_not_take_its_successor_with_it(second, stages):
    second.context.overhangs = Overhangs()
    second.context.overhangs.accept(0)
    second.context.overhangs.begin(0)
    outcome = await asyncio.wait_for(dub(replace(second, deadline=100.04), stages), 5)
    assert outcome.failure is None
    assert stages.requests["synthesize"].overhang is None


async def test_a_stage_that_would_end_too_late_is_not_begun(job, stages):
    def running(stage, _):
        if stage is Stage.TTS:
            raise QueueFull(stage, "too late")
        return False

    outcome = await dub(replace(job, context=Context(running)), stages)
    assert isinstance(outcome.failure, QueueFull)
    assert outcome.translation == TRANSLATION
    assert "synthesize" not in stages.requests


@pytest.mark.parametrize(("degrade", "voice"), [((), ""), (("original",), ""), (("faster_voice", "original"), "fast")])
async def test_the_faster_voice_comes_in_where_the_server_lets_it(degrade, voice, job, stages):
    settings = replace(SETTINGS, faster_voice="fast")
    await dub(replace(job, settings=settings, degrade=degrade, context=Context(lambda *_: True)), stages)
    request = stages.requests["synthesize"]
    assert (request.faster_voice, request.hasten) == (voice, True)


@pytest.mark.parametrize(
    ("rung", "warning", "audio"), [("original", "original_audio", FRAGMENT.audio), ("silence", "silence", None)]
)
@pytest.mark.parametrize("call", ["transcribe", "translate", "synthesize"])
async def test_in_place_of_a_late_failure_comes_the_original_or_silence(call, rung, warning, audio, job, stages):
    stages.answers[call] = QueueFull(Stage.TTS, "full")
    outcome = await dub(replace(job, degrade=("faster_voice", rung)), stages)
    assert outcome.failure is None
    assert outcome.replaced is stages.answers[call]
    assert outcome.speech == replace(FILLED, partial=True, warnings=(warning,))
    assert stages.requests["fill"].original == audio
    assert stages.requests["fill"].target_duration_ms == 6000


async def test_so_it_does_just_before_the_fragments_time_is_over(job, stages):
    stages.answers["synthesize"] = asyncio.Event()
    deadline = 100.0 + LAST_RESORT_NEEDS_S + 0.01
    outcome = await dub(replace(job, deadline=deadline, degrade=("original",)), stages)
    assert outcome.speech.warnings == ("original_audio",)
    assert outcome.translation == TRANSLATION


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ({"synthesize": SynthesisFailed(Stage.TTS, "no")}, SynthesisFailed),
        ({"synthesize": ModelFailed(Stage.TTS, "no")}, ModelFailed),
        ({"synthesize": GpuOutOfMemory(Stage.TTS, "full")}, GpuOutOfMemory),
        ({"synthesize": QueueFull(Stage.TTS, "full"), "fill": ModelFailed(Stage.TTS, "no")}, QueueFull),
    ],
)
async def test_what_no_time_would_mend_stays_a_failure(answers, error, job, stages):
    """A text that can't be spoken, or an original that can't even be sent back."""
    stages.answers |= answers
    outcome = await dub(replace(job, degrade=("original",)), stages)
    assert isinstance(outcome.failure, error)
    assert outcome.speech is None


async def test_stages_get_the_time_that_the_last_resort_leaves_them(job, stages):
    await dub(replace(job, degrade=("silence",)), stages)
    assert stages.requests["transcribe"].budget_ms == 8000 - 1000 * LAST_RESORT_NEEDS_S
    short = replace(SETTINGS, timeout_ms=1000)
    await dub(replace(job, settings=short, deadline=101.0, degrade=("silence",)), stages)
    assert stages.requests["transcribe"].budget_ms == 900


async def test_a_fragment_that_nobody_could_read_is_taken_to_be_as_long_as_the_stream_said(job, stages):
    stages.answers["transcribe"] = QueueFull(Stage.ASR, "full")
    fragment = replace(FRAGMENT, declared_duration_ms=0)
    await dub(replace(job, fragment=fragment, degrade=("original",)), stages)
    assert stages.requests["fill"].target_duration_ms == SETTINGS.chunk_duration_ms
