"""The model deployments as the pipeline sees them: Ray handles in, stage results and stage errors out.

Everything that Ray can raise becomes a StageError here. A call is stopped at its replica when its caller is cancelled:
cancelling the await alone would let it run on.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.contracts import (
    FillRequest,
    Speech,
    SynthesizeRequest,
    TranscribeRequest,
    Transcript,
    TranslateRequest,
    Translation,
)
from deployments.errors import InternalFault, ModelFailed, QueueFull, Stage, StageError, WorkerCrashed
from deployments.logs import about, get_logger

log = get_logger(__name__)
CRASH_RETRIES = 1
"""A fragment whose replica died is given to another one this often, inside its deadline."""


R = TypeVar("R", TranscribeRequest, TranslateRequest, SynthesizeRequest, FillRequest)


class HandleStages:
    """The three deployments by their handles.

    Args:
        asr: handle of the Asr deployment.
        translation: handle of the Translation deployment.
        tts: handle of the Tts deployment.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        asr: DeploymentHandle[Any],
        translation: DeploymentHandle[Any],
        tts: DeploymentHandle[Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # By value: for messages of this size three to five times faster than through the object store.
        self._asr = asr.options(_by_reference=False)
        self._translation = translation.options(_by_reference=False)
        self._tts = tts.options(_by_reference=False)
        self._clock = clock

    async def transcribe(self, request: TranscribeRequest) -> Transcript:
        """`Asr.transcribe`."""
        transcript: Transcript = await self._call(Stage.ASR, self._asr.transcribe, request)
        return transcript

    async def translate(self, request: TranslateRequest) -> Translation:
        """`Translation.translate`."""
        translation: Translation = await self._call(Stage.TRANSLATION, self._translation.translate, request)
        return translation

    async def synthesize(self, request: SynthesizeRequest) -> Speech:
        """`Tts.synthesize`."""
        speech: Speech = await self._call(Stage.TTS, self._tts.synthesize, request)
        return speech

    async def fill(self, request: FillRequest) -> Speech:
        """`Tts.fill`."""
        speech: Speech = await self._call(Stage.TTS, self._tts.fill, request)
        return speech

    async def abilities(self, name: str, timeout_s: float) -> Any:
        """What the deployment of this name (Asr, Translation, Tts) can do.

        Raises:
            TimeoutError: it does not answer; it may still be loading.
        """
        handle = {"Asr": self._asr, "Translation": self._translation, "Tts": self._tts}[name]
        return await asyncio.wait_for(_once(handle.capabilities), timeout_s)

    async def _call(self, stage: Stage, method: Any, request: R) -> Any:
        start_by = self._clock() + request.budget_ms / 1000
        for attempt in range(CRASH_RETRIES + 1):
            left_ms = int((start_by - self._clock()) * 1000)
            try:
                return await _once(method, replace(request, budget_ms=max(left_ms, 1)))
            except RayActorError as error:
                with about(request.ref, stage):
                    log.warning("replica_died", attempt=attempt + 1, error=type(error).__name__)
            except RayTaskError as error:  # may be a StageError too, with Ray's traceback for a message
                cause = error.cause
                raise cause if isinstance(cause, StageError) else self._bug(stage, request, error) from None
            except StageError:
                raise
            except BackPressureError:
                raise QueueFull(stage, "the stage's queue is full") from None
            except (DeploymentUnavailableError, RayServeException, RayError) as error:
                raise ModelFailed(stage, f"the stage can't be reached: {type(error).__name__}") from None
        raise WorkerCrashed(stage, f"the replica died {CRASH_RETRIES + 1} times while it had the fragment")

    @staticmethod
    def _bug(stage: Stage, request: R, error: RayTaskError) -> InternalFault:
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
