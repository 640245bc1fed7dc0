"""One voice of a Tts replica: an engine with its speakers and threads, from a text to a fitted, encoded dub."""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from deployments.audio import codec, pcm, timing
from deployments.audio.decoders import Decoders
from deployments.audio.loudness import gain, in_room, limited
from deployments.audio.timing import FitLimits
from deployments.contracts.engines import Line, Spoken, TtsEngine
from deployments.contracts.values import (
    ITSELF,
    SAID_RATE_HZ,
    Acoustics,
    AudioFormat,
    EncodedAudio,
    Measured,
    SayRequest,
    Sound,
    Speech,
    SynthesizeRequest,
    Voice,
)
from deployments.errors import DeadlineExceeded, Stage, SynthesisFailed
from deployments.replica import measuring
from deployments.replica.slowdown import slowed
from deployments.replica.thread_pool import ThreadPool, aside
from deployments.text.spoken import in_words
from deployments.tts.fitting import Fitted, Stretching, fit, free_from_ms, speech_ms
from deployments.tts.licences import may_be_sold
from deployments.tts.overhang import opened, packed
from deployments.tts.voices import VoiceBook

_WIRE = AudioFormat("m4a", 48_000, 2)
"""What workers ask for as a rule."""
_OWN_BUDGET_MS = 60_000
"""For the sentence that it is measured with."""
_SHORT_MS = 100
"""What is shorter is measured: containers round there by more than the rule of duration takes."""
_CHARACTER_MS = 70
"""That a character takes, as a guess."""
_SAME_RATE = 0.1
"""How far an engine may be from the rate that was asked for; what is further off is stretched."""
_KEPT_QUIET_MS = 60.0
"""At both ends of what is said, so that sentences put together have a pause between them."""
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
        self._concurrency = concurrency
        self.threads = ThreadPool(Stage.TTS, concurrency, clock)
        self._limits = limits
        self._decoders = decoders
        self._slowdown = slowdown
        self._clock = clock
        aside(lambda: engine.load(self.voices))

    def measure(self, sound_ms: int) -> Measured | None:
        """Say something that lasts so long, by the first voice, and learn from it how long calls take.

        Returns:
            None: there is no voice, or it failed.
        """
        name = next(iter(self.defaults.values()), None) or next(iter(self.voices), None)
        if name is None:
            return None
        original = EncodedAudio(bytes(sound_ms * 16 * 2), AudioFormat("pcm_s16le", 16_000, 1))
        text = measuring.text(self.voices[name].language, sound_ms)
        request = SynthesizeRequest(ITSELF, text, name, sound_ms, _WIRE, _OWN_BUDGET_MS, original=original)

        def say() -> None:
            self.dub(request, self._clock() + _OWN_BUDGET_MS / 1000)

        measured = measuring.measured(Stage.TTS, say, self._concurrency, sound_ms=sound_ms)
        if measured is not None:
            self.threads.assume(measured.fragment_ms / 1000)
        return measured

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
            lead_ms=request.overhang.duration_ms if request.overhang else 0,
            overhang_ms=self._overhang_ms(request),
        )
        acoustics = request.acoustics if not spoken.original else None
        if acoustics is not None:
            fitted = self._as_loud(fitted, rate_hz, acoustics)
        if fitted.lead_ms and request.overhang:
            fitted = replace(fitted, samples=opened(fitted.samples, request.overhang, rate_hz))
        if acoustics is not None and self._limits.room_tone:
            fitted = replace(fitted, samples=in_room(fitted.samples, rate_hz, acoustics))
        speech = encoded(fitted, rate_hz, request.output, request.target_duration_ms, self.engine.model, self._limits)
        return replace(speech, elapsed_ms=round((self._clock() - started_s) * 1000)), spoken.rate

    async def say(self, request: SayRequest, budget_ms: int) -> Sound:
        """A text at the rate that was asked for.

        Raises:
            StageError: QueueFull where it can't be done within `budget_ms`, and what else an engine raises.
        """
        deadline_s = self._clock() + budget_ms / 1000
        return await self.threads.run(lambda: self._said(request, deadline_s), budget_ms, size=len(request.text))

    def _said(self, request: SayRequest, deadline_s: float) -> Sound:
        started_s = self._clock()
        voice = self._voice(request.voice)
        text = in_words(request.text, voice.language)
        guess_ms = max(1, round(_CHARACTER_MS * len(text) / request.rate))
        line = Line(request.ref, text, voice, guess_ms, rate=request.rate)
        spoken = slowed(lambda: self.engine.speak(line), self._slowdown)
        _check_samples(spoken)
        samples, rate_hz = pcm.heard(pcm.with_channel_axis(spoken.samples)), spoken.sample_rate_hz
        left = request.rate / spoken.rate  # an engine has a slowest and a fastest rate, or only one
        if abs(left - 1) > _SAME_RATE:
            n_samples = round(samples.shape[0] / left)
            samples = Stretching(deadline_s, self._clock).stretch(samples, rate_hz, left, n_samples)
        heard = pcm.trim_silence(samples, rate_hz, keep_ms=_KEPT_QUIET_MS)
        if heard.shape[0] == 0:
            raise SynthesisFailed(Stage.TTS, "the voice made no sound")
        resampled = codec.resample(pcm.fade(heard, rate_hz), rate_hz, SAID_RATE_HZ)
        data = pcm.to_bytes(np.clip(resampled, -1.0, 1.0), "pcm_s16le")
        return Sound(data, self.engine.model, round((self._clock() - started_s) * 1000))

    def _voice(self, name: str) -> Voice:
        voice = self.voices.get(name)
        if voice is None:
            raise SynthesisFailed(Stage.TTS, f"{self.engine.model} has no voice {name!r}")
        return voice

    def _as_loud(self, fitted: Fitted, rate_hz: int, original: Acoustics) -> Fitted:
        """The dub, and what runs over its end, as loud as the original."""
        if original.loudness_lufs is None or not self._limits.match_loudness:
            return fitted
        factor = gain(fitted.samples, rate_hz, original.loudness_lufs)
        over = limited(fitted.over * factor, rate_hz) if fitted.over is not None else None
        return replace(fitted, samples=limited(fitted.samples * factor, rate_hz), over=over)

    def _overhang_ms(self, request: SynthesizeRequest) -> int:
        return self._limits.overhang_ms if request.may_run_over and codec.joins(request.output) else 0

    def _line(self, request: SynthesizeRequest, deadline_s: float) -> Line:
        voice = self._voice(request.voice)
        if request.target_duration_ms <= 0:
            raise SynthesisFailed(Stage.TTS, "the original has no duration")
        free_ms = free_from_ms(request.overhang.duration_ms if request.overhang else 0)
        line = Line(
            request.ref,
            in_words(request.text, voice.language),
            voice,
            request.target_duration_ms,
            speech_ms=speech_ms(request.speech, free_ms),
            room_ms=max(1, request.target_duration_ms - free_ms + self._overhang_ms(request)),
        )
        if not self.engine.wants_original or request.original is None:
            return line
        original = self._decoders.decode(request.original, round((deadline_s - self._clock()) * 1000))
        return replace(line, original=original.samples, original_rate_hz=original.sample_rate_hz)


def encoded(fitted: Fitted, rate_hz: int, output: AudioFormat, target_ms: int, model: str, limits: FitLimits) -> Speech:
    """What was fitted, in the stream's format; `elapsed_ms` is the caller's.

    Raises:
        DurationMismatch: it is too short for the format, which has whole frames.
    """
    audio = codec.encode(fitted.samples, rate_hz, output)
    duration_ms = codec.decoded_duration_ms(fitted.samples.shape[0], rate_hz, output)
    if target_ms < _SHORT_MS:
        duration_ms = codec.decode(audio).duration_ms
    partial = timing.judge(target_ms, duration_ms, limits, speed_ratio=fitted.speed_ratio) == "partial"
    return Speech(
        audio=audio,
        duration_ms=duration_ms,
        variance_percent=round(timing.variance_percent(target_ms, duration_ms), 2),
        speed_ratio=round(fitted.speed_ratio, 3),
        model=model,
        elapsed_ms=0,
        partial=partial,
        warnings=(VARIANCE_HIGH,) if partial else (),
        overhang=packed(fitted.over, rate_hz) if fitted.over is not None else None,
        may_be_sold=may_be_sold(model),
    )


def _check_samples(spoken: Spoken) -> None:
    if spoken.samples.shape[0] == 0:
        raise SynthesisFailed(Stage.TTS, "the voice made no sound")
    if not np.isfinite(spoken.samples).all():
        raise SynthesisFailed(Stage.TTS, "the voice made samples that are not numbers")
