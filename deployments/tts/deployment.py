"""The Tts deployment: one translation in, audio ready for the wire out. A plain class; Ray is not known here.

It owns what comes after the voice: fitting the duration, judging it, encoding. Streams, order and retries are the
caller's.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from deployments.audio import pcm
from deployments.audio.decoders import Decoders, needs_decoder
from deployments.audio.loudness import in_room
from deployments.audio.timing import FitLimits
from deployments.contracts.engines import TtsEngine
from deployments.contracts.values import (
    FASTER_NEEDS_MS,
    FASTER_VOICE,
    FILL_MODEL,
    FillRequest,
    Measured,
    SayRequest,
    Sound,
    Speech,
    SynthesizeRequest,
    TtsCapabilities,
)
from deployments.errors import DeadlineExceeded, QueueFull, Stage, StageError
from deployments.logs import about, configure_logs, get_logger
from deployments.replica.health import Health
from deployments.replica.thread_pool import ThreadPool, aside
from deployments.tts.fitting import Fitted, room_ms
from deployments.tts.overhang import opened
from deployments.tts.speaker import Speaker, encoded
from deployments.tts.voices import VoiceBook

_SURELY = 1.5
"""Times what the faster voice took at its start: what is kept of a fragment's time for it."""

logger = get_logger(__name__)


class Tts:
    """Speaks, fits and encodes.

    Args:
        engine: not yet loaded; it is loaded here, which takes what its model takes.
        voices: the whole book; the engine's part of it is used.
        limits: what counts as fitting.
        concurrency: syntheses at once. Fills have threads of their own: they never wait behind a voice, nor what is
            no container behind one that is.
        decode_processes: children that decode originals in containers; 0: this process does.
        log_level: of this process.
        slowdown: each call of the engine takes so many times as long as it would.
        faster: speaks what `engine` can't in time; None: nothing does.
        faster_concurrency: of its syntheses at once.
        faster_slowdown: of its calls.
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
        slowdown: float = 1.0,
        faster: TtsEngine | None = None,
        faster_concurrency: int = 1,
        faster_slowdown: float = 1.0,
        measured_ms: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        configure_logs(log_level)
        self._clock = clock
        self._limits = limits
        self._concurrency = concurrency
        self._measured: Measured | None = None
        self._faster_needs_ms = FASTER_NEEDS_MS
        started_s = clock()
        self._decoders = Decoders(Stage.TTS, decode_processes)
        self._first = Speaker(engine, voices, limits, concurrency, self._decoders, slowdown, clock)
        self._faster: Speaker | None = None
        if faster is not None:
            self._faster = Speaker(faster, voices, limits, faster_concurrency, self._decoders, faster_slowdown, clock)
        self._filling = ThreadPool(Stage.TTS, 1, clock)
        self._unpacking = ThreadPool(Stage.TTS, max(1, decode_processes), clock)
        if engine.wants_original:
            self._decoders.start()
        self._health = Health()
        logger.info("tts_loaded", model=engine.model, elapsed_ms=self._ms_since(started_s))
        if measured_ms is not None:
            self._measured = aside(lambda: self._first.measure(measured_ms))
            self._faster_needs_ms = self._measured_faster_ms(measured_ms)

    async def capabilities(self) -> TtsCapabilities:
        """What streams may ask for."""
        return TtsCapabilities(
            model=self._first.engine.model,
            voices={name: voice.language for name, voice in self._first.voices.items()},
            default_voices=dict(self._first.defaults),
            wants_original=self._first.engine.wants_original,
            at_once=self._concurrency,
            measured=self._measured,
            faster_voices=dict(self._faster.defaults) if self._faster else {},
            faster_needs_ms=self._faster_needs_ms,
        )

    def _measured_faster_ms(self, sound_ms: int) -> int:
        measured = aside(lambda: self._faster and self._faster.measure(sound_ms))
        return max(FASTER_NEEDS_MS, round(_SURELY * measured.fragment_ms)) if measured else FASTER_NEEDS_MS

    def check_health(self) -> None:
        """Raise RuntimeError when the replica should be replaced."""
        self._health.check()
        speaking = [speaker.threads for speaker in (self._first, self._faster) if speaker is not None]
        for threads in (*speaking, self._filling, self._unpacking):
            threads.check()

    async def synthesize(self, request: SynthesizeRequest) -> Speech:
        """Speak a translation for as long as its original lasted.

        Raises:
            StageError: QueueFull where it can't be done in time, DeadlineExceeded, SynthesisFailed, InvalidText,
                DurationMismatch and what else an engine raises.
        """
        with about(request.ref, Stage.TTS):
            try:
                speech, rate = await self._speak(request)
            except StageError as error:
                self._health.failed(error)
                logger.warning("synthesis_failed", code=error.code, retryable=error.retryable, **error.details)
                raise
            if FASTER_VOICE not in speech.warnings:  # that one's success says nothing of the first voice
                self._health.succeeded()
            logger.info(
                "synthesized",
                model=speech.model,
                elapsed_ms=speech.elapsed_ms,
                duration_ms=speech.duration_ms,
                speed_ratio=speech.speed_ratio,
                rate=round(rate, 3),
                overhang_ms=speech.overhang.duration_ms if speech.overhang else 0,
            )
        return speech

    async def say(self, request: SayRequest) -> Sound:
        """Say a text as a voice says it.

        Raises:
            StageError: QueueFull where it can't be done in time, DeadlineExceeded, SynthesisFailed, InvalidText and
                what else an engine raises.
        """
        with about(request.ref, Stage.TTS):
            try:
                sound = await self._first.say(request, request.budget_ms)
            except StageError as error:
                self._health.failed(error)
                logger.warning("saying_failed", code=error.code, retryable=error.retryable)
                raise
            self._health.succeeded()
            logger.info("said", model=sound.model, elapsed_ms=sound.elapsed_ms, n_characters=len(request.text))
        return sound

    async def _speak(self, request: SynthesizeRequest) -> tuple[Speech, float]:
        """By the first voice if it can, by the faster one where there is one and the first would be late."""
        if self._faster is None or not request.faster_voice:
            return await self._first.speak(request, request.budget_ms)
        started_s = self._clock()
        first_ms = 0 if request.hasten else request.budget_ms - self._faster_needs_ms
        if first_ms > 0:
            try:
                async with asyncio.timeout(first_ms / 1000):  # what computes then can't be stopped, and holds its slot
                    return await self._first.speak(request, first_ms)
            except (TimeoutError, QueueFull, DeadlineExceeded) as error:
                logger.info(
                    "voice_too_slow", reason=str(error) or "its time was over", elapsed_ms=self._ms_since(started_s)
                )
        left_ms = request.budget_ms - self._ms_since(started_s)
        speech, rate = await self._faster.speak(replace(request, voice=request.faster_voice), left_ms)
        return replace(speech, warnings=(*speech.warnings, FASTER_VOICE)), rate

    async def fill(self, request: FillRequest) -> Speech:
        """Silence, or the original, as long as the original and in the stream's format.

        Raises:
            StageError: DeadlineExceeded, the original can't be decoded, or it is too short for its format.
        """
        deadline_s = self._clock() + request.budget_ms / 1000
        contained = request.original is not None and needs_decoder(request.original)
        threads = self._unpacking if contained else self._filling
        with about(request.ref, Stage.TTS):
            try:
                speech = await threads.run(lambda: self._fill(request, deadline_s), request.budget_ms)
            except StageError as error:
                logger.warning("fill_failed", code=error.code, retryable=error.retryable)
                raise
            logger.info("filled", elapsed_ms=speech.elapsed_ms, duration_ms=speech.duration_ms)
        return speech

    def _fill(self, request: FillRequest, deadline_s: float) -> Speech:
        started_s = self._clock()
        room = room_ms(request.target_duration_ms, request.output)
        if request.original is None:
            rate_hz = request.output.sample_rate_hz
            samples = pcm.silence(pcm.ms_to_samples(room, rate_hz), request.output.channels)
            if request.acoustics is not None and self._limits.room_tone:
                samples = in_room(samples, rate_hz, request.acoustics)
        else:
            original = self._decoders.decode(request.original, round((deadline_s - self._clock()) * 1000))
            rate_hz = original.sample_rate_hz
            samples = pcm.fit_length(original.samples, pcm.ms_to_samples(room, rate_hz))
        if request.overhang:
            samples = opened(samples, request.overhang, rate_hz)
        fitted = Fitted(samples, speed_ratio=1.0, verdict="success")
        speech = encoded(fitted, rate_hz, request.output, request.target_duration_ms, FILL_MODEL, self._limits)
        return replace(speech, elapsed_ms=self._ms_since(started_s))

    def _ms_since(self, started_s: float) -> int:
        return round((self._clock() - started_s) * 1000)
