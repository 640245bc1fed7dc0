"""The way of one fragment through the models: three awaits and a deadline.

Knows the stages only as awaitables, so that nothing of Ray is in here. Deadlines are kept by the session, which cancels
the task; what is left of one goes along with each request, so that a stage can drop what is too late before it runs.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from deployments.contracts.values import (
    FASTER_VOICE,
    A,
    EncodedAudio,
    FillRequest,
    FragmentRef,
    Outcome,
    Request,
    Speech,
    SynthesizeRequest,
    TranscribeRequest,
    Transcript,
    TranslateRequest,
    Translation,
)
from deployments.errors import DeadlineExceeded, QueueFull, Stage, StageError
from serve_app.stream.attempt_context import AttemptContext
from serve_app.stream.values import (
    ORIGINAL_AUDIO,
    SILENCE,
    FallbackMode,
    Fragment,
    Rung,
    StreamSettings,
    last_resort,
    reserve_s,
)


class Stages(Protocol):
    """The model deployments."""

    async def call(self, request: Request[A]) -> A:
        """Ask the stage that the request is for. Stops its work when it is cancelled.

        Raises:
            StageError: what the stage said, or why it can't be asked.
        """


@dataclass(frozen=True, slots=True)
class DubRequest:
    """One attempt at one fragment."""

    settings: StreamSettings
    fragment: Fragment
    deadline: float
    """On the clock of `dub`, in seconds."""
    fallback_mode: FallbackMode
    wants_original: bool
    """Whether the voice is an engine that needs the worker's own audio."""
    context: AttemptContext
    """The session's side of it."""
    clock: Callable[[], float]
    degrade: tuple[Rung, ...] = ()
    """What a fragment gets that would be late otherwise."""

    @property
    def faster_voice(self) -> str:
        """The voice that may speak where the first would be late; empty: none."""
        return self.settings.faster_voice if FASTER_VOICE in self.degrade else ""


async def dub(job: DubRequest, stages: Stages) -> Outcome:
    """Take a fragment from audio to dubbed audio.

    A stage's failure ends the way and stands in the outcome, beside what was done before it; unless the stream is to
    have the original, or silence, in place of what would be late.
    """
    way = _Way(job, stages)
    rung = last_resort(job.degrade)
    if rung is None:
        return await way.go()
    try:
        async with asyncio.timeout(max(0.0, way.stages_end_by - job.clock())):
            outcome = await way.go()
    except TimeoutError:
        overdue = DeadlineExceeded(way.stage, f"the {way.stage} stage was running when time was nearly over")
        outcome = replace(way.so_far, failure=overdue)
    late = isinstance(outcome.failure, DeadlineExceeded | QueueFull)
    return await way.resort(outcome, rung) if late else outcome


class _Way:
    """One fragment's way through the stages, and how far it has come."""

    def __init__(self, job: DubRequest, stages: Stages) -> None:
        self._job = job
        self._stages = stages
        self.so_far = Outcome()
        self.stage = Stage.ASR
        self.stages_end_by = job.deadline - reserve_s(job.degrade, job.settings.timeout_ms)
        """What is left of the fragment's time then is kept for the last resort."""

    async def go(self) -> Outcome:
        """Up to the speech, or to the failure of a stage."""
        try:
            transcript = await self._transcribe()
            self.so_far = Outcome(transcript)
            if not transcript.recognition.text:
                return replace(self.so_far, speech=await self._fill(transcript))
            translation = await self._translate(transcript)
            self.so_far = replace(self.so_far, translation=translation)
            if not translation.text.strip():
                return replace(self.so_far, speech=await self._fill(transcript))
            return replace(self.so_far, speech=await self._synthesize(transcript, translation))
        except StageError as failure:
            return replace(self.so_far, failure=failure)

    async def resort(self, outcome: Outcome, rung: FallbackMode) -> Outcome:
        """The same outcome with the original or silence as a partial result; unchanged where even that fails."""
        fragment, transcript = self._job.fragment, outcome.transcript
        try:
            request = self._fill_request(
                transcript.duration_ms
                if transcript
                else fragment.declared_duration_ms or self._job.settings.chunk_duration_ms,
                fragment.audio if rung == "original" else None,
                self._job.deadline,
            )
            speech = await self._stages.call(request)
        except StageError:
            return outcome
        warning = ORIGINAL_AUDIO if rung == "original" else SILENCE
        speech = replace(speech, partial=True, warnings=(warning,))
        return replace(outcome, failure=None, replaced=outcome.failure, speech=speech)

    async def _transcribe(self) -> Transcript:
        self._enter(Stage.ASR)
        job = self._job
        request = TranscribeRequest(
            ref=self._ref(),
            audio=job.fragment.audio,
            language=job.settings.source_language,
            hints=job.settings.hints,
            budget_ms=self._left_ms(),
        )
        return await self._stages.call(request)

    async def _translate(self, transcript: Transcript) -> Translation:
        self._enter(Stage.TRANSLATION)
        job = self._job
        request = TranslateRequest(
            ref=self._ref(),
            text=transcript.recognition.text,
            source_language=job.settings.source_language,
            target_language=job.settings.target_language,
            hints=job.settings.hints,
            context=job.context.said_before(),
            budget_ms=self._left_ms(),
        )
        return await self._stages.call(request)

    async def _synthesize(self, transcript: Transcript, translation: Translation) -> Speech:
        hasten = self._enter(Stage.TTS)
        await self._dub_before()
        job = self._job
        request = SynthesizeRequest(
            ref=self._ref(),
            text=translation.text,
            voice=job.settings.voice,
            target_duration_ms=transcript.duration_ms,
            output=job.settings.output,
            budget_ms=self._left_ms(),
            speech=transcript.recognition.speech,
            original=job.fragment.audio if job.wants_original else None,
            overhang=job.context.overhang(),
            may_run_over=job.context.may_run_over(),
            faster_voice=job.faster_voice,
            hasten=hasten,
            acoustics=transcript.acoustics,
        )
        return await self._stages.call(request)

    async def _fill(self, transcript: Transcript) -> Speech:
        self._enter(Stage.TTS)
        await self._dub_before()
        original = self._job.fragment.audio if self._job.fallback_mode == "original" else None
        request = self._fill_request(transcript.duration_ms, original, self.stages_end_by)
        return await self._stages.call(replace(request, acoustics=transcript.acoustics))

    def _fill_request(self, duration_ms: int, original: EncodedAudio | None, end_by: float) -> FillRequest:
        return FillRequest(
            ref=self._ref(),
            target_duration_ms=duration_ms,
            output=self._job.settings.output,
            budget_ms=self._left_ms(end_by),
            original=original,
            overhang=self._job.context.overhang(),
        )

    async def _dub_before(self) -> None:
        """Wait for the dub of the fragment before where it may leave something over, no longer than is good for both.

        Half of what is left stays for this fragment: one that hangs must not take its successor with it.
        """
        settled = asyncio.Event()
        if self._job.context.overhang_due(settled.set):
            with suppress(TimeoutError):
                await asyncio.wait_for(settled.wait(), self._left_ms() / 2000)

    def _ref(self) -> FragmentRef:
        job = self._job
        return FragmentRef(job.settings.stream_id, job.fragment.fragment_id, job.fragment.sequence_number)

    def _enter(self, stage: Stage) -> bool:
        """Tell that the stage starts; whether the faster voice is to speak.

        Raises:
            StageError: no time is left, or too little.
        """
        self.stage = stage
        hasten = self._job.context.start(stage, self.so_far)
        self._left_ms()
        return hasten

    def _left_ms(self, end_by: float | None = None) -> int:
        """What is left until then, or for the stages."""
        left_ms = int(((end_by or self.stages_end_by) - self._job.clock()) * 1000)
        if left_ms <= 0:
            raise DeadlineExceeded(self.stage, "the fragment's time ran out before the stage began")
        return left_ms
