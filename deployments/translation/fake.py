"""An engine that translates by saying so. It ships: the whole chain runs with it, on any machine, at no cost."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from deployments.contracts.engines import TranslationEngine
from deployments.contracts.values import TranslateRequest
from deployments.errors import Stage, StageError
from deployments.fault_script import Script, Step
from deployments.options import EngineOptions


class FakeTranslationOptions(EngineOptions):
    """Options of the fake."""

    engine: Literal["fake"] = "fake"
    text: str | None = None
    """What every translation is, the empty string included; None: the original behind the language, `[es] …`."""
    delay_ms: int = Field(default=0, ge=0)
    """How long it takes over a text."""
    script: tuple[Step, ...] = ()

    def build(self) -> TranslationEngine:
        """The engine, not loaded yet."""
        return FakeTranslation(self)


class FakeTranslation:
    """Writes the target language before the text."""

    model = "fake"
    pairs: frozenset[tuple[str, str]] | None = None

    def __init__(self, options: FakeTranslationOptions) -> None:
        self._options = options

    def load(self) -> None:
        """Open the script."""
        self._script = Script(self._options.script, delay_ms=self._options.delay_ms)

    def translate(self, requests: Sequence[TranslateRequest]) -> list[str | StageError]:
        """Play the script for each, then answer."""
        return [self._translate(request) for request in requests]

    def _translate(self, request: TranslateRequest) -> str | StageError:
        try:
            self._script.play(request.ref, Stage.TRANSLATION)
        except StageError as error:
            return error
        if self._options.text is not None:
            return self._options.text
        return f"[{request.target_language}] {request.text}"

    def close(self) -> None:
        """Nothing to let go of."""
