"""What Ray can raise becomes a stage's failure; a cancelled call is stopped at its replica."""

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from structlog.testing import capture_logs

from deployments.contracts.values import (
    EncodedAudio,
    FillRequest,
    FragmentRef,
    SynthesizeRequest,
    TranscribeRequest,
    TranslateRequest,
)
from deployments.errors import (
    DeadlineExceeded,
    DurationMismatch,
    InternalFault,
    InvalidAudio,
    InvalidText,
    ModelFailed,
    QueueFull,
    RateLimitExceeded,
    Stage,
    SynthesisFailed,
    WorkerCrashed,
)
from serve_app.protocol import ERROR_TABLE, ErrorCode
from serve_app.stages.ray_stages import RayStages
from tests.unit.serve_app.scripted import M4A, SPEECH, TRANSLATION, transcript

REF = FragmentRef("radio", "f-0", 0)
AUDIO = EncodedAudio(b"x", M4A)
TRANSCRIBE = TranscribeRequest(REF, AUDIO, "en", (), 8000)
CALLS = {
    "transcribe": TRANSCRIBE,
    "translate": TranslateRequest(REF, "hello", "en", "es", (), "", 8000),
    "synthesize": SynthesizeRequest(REF, "hola", "maria", 6000, M4A, 8000),
    "fill": FillRequest(REF, 6000, M4A, 8000),
}
STAGES = {"transcribe": Stage.ASR, "translate": Stage.TRANSLATION, "synthesize": Stage.TTS, "fill": Stage.TTS}


class Response:
    """What a handle's call gives: awaitable, and can be cancelled at the replica."""

    def __init__(self, answer: object) -> None:
        self._answer = answer
        self.cancelled = False
        self.entered = asyncio.Event()

    def __await__(self):
        return self._wait().__await__()

    async def _wait(self) -> object:
        self.entered.set()
        if self._answer is None:
            await asyncio.Event().wait()
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer

    def cancel(self) -> None:
        self.cancelled = True


class Handle:
    """A deployment whose next answers are listed; None never comes."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.called: list[tuple[str, tuple[object, ...]]] = []
        self.responses: list[Response] = []
        self.given: dict[str, object] = {}
        self._method = ""

    def options(self, **given: object) -> "Handle":
        self.given |= given
        return self

    def __getattr__(self, name: str) -> "Handle":
        if name.startswith("_"):
            raise AttributeError(name)
        self._method = name
        return self

    def remote(self, *args: object) -> Response:
        self.called.append((self._method, args))
        self.responses.append(Response(self.answers.pop(0)))
        return self.responses[-1]


def death(replica: int) -> ActorUnavailableError:
    """Of one of the replicas."""
    return ActorUnavailableError("gone", replica.to_bytes(16, "big"))


def stages_of(handle: Handle, clock=lambda: 0.0) -> RayStages:
    return RayStages(handle, handle, handle, clock)


def task_error(cause: Exception) -> RayTaskError:
    return RayTaskError("transcribe", "Traceback: secret words", cause)


async def failure_of(handle: Handle, call: str = "transcribe"):
    with pytest.raises(Exception) as raised:
        await stages_of(handle).call(CALLS[call])
    return raised.value


@pytest.mark.parametrize(
    ("call", "answer"),
    [("transcribe", transcript()), ("translate", TRANSLATION), ("synthesize", SPEECH), ("fill", SPEECH)],
)
async def test_a_call_reaches_its_method_by_value(call, answer):
    handle = Handle(answer)
    assert await stages_of(handle).call(CALLS[call]) == answer
    assert handle.called == [(call, (CALLS[call],))]
    assert handle.given == {
        "_by_reference": False,
        "request_serialization": "pickle",
        "response_serialization": "pickle",
    }


@pytest.mark.parametrize("death", [ActorDiedError(), ActorUnavailableError("gone", None)], ids=["died", "unavailable"])
async def test_a_fragment_whose_replica_died_is_given_to_another_once(death):
    handle = Handle(death, transcript())
    with capture_logs() as logged:
        assert await stages_of(handle).call(TRANSCRIBE) == transcript()
    assert len(handle.called) == 2
    assert [(entry["event"], entry["attempt"]) for entry in logged] == [("replica_died", 1)]


@pytest.mark.parametrize("call", CALLS)
async def test_a_fragment_whose_replicas_keep_dying_is_a_crash(call):
    handle = Handle(ActorDiedError(), ActorDiedError(), "never asked")
    failure = await failure_of(handle, call)
    assert isinstance(failure, WorkerCrashed)
    assert (failure.stage, failure.retryable) == (STAGES[call], True)
    assert len(handle.called) == 2


@pytest.mark.parametrize(("took_s", "left_ms"), [(3.0, 5000), (30.0, 1)])
async def test_the_budget_shrinks_on_a_retry_and_is_never_negative(took_s, left_ms):
    now_s = 0.0

    class Slow(Handle):
        def remote(self, *args: object) -> Response:
            nonlocal now_s
            response = super().remote(*args)
            now_s += took_s
            return response

    handle = Slow(ActorDiedError(), transcript())
    await stages_of(handle, lambda: now_s).call(TRANSCRIBE)
    assert [request.budget_ms for _, (request,) in handle.called] == [8000, left_ms]


async def test_a_stages_own_error_passes_as_it_is():
    error = RateLimitExceeded(Stage.TRANSLATION, "later")
    assert await failure_of(Handle(error), "translate") is error


@pytest.mark.parametrize("wrapped", ["plain", "both"])
async def test_a_stages_error_is_taken_out_of_rays(wrapped):
    """Ray may raise an instance of both classes, whose text is Ray's traceback."""
    error = DurationMismatch(Stage.TTS, "too long", {"speed_ratio": 2.5})
    raised = task_error(error) if wrapped == "plain" else task_error(error).as_instanceof_cause()
    failure = await failure_of(Handle(raised), "synthesize")
    assert failure is error


async def test_an_unknown_exception_in_a_replica_is_an_internal_fault_that_tells_nothing():
    with capture_logs() as logged:
        failure = await failure_of(Handle(task_error(ZeroDivisionError("x")).as_instanceof_cause()))
    assert isinstance(failure, InternalFault)
    assert failure.stage is Stage.ASR
    assert "secret words" not in failure.message
    assert logged[0]["event"] == "stage_failed"


async def test_a_full_queue_is_told_as_such():
    failure = await failure_of(Handle(BackPressureError(num_queued_requests=5, max_queued_requests=5)))
    assert (type(failure), failure.stage) == (QueueFull, Stage.ASR)


@pytest.mark.parametrize(
    "error", [DeploymentUnavailableError("app"), RayServeException("x"), RayError("x")], ids=lambda e: type(e).__name__
)
async def test_a_stage_that_cannot_be_reached_has_failed(error):
    failure = await failure_of(Handle(error))
    assert (type(failure), failure.retryable) == (ModelFailed, True)
    assert type(error).__name__ in failure.message


async def test_cancelling_stops_the_call_at_its_replica():
    handle = Handle(None)
    running = asyncio.create_task(stages_of(handle).call(TRANSCRIBE))
    while not handle.responses:
        await asyncio.sleep(0)
    await asyncio.wait_for(handle.responses[0].entered.wait(), 5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert handle.responses[0].cancelled


@pytest.mark.parametrize("name", ["Asr", "Translation", "Tts"])
async def test_abilities_are_asked_of_the_deployment_of_that_name(name):
    handles = {"Asr": Handle("Asr can"), "Translation": Handle("Translation can"), "Tts": Handle("Tts can")}
    stages = RayStages(handles["Asr"], handles["Translation"], handles["Tts"])
    assert await stages.capabilities(Stage(name.lower()), 5) == f"{name} can"
    assert handles[name].called == [("capabilities", ())]


async def test_a_deployment_that_does_not_answer_is_given_up_and_not_left_waiting():
    handle = Handle(None)
    with pytest.raises(TimeoutError):
        await stages_of(handle).capabilities(Stage.ASR, 0.01)
    assert handle.responses[0].cancelled


REFUSALS = {"transcribe": InvalidAudio, "translate": InvalidText, "synthesize": InvalidText, "fill": SynthesisFailed}


@pytest.mark.parametrize("call", CALLS)
async def test_content_that_killed_two_replicas_is_refused_from_then_on(call):
    handle = Handle(death(1), death(2), "the next content is served")
    convicted: list[Stage] = []
    stages = RayStages(handle, handle, handle, lambda: 0.0, convicted.append)
    with capture_logs() as logged, pytest.raises(WorkerCrashed):
        await stages.call(CALLS[call])
    again = replace(CALLS[call], ref=FragmentRef("another stream", "f-7", 7))
    with pytest.raises(REFUSALS[call]) as refused:
        await stages.call(again)

    assert (refused.value.stage, refused.value.retryable) == (STAGES[call], False)
    assert STAGES[call] in ERROR_TABLE[ErrorCode(refused.value.code)].stages
    assert len(handle.called) == 2
    assert convicted == [STAGES[call]]
    assert [entry["log_level"] for entry in logged if entry["event"] == "content_quarantined"] == ["error"]
    different = {"transcribe": {"language": "de"}, "fill": {"target_duration_ms": 5999}}.get(call, {"text": "other"})
    assert await stages.call(replace(again, **different)) == "the next content is served"


async def test_a_call_handed_twice_to_one_dead_replica_is_not_held_against_it():
    handle = Handle(death(1), death(1), transcript())
    stages = stages_of(handle)
    with pytest.raises(WorkerCrashed):
        await stages.call(TRANSCRIBE)
    assert await stages.call(TRANSCRIBE) == transcript()


@pytest.mark.parametrize("answer", [transcript(), task_error(InvalidAudio(Stage.ASR, "noise"))], ids=["done", "failed"])
async def test_an_answer_of_any_kind_clears_the_content(answer):
    handle = Handle(death(1), answer, death(2), transcript())
    stages = stages_of(handle)
    with suppress(InvalidAudio):
        await stages.call(TRANSCRIBE)
    assert await stages.call(TRANSCRIBE) == transcript()


class Replicas(Handle):
    """Replicas whose calls end when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[asyncio.Future[object]] = []

    def remote(self, *args: object) -> Response:
        self.ends.append(asyncio.get_running_loop().create_future())
        self.answers.append(None)
        response = super().remote(*args)
        response._wait = lambda end=self.ends[-1]: asyncio.wait_for(end, None)
        return response

    async def until(self, n_calls: int) -> None:
        async with asyncio.timeout(5):
            while len(self.called) < n_calls:
                await asyncio.sleep(0)


async def two_suspects(stages: RayStages, replicas: Replicas) -> tuple[TranscribeRequest, TranscribeRequest]:
    """Two contents that were in both replicas when these died."""
    requests = TRANSCRIBE, replace(TRANSCRIBE, audio=EncodedAudio(b"y", M4A))
    running = [asyncio.create_task(stages.call(request)) for request in requests]
    for replica in (1, 2):
        await replicas.until(2 * replica)
        for end in replicas.ends[-2:]:
            end.set_exception(death(replica))
    failures = await asyncio.gather(*running, return_exceptions=True)
    assert [type(failure) for failure in failures] == [WorkerCrashed, WorkerCrashed]
    return requests


async def test_suspects_run_one_at_a_time_until_one_kills_again():
    replicas = Replicas()
    stages = stages_of(replicas)
    killer, innocent = await two_suspects(stages, replicas)
    first = asyncio.create_task(stages.call(killer))
    second = asyncio.create_task(stages.call(innocent))
    await replicas.until(5)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(replicas.called) == 5
    replicas.ends[4].set_exception(death(3))
    with pytest.raises(WorkerCrashed):
        await first
    await replicas.until(6)
    replicas.ends[5].set_result(transcript())
    assert await second == transcript()
    with pytest.raises(InvalidAudio):
        await stages.call(killer)
    assert len(replicas.called) == 6


async def test_a_suspect_waits_no_longer_than_its_deadline_and_others_do_not_wait():
    replicas = Replicas()
    stages = stages_of(replicas)
    killer, innocent = await two_suspects(stages, replicas)
    first = asyncio.create_task(stages.call(killer))
    await replicas.until(5)
    with pytest.raises(DeadlineExceeded):
        await stages.call(replace(innocent, budget_ms=10))
    bystander = asyncio.create_task(stages.call(replace(TRANSCRIBE, audio=EncodedAudio(b"z", M4A))))
    await replicas.until(6)
    for end in replicas.ends[4:]:
        end.set_result(transcript())
    assert await first == await bystander == transcript()


async def test_fragments_in_a_stage_are_told_until_they_have_left_it_however_that_goes():
    told: list[tuple[Stage, int]] = []
    handle = Handle(None, ModelFailed(Stage.ASR, "no"), None)
    stages = RayStages(handle, handle, handle, on_load=lambda stage, fragments: told.append((stage, fragments)))
    waiting = asyncio.create_task(stages.call(TRANSCRIBE))
    await asyncio.sleep(0)
    with pytest.raises(ModelFailed):
        await stages.call(TRANSCRIBE)
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    assert told == [(Stage.ASR, 1), (Stage.ASR, 2), (Stage.ASR, 1), (Stage.ASR, 0)]
