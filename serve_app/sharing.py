"""The model stages, shared fairly by the streams of one ingress replica.

Each call waits for its turn, which `stream.turns` gives, with its deadline running; a caller that is cancelled gives
its turn up.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from deployments.contracts import (
    FASTER_VOICE,
    FillRequest,
    Speech,
    SynthesizeRequest,
    TranscribeRequest,
    Transcript,
    TranslateRequest,
    Translation,
)
from deployments.errors import DeadlineExceeded, Stage
from serve_app.pipeline import Stages
from serve_app.stream.turns import Turn, Turns

R = TypeVar("R", TranscribeRequest, TranslateRequest, SynthesizeRequest)
A = TypeVar("A", Transcript, Translation, Speech)


class SharedStages:
    """Stages whose calls take turns.

    Args:
        stages: the models.
        clock: seconds, monotonic.
    """

    def __init__(self, stages: Stages, clock: Callable[[], float] = time.monotonic) -> None:
        self._stages = stages
        self._clock = clock
        self._turns = {stage: Turns() for stage in Stage}
        self._wakers: dict[Turn, asyncio.Future[None]] = {}

    def room(self, stage: Stage) -> float:
        """Calls that the stage computes at once, as far as is known; infinite until some have waited."""
        return self._turns[stage].room

    async def transcribe(self, request: TranscribeRequest) -> Transcript:
        """Decode and recognise, in turn."""
        return await self._in_turn(Stage.ASR, self._stages.transcribe, request)

    async def translate(self, request: TranslateRequest) -> Translation:
        """Translate, in turn."""
        return await self._in_turn(Stage.TRANSLATION, self._stages.translate, request)

    async def synthesize(self, request: SynthesizeRequest) -> Speech:
        """Speak, fit and encode, in turn; at once by the faster voice, also where the turn is long in coming."""
        came_at = self._clock()
        if not request.hasten:
            patience_s = request.budget_ms / 2000 if request.faster_voice else None
            with suppress(TimeoutError):
                return await self._in_turn(Stage.TTS, self._stages.synthesize, request, patience_s)
        left_ms = request.budget_ms - round((self._clock() - came_at) * 1000)
        return await self._stages.synthesize(replace(request, budget_ms=left_ms, hasten=True))

    async def fill(self, request: FillRequest) -> Speech:
        """Silence or the original, at once: no model computes for it."""
        return await self._stages.fill(request)

    async def _in_turn(
        self, stage: Stage, call: Callable[[R], Awaitable[A]], request: R, patience_s: float | None = None
    ) -> A:
        """Raises TimeoutError where the turn doesn't come within `patience_s`."""
        turns = self._turns[stage]
        turn = Turn(request.ref.stream_id, self._clock())
        computed_s = None
        self._wake(turns.come(turn))
        try:
            if turn.started_at is None:
                self._wakers[turn] = asyncio.get_running_loop().create_future()
                await asyncio.wait_for(self._wakers[turn], patience_s)
            left_ms = request.budget_ms - round((self._clock() - turn.came_at) * 1000)
            if left_ms <= 0:
                raise DeadlineExceeded(
                    stage, "the fragment's time ran out while its stream had its share of the models"
                )
            answer = await call(replace(request, budget_ms=left_ms))
            if not (isinstance(answer, Speech) and FASTER_VOICE in answer.warnings):  # that one had no slot
                computed_s = answer.elapsed_ms / 1000
            return answer
        finally:
            self._wakers.pop(turn, None)
            self._wake(turns.leave(turn, self._clock(), computed_s))

    def _wake(self, started: list[Turn]) -> None:
        for turn in started:
            waker = self._wakers.get(turn)
            if waker is not None and not waker.done():
                waker.set_result(None)
