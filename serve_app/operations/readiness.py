"""Which models have loaded and answer, and what they can do together. Ray is not known here."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from deployments.contracts.values import AsrCapabilities, TranslationCapabilities, TtsCapabilities
from deployments.errors import Stage
from deployments.logs import get_logger
from serve_app.protocol import ErrorCode, WireError
from serve_app.stream.negotiation import ModelCapabilities

log = get_logger(__name__)
PERIOD_S = 5.0
STARTING_PERIOD_S = 0.5
PATIENCE_S = 5.0
"""How long a `stream:init` waits for models that are still loading; shorter than a worker waits for its answer."""


class Readiness:
    """The models of one ingress replica.

    Args:
        ask: what a stage can do, within so many seconds; raises TimeoutError where it doesn't answer.
        timeout_s: of one question.
        answered: called with the stage and what it can do, after each answer.
    """

    def __init__(
        self, ask: Callable[[Stage, float], Awaitable[Any]], timeout_s: float, answered: Callable[[Stage, Any], None]
    ) -> None:
        self._ask = ask
        self._timeout_s = timeout_s
        self._answered = answered
        self._states = dict.fromkeys(Stage, "starting")
        self._capabilities: dict[Stage, Any] = {}
        self._known = asyncio.Event()
        self._asking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to ask, unless that has begun."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._keep_asking(), name="readiness")

    @property
    def states(self) -> dict[str, str]:
        """State by deployment: `ready`, or what it is waiting for."""
        return {_deployment(stage): state for stage, state in self._states.items()}

    @property
    def capabilities(self) -> dict[Stage, Any]:
        """What each stage that has answered can do."""
        return self._capabilities

    async def wait(self) -> ModelCapabilities:
        """What the models can do together, once all have answered.

        Raises:
            WireError: INTERNAL (retryable) while a model is still loading.
        """
        if not self._known.is_set():
            self.start()
            try:
                await asyncio.wait_for(self._known.wait(), PATIENCE_S)
            except TimeoutError:
                waiting = ", ".join(_deployment(stage) for stage in Stage if stage not in self._capabilities)
                message = f"the models are still loading ({waiting}); try again in a few seconds"
                raise WireError(ErrorCode.INTERNAL, message, {"waiting_for": waiting}) from None
        asr: AsrCapabilities = self._capabilities[Stage.ASR]
        translation: TranslationCapabilities = self._capabilities[Stage.TRANSLATION]
        tts: TtsCapabilities = self._capabilities[Stage.TTS]
        return ModelCapabilities(asr, translation, tts)

    async def _keep_asking(self) -> None:
        while True:
            await asyncio.gather(*(self._ask_one(stage) for stage in Stage))
            await asyncio.sleep(PERIOD_S if self._known.is_set() else STARTING_PERIOD_S)

    async def _ask_one(self, stage: Stage) -> None:
        try:
            self._capabilities[stage] = await self._ask(stage, self._timeout_s)
            self._states[stage] = "ready"
            self._answered(stage, self._capabilities[stage])
        except TimeoutError:
            self._states[stage] = "does not answer"
        except Exception as error:  # noqa: BLE001 - whatever Ray raises while replicas come and go
            self._states[stage] = type(error).__name__
            log.warning("model_unavailable", deployment=_deployment(stage), error=str(error)[-500:])
        if len(self._capabilities) == len(Stage):
            self._known.set()


def _deployment(stage: Stage) -> str:
    return stage.capitalize()
