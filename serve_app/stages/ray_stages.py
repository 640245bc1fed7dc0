"""The model deployments as the pipeline sees them: Ray handles in, stage results and stage errors out.

Everything that Ray can raise becomes a StageError here. A call is stopped at its replica when its caller is cancelled:
cancelling the await alone would let it run on. Content that makes replicas die is refused, see `quarantine`.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.contracts.values import (
    A,
    EncodedAudio,
    FillRequest,
    ListenRequest,
    Request,
    SayRequest,
    SynthesizeRequest,
    TranscribeRequest,
    TranslateRequest,
)
from deployments.errors import (
    DeadlineExceeded,
    InternalFault,
    InvalidAudio,
    InvalidText,
    ModelFailed,
    QueueFull,
    Stage,
    StageError,
    SynthesisFailed,
    WorkerCrashed,
)
from deployments.logs import about, get_logger
from serve_app.scheduling.quarantine import Quarantine, Trial

log = get_logger(__name__)
CRASH_RETRIES = 1
"""A fragment whose replica died is given to another one this often, inside its deadline.

At once: until a replica has accepted the call, Ray's router itself goes on to the next one (2.60, `serve/_private/
router.py`, `route_and_send_request`), so no try is spent on a replica that is dead already.
"""


_TWICE = "twice; it is refused for now"


class RayStages:
    """The three deployments by their handles.

    Args:
        asr: handle of the Asr deployment.
        translation: handle of the Translation deployment.
        tts: handle of the Tts deployment.
        clock: seconds, monotonic.
        on_conviction: told the stage whenever content is found to make replicas die.
        on_load: told how many fragments a stage has been given and not answered, whenever that changes.
    """

    def __init__(
        self,
        asr: DeploymentHandle[Any],
        translation: DeploymentHandle[Any],
        tts: DeploymentHandle[Any],
        clock: Callable[[], float] = time.monotonic,
        on_conviction: Callable[[Stage], None] = lambda _: None,
        on_load: Callable[[Stage, int], None] = lambda _stage, _fragments: None,
    ) -> None:
        # By value: for messages of this size three to five times faster than through the object store.
        by_value: dict[str, Any] = {
            "_by_reference": False,
            "request_serialization": "pickle",  # all that is exchanged lies in modules; cloudpickle takes twice as long
            "response_serialization": "pickle",
        }
        handles = {Stage.ASR: asr, Stage.TRANSLATION: translation, Stage.TTS: tts}
        self._handles = {stage: handle.options(**by_value) for stage, handle in handles.items()}
        self._clock = clock
        self._on_conviction = on_conviction
        self._on_load = on_load
        self._load = dict.fromkeys(Stage, 0)
        self._quarantine = Quarantine(clock)
        self._one_suspect = {stage: asyncio.Lock() for stage in Stage}

    async def call(self, request: Request[A]) -> A:
        """Ask the deployment whose the request is."""
        stage = request.STAGE
        self._count(stage, 1)
        try:
            answer: A = await self._tried(request)
        finally:
            self._count(stage, -1)
        return answer

    async def capabilities(self, stage: Stage, timeout_s: float) -> Any:
        """What a stage's deployment can do.

        Raises:
            TimeoutError: it does not answer; it may still be loading.
        """
        return await asyncio.wait_for(_once(self._handles[stage].capabilities), timeout_s)

    def _count(self, stage: Stage, more: int) -> None:
        self._load[stage] += more
        self._on_load(stage, self._load[stage])

    async def _tried(self, request: Request[A]) -> Any:
        stage = request.STAGE
        start_by = self._clock() + request.budget_ms / 1000
        for attempt in range(CRASH_RETRIES + 1):
            try:
                return await self._attempt(request, start_by)
            except RayActorError as error:
                with about(request.ref, stage):
                    log.warning("replica_died", attempt=attempt + 1, error=type(error).__name__)
                digest = _digest(request)
                if self._quarantine.convicted(stage, digest) or self._quarantine.suspected(stage, digest):
                    break
            except RayTaskError as error:  # may be a StageError too, with Ray's traceback for a message
                cause = error.cause
                raise cause if isinstance(cause, StageError) else self._bug(stage, request, error) from None
            except StageError:
                raise
            except BackPressureError:
                raise QueueFull(stage, "the stage's queue is full") from None
            except (DeploymentUnavailableError, RayServeException, RayError) as error:
                raise ModelFailed(stage, f"the stage can't be reached: {type(error).__name__}") from None
        raise WorkerCrashed(stage, "replicas died while they had the fragment")

    async def _attempt(self, request: Request[A], start_by: float) -> Any:
        stage = request.STAGE
        digest = "" if self._quarantine.empty else _digest(request)
        if self._quarantine.convicted(stage, digest):
            raise _refusal(stage, request)
        async with self._turn(stage, digest, start_by) as suspect:
            if suspect and self._quarantine.convicted(stage, digest):  # by the same content, while this one waited
                raise _refusal(stage, request)
            left_ms = int((start_by - self._clock()) * 1000)
            method = getattr(self._handles[stage], request.METHOD)
            under_way = self._quarantine.begin(stage, suspect=suspect)
            try:
                answer = await _once(method, request.changed(budget_ms=max(left_ms, 1)))
            except RayActorError as error:
                if error.actor_id is not None and not error.preempted:
                    self._blame(under_way, request, error.actor_id)
                raise
            except RayTaskError:
                if not self._quarantine.empty:
                    self._quarantine.survived(stage, _digest(request))
                raise
            finally:
                self._quarantine.end(under_way)
            if not self._quarantine.empty:
                self._quarantine.survived(stage, _digest(request))
            return answer

    def _blame(self, under_way: Trial, request: Request[A], replica: str) -> None:
        digest = _digest(request)
        if self._quarantine.died(under_way, digest, replica):
            with about(request.ref, under_way.stage):
                log.error("content_quarantined", digest=digest)
            self._on_conviction(under_way.stage)

    @asynccontextmanager
    async def _turn(self, stage: Stage, digest: str, start_by: float) -> AsyncIterator[bool]:
        """Wait until a suspect may run; others may at once. Gives whether this is one."""
        if not self._quarantine.suspected(stage, digest):
            yield False
            return
        lock = self._one_suspect[stage]
        try:
            async with asyncio.timeout(start_by - self._clock()):
                await lock.acquire()
        except TimeoutError:
            message = "the fragment's time ran out while it waited to be tried apart from other suspects"
            raise DeadlineExceeded(stage, message) from None
        try:
            yield True
        finally:
            lock.release()

    @staticmethod
    def _bug(stage: Stage, request: Request[A], error: RayTaskError) -> InternalFault:
        with about(request.ref, stage):
            log.error("stage_failed", error=str(error)[-4000:])
        return InternalFault(stage, "the server hit a bug on this fragment")


async def _once(method: Any, *args: object) -> Any:
    response = method.remote(*args)
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise


def _digest(request: object) -> str:
    """Of what a stage computes on; equal for equal content, whichever stream it belongs to."""
    match request:
        case TranscribeRequest(audio=audio, language=language):
            parts = (*_audio_parts(audio), language)
        case ListenRequest(audio=audio):
            parts = ("listen", *_audio_parts(audio))
        case TranslateRequest(text=text, source_language=source, target_language=target):
            parts = (text, source, target)
        case SynthesizeRequest(text=text, voice=voice, original=original):
            parts = ("speak", text, voice, *_audio_parts(original))
        case SayRequest(text=text, voice=voice, rate=rate):
            parts = ("say", text, voice, str(rate))
        case FillRequest(target_duration_ms=duration_ms, output=output, original=original):
            parts = ("fill", str(duration_ms), repr(output), *_audio_parts(original))
        case _:
            raise TypeError(f"no content is known of {type(request).__name__}")
    digest = hashlib.sha256()
    for part in parts:
        encoded = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()


def _audio_parts(audio: EncodedAudio | None) -> tuple[str | bytes, ...]:
    return () if audio is None else (repr(audio.format), audio.data)


def _refusal(stage: Stage, request: object) -> StageError:
    match request:
        case TranscribeRequest() | ListenRequest():
            return InvalidAudio(stage, f"replicas died on this audio {_TWICE}")
        case FillRequest():
            return SynthesisFailed(stage, f"replicas died on what fills this fragment {_TWICE}")
        case _:
            return InvalidText(stage, f"replicas died on this text {_TWICE}")
