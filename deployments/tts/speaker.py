"""One voice of a Tts replica: an engine with its speakers and threads, from a text to a fitted, encoded dub."""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from deployments.audio import codec, timing
from deployments.audio.decoders import Decoders
from deployments.audio.timing import FitLimits
from deployments.contracts import AudioFormat, Line, Speech, Spoken, SynthesizeRequest, TtsEngine
from deployments.errors import DeadlineExceeded, Stage, SynthesisFailed
from deployments.slowdown import slowed
from deployments.tts.carrying import opened, packed
from deployments.tts.fitting import Fitted, fit, free_from_ms, speech_ms
from deployments.tts.voices import VoiceBook
from deployments.worker import WorkerThreads, aside

VARIANCE_HIGH = "duration_variance_high"
"""The warning that goes with a partial result."""


class Speaker:
    """An engine, its voices and the threads that it speaks in.

    Args:
        engine: not yet loaded; it is loaded here, which takes what its model takes.
        voices: the whole book; the engine's part of it is used.
        limits: what counts as fitting.
        concurrency: syntheses at once.
        decoders: for engines that want the original.
        slowdown: each call of the engine takes so many times as long as it would.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        engine: TtsEngine,
        voices: VoiceBook,
        limits: FitLimits,
        concurrency: int,
        decoders: Decoders,
        slowdown: float = 1.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.engine = engine
        self.voices, self.defaults = voices.for_engine(engine.voice_models)
        self.threads = WorkerThreads(Stage.TTS, concurrency, clock)
        self._limits = limits
        self._decoders = decoders
        self._slowdown = slowdown
        self._clock = clock
        aside(lambda: engine.load(self.voices))

    async def speak(self, request: SynthesizeRequest, budget_ms: int) -> tuple[Speech, float]:
        """The dub, and the rate that the voice was asked for.

        Raises:
            StageError: QueueFull where it can't be done within `budget_ms`, and what else an engine raises.
        """
        deadline_s = self._clock() + budget_ms / 1000
        return await self.threads.run(lambda: self.dub(request, deadline_s), budget_ms, size=len(request.text))

    def dub(self, request: SynthesizeRequest, deadline_s: float) -> tuple[Speech, float]:
        """The dub, and the rate that the voice was asked for."""
        started_s = self._clock()
        line = self._line(request, deadline_s)
        spoken = slowed(lambda: self.engine.speak(line), self._slowdown)
        _check_samples(spoken)
        if self._clock() >= deadline_s:
            raise DeadlineExceeded(Stage.TTS, "the fragment's time ran out while the voice was made")
        rate_hz = spoken.sample_rate_hz
        fitted = fit(
            spoken,
            request.target_duration_ms,
            request.output,
            self._limits,
            deadline_s=deadline_s,
            clock=self._clock,
            speech=() if self.engine.wants_original else request.speech,  # its phrases stand where they belong
            lead_ms=request.carried.duration_ms if request.carried else 0,
            carry_ms=self._carry_ms(request),
        )
        if fitted.lead_ms and request.carried:
            fitted = replace(fitted, samples=opened(fitted.samples, request.carried, rate_hz))
        speech = encoded(fitted, rate_hz, request.output, request.target_duration_ms, self.engine.model)
        return replace(speech, elapsed_ms=round((self._clock() - started_s) * 1000)), spoken.rate

    def _carry_ms(self, request: SynthesizeRequest) -> int:
        return self._limits.carry_ms if request.may_carry and codec.joins(request.output) else 0

    def _line(self, request: SynthesizeRequest, deadline_s: float) -> Line:
        voice = self.voices.get(request.voice)
        if voice is None:
            raise SynthesisFailed(Stage.TTS, f"{self.engine.model} has no voice {request.voice!r}")
        if request.target_duration_ms <= 0:
            raise SynthesisFailed(Stage.TTS, "the original has no duration")
        free_ms = free_from_ms(request.carried.duration_ms if request.carried else 0)
        line = Line(
            request.ref,
            request.text,
            voice,
            request.target_duration_ms,
            speech_ms=speech_ms(request.speech, free_ms),
            room_ms=max(1, request.target_duration_ms - free_ms + self._carry_ms(request)),
        )
        if not self.engine.wants_original or request.original is None:
            return line
        original = self._decoders.decode(request.original, round((deadline_s - self._clock()) * 1000))
        return replace(line, original=original.samples, original_rate_hz=original.sample_rate_hz)


def encoded(fitted: Fitted, rate_hz: int, output: AudioFormat, target_ms: int, model: str) -> Speech:
    """What was fitted, in the stream's format; `elapsed_ms` is the caller's."""
    audio = codec.encode(fitted.samples, rate_hz, output)
    duration_ms = codec.decoded_duration_ms(fitted.samples.shape[0], rate_hz, output)
    partial = fitted.verdict == "partial"
    return Speech(
        audio=audio,
        duration_ms=duration_ms,
        variance_percent=round(timing.variance_percent(target_ms, duration_ms), 2),
        speed_ratio=round(fitted.speed_ratio, 3),
        model=model,
        elapsed_ms=0,
        partial=partial,
        warnings=(VARIANCE_HIGH,) if partial else (),
        carried=packed(fitted.over, rate_hz) if fitted.over is not None else None,
    )


def _check_samples(spoken: Spoken) -> None:
    if spoken.samples.shape[0] == 0:
        raise SynthesisFailed(Stage.TTS, "the voice made no sound")
    if not np.isfinite(spoken.samples).all():
        raise SynthesisFailed(Stage.TTS, "the voice made samples that are not numbers")
