"""An engine that hears what it is told to. It ships: the whole chain runs with it, on any machine, at no cost."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from deployments.contracts.engines import ASR_RATE_HZ, AsrEngine, Utterance
from deployments.contracts.values import Recognition, Segment
from deployments.errors import Stage, StageError
from deployments.fault_script import Script, Step
from deployments.options import EngineOptions


class FakeAsrOptions(EngineOptions):
    """Options of the fake."""

    engine: Literal["fake"] = "fake"
    text: str = "fragment {sequence_number}"
    """What every fragment with a sound in it says; {stream_id}, {fragment_id} and {sequence_number} are filled in."""
    delay_ms: int = Field(default=0, ge=0)
    """How long it takes over a fragment."""
    script: tuple[Step, ...] = ()

    def build(self) -> AsrEngine:
        """The engine, not loaded yet."""
        return FakeAsr(self)


class FakeAsr:
    """Hears one segment of fixed text in whatever is not digital silence."""

    model = "fake"
    languages: frozenset[str] | None = None

    def __init__(self, options: FakeAsrOptions) -> None:
        self._options = options

    def load(self) -> None:
        """Open the script."""
        self._script = Script(self._options.script, delay_ms=self._options.delay_ms)

    def transcribe(self, utterances: Sequence[Utterance]) -> list[Recognition | StageError]:
        """Play the script for each, then answer."""
        return [self._transcribe(utterance) for utterance in utterances]

    def _transcribe(self, utterance: Utterance) -> Recognition | StageError:
        try:
            self._script.play(utterance.ref, Stage.ASR)
        except StageError as error:
            return error
        if not utterance.samples.any():
            return Recognition((), utterance.language)
        ref = utterance.ref
        text = (
            self._options.text.replace("{stream_id}", ref.stream_id)
            .replace("{fragment_id}", ref.fragment_id)
            .replace("{sequence_number}", str(ref.sequence_number))
        )
        duration_ms = round(len(utterance.samples) * 1000 / ASR_RATE_HZ)
        return Recognition((Segment(text, 0, duration_ms, confidence=1.0),), utterance.language)
