"""The model stages, shared fairly by the streams of one ingress replica.

Each call waits for its turn, which `scheduling.fair_queue` gives, with its deadline running; a caller that is
cancelled gives its turn up.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from deployments.contracts.values import (
    FASTER_VOICE,
    A,
    FillRequest,
    ListenRequest,
    Request,
    Speech,
    SynthesizeRequest,
    TranscribeRequest,
)
from deployments.errors import DeadlineExceeded, Stage
from serve_app.scheduling.fair_queue import FairQueue, Priority, Turn
from serve_app.stages.pipeline import Stages

LOOK_AGAIN_S = 1.0
"""How often a call that waits looks whether it may start though no other has ended: slots kept free become stale."""


class FairStages:
    """Stages whose calls take turns.

    Args:
        stages: the models.
        clock: seconds, monotonic.
    """

    def __init__(self, stages: Stages, clock: Callable[[], float] = time.monotonic) -> None:
        self._stages = stages
        self._clock = clock
        self._turns = {stage: FairQueue() for stage in Stage}
        self._wakers: dict[Turn, asyncio.Future[None]] = {}

    def room(self, stage: Stage) -> float:
        """Calls that the stage computes at once, as far as is known; infinite until some have waited."""
        return self._turns[stage].room

    def serves(self, stage: Stage, at_once: float) -> None:
        """A stage computes so many calls at once, at most."""
        self._turns[stage].serves(at_once)

    async def call(self, request: Request[A], priority: Priority = Priority.LIVE) -> A:
        """Ask a stage, in turn; at once where no model computes, or where the faster voice is to speak.

        Where the voice's turn is long in coming, the faster one speaks.
        """
        if _takes_no_turn(request):
            return await self._stages.call(request)
        speaking = request if isinstance(request, SynthesizeRequest) else None
        if not (speaking and speaking.faster_voice):
            return await self._in_turn(request, priority)
        came_at = self._clock()
        with suppress(TimeoutError):
            return await self._in_turn(request, priority, request.budget_ms / 2000)
        left_ms = request.budget_ms - round((self._clock() - came_at) * 1000)
        return await self._stages.call(request.changed(budget_ms=left_ms, hasten=True))

    async def _in_turn(self, request: Request[A], priority: Priority, patience_s: float | None = None) -> A:
        """Raises TimeoutError where the turn doesn't come within `patience_s`."""
        turns = self._turns[request.STAGE]
        turn = Turn(request.ref.stream_id, self._clock(), priority)
        waker = self._wakers[turn] = asyncio.get_running_loop().create_future()
        computed_s = None
        self._wake(turns.come(turn))
        try:
            async with asyncio.timeout(patience_s):
                while turn.started_at is None:
                    await asyncio.wait([waker], timeout=LOOK_AGAIN_S)
                    self._wake(turns.look(self._clock()))
            left_ms = request.budget_ms - round((self._clock() - turn.came_at) * 1000)
            if left_ms <= 0:
                message = "the fragment's time ran out while its stream had its share of the models"
                raise DeadlineExceeded(request.STAGE, message)
            answer = await self._stages.call(request.changed(budget_ms=left_ms))
            if not (isinstance(answer, Speech) and FASTER_VOICE in answer.warnings):  # that one had no slot
                computed_s = answer.elapsed_ms / 1000
            return answer
        finally:
            del self._wakers[turn]
            self._wake(turns.leave(turn, self._clock(), computed_s))

    def _wake(self, started: list[Turn]) -> None:
        for turn in started:
            waker = self._wakers.get(turn)
            if waker is not None and not waker.done():
                waker.set_result(None)


def _takes_no_turn(request: Request[A]) -> bool:
    """Whether no model computes it, or one that gives way to all others by itself."""
    match request:
        case FillRequest() | ListenRequest() | SynthesizeRequest(hasten=True) | TranscribeRequest(interim=True):
            return True
        case _:
            return False


class BackgroundStages:
    """The same stages for calls that give way to live ones.

    Args:
        stages: whose turns they take.
    """

    def __init__(self, stages: FairStages) -> None:
        self._stages = stages

    async def call(self, request: Request[A]) -> A:
        """Ask a stage once no live call needs it."""
        return await self._stages.call(request, Priority.BACKGROUND)
