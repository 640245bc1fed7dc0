"""The Tts deployment: one translation in, audio ready for the wire out. A plain class; Ray is not known here.

It owns what comes after the voice: fitting the duration, judging it, encoding. Streams, order and retries are the
caller's.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from deployments import measuring
from deployments.audio import codec, pcm, timing
from deployments.audio.decoders import Decoders
from deployments.audio.timing import FitLimits
from deployments.contracts import (
    ITSELF,
    AudioFormat,
    EncodedAudio,
    FillRequest,
    Line,
    Measured,
    Speech,
    Spoken,
    SynthesizeRequest,
    TtsCapabilities,
    TtsEngine,
)
from deployments.errors import DeadlineExceeded, Stage, StageError, SynthesisFailed
from deployments.health import Health
from deployments.logs import about, configure_logs, get_logger
from deployments.tts.carrying import opened, packed
from deployments.tts.fitting import Fitted, fit, free_from_ms, room_ms, speech_ms
from deployments.tts.voices import VoiceBook
from deployments.worker import WorkerThreads, aside

VARIANCE_HIGH = "duration_variance_high"
"""The warning that goes with a partial result."""
FILL_MODEL = "none"
"""The model of what nobody spoke."""
_WIRE = AudioFormat("m4a", 48_000, 2)
"""What workers ask for as a rule."""
_OWN_BUDGET_MS = 60_000
"""For the sentence that it is measured with."""

logger = get_logger(__name__)


class Tts:
    """Speaks, fits and encodes.

    Args:
        engine: not yet loaded; it is loaded here, which takes what its model takes.
        voices: the whole book; the engine's part of it is used.
        limits: what counts as fitting.
        concurrency: syntheses at once. Fills have a thread of their own and never wait behind a voice.
        decode_processes: children that decode originals in containers; 0: this process does.
        log_level: of this process.
        measured_ms: once it is loaded, say something that lasts so long, and tell in the capabilities what that took.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        engine: TtsEngine,
        voices: VoiceBook,
        limits: FitLimits,
        concurrency: int = 1,
        decode_processes: int = 0,
        log_level: str = "INFO",
        *,
        measured_ms: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        configure_logs(log_level)
        self._engine = engine
        self._limits = limits
        self._clock = clock
        self._voices, self._defaults = voices.for_engine(engine.voice_models)
        started_s = clock()
        aside(lambda: engine.load(self._voices))
        self._speaking = WorkerThreads(Stage.TTS, concurrency, clock)
        self._filling = WorkerThreads(Stage.TTS, 1, clock)
        self._decoders = Decoders(Stage.TTS, decode_processes)
        if engine.wants_original:
            self._decoders.start()
        self._health = Health()
        logger.info("tts_loaded", model=engine.model, elapsed_ms=self._ms_since(started_s))
        self._measured: Measured | None = None
        if measured_ms is not None:
            aside(lambda: self._measure(measured_ms, concurrency))

    async def capabilities(self) -> TtsCapabilities:
        """What streams may ask for."""
        return TtsCapabilities(
            model=self._engine.model,
            voices={name: voice.language for name, voice in self._voices.items()},
            default_voices=dict(self._defaults),
            wants_original=self._engine.wants_original,
            measured=self._measured,
        )

    def _measure(self, sound_ms: int, slots: int) -> None:
        """Say something as a fragment's, by the first voice, with fitting and encoding."""
        name = next(iter(self._defaults.values()), None) or next(iter(self._voices), None)
        if name is None:
            return
        rate_hz, n_bytes = 16_000, sound_ms * 16 * 2
        original = EncodedAudio(bytes(n_bytes), AudioFormat("pcm_s16le", rate_hz, 1))
        text = measuring.text(self._voices[name].language, sound_ms)
        request = SynthesizeRequest(ITSELF, text, name, sound_ms, _WIRE, _OWN_BUDGET_MS, original=original)

        def say() -> None:
            self._dub(request, self._clock() + _OWN_BUDGET_MS / 1000)

        self._measured = measuring.measured(Stage.TTS, say, slots, sound_ms=sound_ms)

    def check_health(self) -> None:
        """Raise RuntimeError when the replica should be replaced."""
        self._health.check()
        self._speaking.check()
        self._filling.check()

    async def synthesize(self, request: SynthesizeRequest) -> Speech:
        """Speak a translation for as long as its original lasted.

        Raises:
            StageError: DeadlineExceeded, SynthesisFailed, InvalidText, DurationMismatch and what else an engine raises.
        """
        deadline_s = self._clock() + request.budget_ms / 1000
        with about(request.ref, Stage.TTS):
            try:
                speech, rate = await self._speaking.run(lambda: self._dub(request, deadline_s), request.budget_ms)
            except StageError as error:
                self._health.failed(error)
                logger.warning("synthesis_failed", code=error.code, retryable=error.retryable, **error.details)
                raise
            self._health.succeeded()
            logger.info(
                "synthesized",
                elapsed_ms=speech.elapsed_ms,
                duration_ms=speech.duration_ms,
                speed_ratio=speech.speed_ratio,
                rate=round(rate, 3),
                carried_ms=speech.carried.duration_ms if speech.carried else 0,
            )
        return speech

    async def fill(self, request: FillRequest) -> Speech:
        """Silence, or the original, as long as the original and in the stream's format.

        Raises:
            StageError: DeadlineExceeded, or the original can't be decoded.
        """
        with about(request.ref, Stage.TTS):
            try:
                speech = await self._filling.run(lambda: self._fill(request), request.budget_ms)
            except StageError as error:
                logger.warning("fill_failed", code=error.code, retryable=error.retryable)
                raise
            logger.info("filled", elapsed_ms=speech.elapsed_ms, duration_ms=speech.duration_ms)
        return speech

    def _dub(self, request: SynthesizeRequest, deadline_s: float) -> tuple[Speech, float]:
        """The dub, and the rate that the voice was asked for."""
        started_s = self._clock()
        spoken = self._engine.speak(self._line(request))
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
            speech=() if self._engine.wants_original else request.speech,  # its phrases stand where they belong
            lead_ms=request.carried.duration_ms if request.carried else 0,
            carry_ms=self._carry_ms(request),
        )
        if fitted.lead_ms and request.carried:
            fitted = replace(fitted, samples=opened(fitted.samples, request.carried, rate_hz))
        speech = self._encoded(
            fitted, rate_hz, request.output, request.target_duration_ms, self._engine.model, started_s
        )
        return speech, spoken.rate

    def _carry_ms(self, request: SynthesizeRequest) -> int:
        return self._limits.carry_ms if request.may_carry and codec.joins(request.output) else 0

    def _line(self, request: SynthesizeRequest) -> Line:
        voice = self._voices.get(request.voice)
        if voice is None:
            raise SynthesisFailed(Stage.TTS, f"{self._engine.model} has no voice {request.voice!r}")
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
        if not self._engine.wants_original or request.original is None:
            return line
        original = self._decoders.decode(request.original)
        return replace(line, original=original.samples, original_rate_hz=original.sample_rate_hz)

    def _fill(self, request: FillRequest) -> Speech:
        started_s = self._clock()
        room = room_ms(request.target_duration_ms, request.output)
        if request.original is None:
            rate_hz = request.output.sample_rate_hz
            samples = pcm.silence(pcm.ms_to_samples(room, rate_hz), request.output.channels)
        else:
            original = self._decoders.decode(request.original)
            rate_hz = original.sample_rate_hz
            samples = pcm.fit_length(original.samples, pcm.ms_to_samples(room, rate_hz))
        if request.carried:
            samples = opened(samples, request.carried, rate_hz)
        fitted = Fitted(samples, speed_ratio=1.0, verdict="success")
        return self._encoded(fitted, rate_hz, request.output, request.target_duration_ms, FILL_MODEL, started_s)

    def _encoded(
        self, fitted: Fitted, rate_hz: int, output: AudioFormat, target_ms: int, model: str, started_s: float
    ) -> Speech:
        audio = codec.encode(fitted.samples, rate_hz, output)
        duration_ms = codec.decoded_duration_ms(fitted.samples.shape[0], rate_hz, output)
        partial = fitted.verdict == "partial"
        return Speech(
            audio=audio,
            duration_ms=duration_ms,
            variance_percent=round(timing.variance_percent(target_ms, duration_ms), 2),
            speed_ratio=round(fitted.speed_ratio, 3),
            model=model,
            elapsed_ms=self._ms_since(started_s),
            partial=partial,
            warnings=(VARIANCE_HIGH,) if partial else (),
            carried=packed(fitted.over, rate_hz) if fitted.over is not None else None,
        )

    def _ms_since(self, started_s: float) -> int:
        return round((self._clock() - started_s) * 1000)


def _check_samples(spoken: Spoken) -> None:
    if spoken.samples.shape[0] == 0:
        raise SynthesisFailed(Stage.TTS, "the voice made no sound")
    if not np.isfinite(spoken.samples).all():
        raise SynthesisFailed(Stage.TTS, "the voice made samples that are not numbers")
