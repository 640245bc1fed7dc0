"""The way of one fragment through the models: three awaits and a deadline.

Knows the stages only as awaitables, so that nothing of Ray is in here. Deadlines are kept by the session, which cancels
the task; what is left of one goes along with each request, so that a stage can drop what is too late before it runs.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from deployments.contracts import (
    FillRequest,
    FragmentRef,
    Speech,
    SynthesizeRequest,
    TranscribeRequest,
    Transcript,
    TranslateRequest,
    Translation,
)
from deployments.errors import DeadlineExceeded, Stage, StageError
from serve_app.stream.carry import Carry
from serve_app.stream.said import Said
from serve_app.stream.values import FallbackMode, Fragment, Outcome, Running, StreamSettings


class Stages(Protocol):
    """The three model deployments. Calls raise StageError and stop their work when they are cancelled."""

    async def transcribe(self, request: TranscribeRequest) -> Transcript:
        """Decode and recognise."""

    async def translate(self, request: TranslateRequest) -> Translation:
        """Translate."""

    async def synthesize(self, request: SynthesizeRequest) -> Speech:
        """Speak, fit and encode."""

    async def fill(self, request: FillRequest) -> Speech:
        """Silence or the original, encoded."""


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt at one fragment."""

    settings: StreamSettings
    fragment: Fragment
    deadline: float
    """On the clock of `dub`, in seconds."""
    fallback_mode: FallbackMode
    wants_original: bool
    """Whether the voice is an engine that needs the worker's own audio."""
    said: Said
    """What the stream said before; the transcript is noted there."""
    carry: Carry
    """What the stream's dubs hand on."""
    running: Running
    clock: Callable[[], float]


async def dub(job: Job, stages: Stages) -> Outcome:
    """Take a fragment from audio to dubbed audio.

    A stage's failure ends the way and stands in the outcome, beside what was done before it.
    """
    outcome = Outcome()
    try:
        transcript = await _transcribe(job, stages)
        outcome = replace(outcome, transcript=transcript)
        job.said.note(job.fragment.sequence_number, transcript.recognition.text)
        if not transcript.recognition.text:
            return replace(outcome, speech=await _fill(job, transcript, stages))
        translation = await _translate(job, transcript, stages)
        outcome = replace(outcome, translation=translation)
        if not translation.text.strip():
            return replace(outcome, speech=await _fill(job, transcript, stages))
        return replace(outcome, speech=await _synthesize(job, transcript, translation, stages))
    except StageError as failure:
        return replace(outcome, failure=failure)


async def _transcribe(job: Job, stages: Stages) -> Transcript:
    request = TranscribeRequest(
        ref=_ref(job),
        audio=job.fragment.audio,
        language=job.settings.source_language,
        hints=job.settings.hints,
        budget_ms=_enter(job, Stage.ASR, Outcome()),
    )
    return await stages.transcribe(request)


async def _translate(job: Job, transcript: Transcript, stages: Stages) -> Translation:
    request = TranslateRequest(
        ref=_ref(job),
        text=transcript.recognition.text,
        source_language=job.settings.source_language,
        target_language=job.settings.target_language,
        hints=job.settings.hints,
        context=job.said.before(job.fragment.sequence_number),
        budget_ms=_enter(job, Stage.TRANSLATION, Outcome(transcript)),
    )
    return await stages.translate(request)


async def _synthesize(job: Job, transcript: Transcript, translation: Translation, stages: Stages) -> Speech:
    await _dub_before(job, Outcome(transcript, translation))
    number = job.fragment.sequence_number
    request = SynthesizeRequest(
        ref=_ref(job),
        text=translation.text,
        voice=job.settings.voice,
        target_duration_ms=transcript.duration_ms,
        output=job.settings.output,
        budget_ms=_enter(job, Stage.TTS, Outcome(transcript, translation)),
        speech=transcript.recognition.speech,
        original=job.fragment.audio if job.wants_original else None,
        carried=job.carry.before(number),
        may_carry=job.carry.begin(number),
    )
    return await stages.synthesize(request)


async def _fill(job: Job, transcript: Transcript, stages: Stages) -> Speech:
    await _dub_before(job, Outcome(transcript))
    request = FillRequest(
        ref=_ref(job),
        target_duration_ms=transcript.duration_ms,
        output=job.settings.output,
        budget_ms=_enter(job, Stage.TTS, Outcome(transcript)),
        original=job.fragment.audio if job.fallback_mode == "original" else None,
        carried=job.carry.before(job.fragment.sequence_number),
    )
    return await stages.fill(request)


async def _dub_before(job: Job, so_far: Outcome) -> None:
    """Wait for the dub of the fragment before where it may leave something over, and no longer than is good for both.

    Half of what is left stays for this fragment: one that hangs must not take its successor with it.
    """
    settled = asyncio.Event()
    if job.carry.due(job.fragment.sequence_number, settled.set):
        left_ms = _enter(job, Stage.TTS, so_far)
        with suppress(TimeoutError):
            await asyncio.wait_for(settled.wait(), left_ms / 2000)


def _ref(job: Job) -> FragmentRef:
    return FragmentRef(job.settings.stream_id, job.fragment.fragment_id, job.fragment.sequence_number)


def _enter(job: Job, stage: Stage, so_far: Outcome) -> int:
    """Tell that the stage starts; what is left of the deadline, in ms."""
    job.running(stage, so_far)
    left_ms = int((job.deadline - job.clock()) * 1000)
    if left_ms <= 0:
        raise DeadlineExceeded(stage, "the fragment's time ran out before the stage began")
    return left_ms
