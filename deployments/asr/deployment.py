"""The Asr deployment: decodes fragments and recognises them together.

A plain class; Ray is put around it in `serve_app.app`.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from deployments.asr.recogniser import Recogniser
from deployments.asr.voice_activity import voice_probabilities
from deployments.audio import codec, pcm
from deployments.audio.decoders import Decoders, needs_decoder
from deployments.audio.loudness import acoustics
from deployments.batching.collection import BatchLimits
from deployments.contracts.engines import ASR_RATE_HZ, AsrEngine, Utterance
from deployments.contracts.values import (
    ITSELF,
    Acoustics,
    AsrCapabilities,
    AudioFormat,
    EncodedAudio,
    ListenRequest,
    Measured,
    TranscribeRequest,
    Transcript,
    VoiceActivity,
)
from deployments.errors import Stage, StageError, UnsupportedLanguage
from deployments.logs import about, configure_logs, get_logger
from deployments.replica import measuring
from deployments.replica.thread_pool import ThreadPool, aside
from deployments.replica.user_config import UserConfig

logger = get_logger(__name__)


DECODE_THREADS = 4
"""Fragments whose audio is decoded at once, of those that need no process for it."""
_ANY_BUDGET_MS = 1000
"""Of the sentence with which a replica measures itself."""
_SENTENCE = Path(__file__).with_name("sentence.ogg")
"""6 s of English, spoken by Kokoro."""


class AsrUserConfig(BaseModel):
    """The Asr deployment's `user_config`: applied without a restart."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_batch_size: int = Field(default=1, ge=1, le=256)
    """Fragments of all streams that may go through the model together; `max_ongoing_requests` must be higher."""
    batch_wait_ms: int = Field(default=20, ge=0, le=1000)
    """The longest that a fragment waits for another one that is being decoded, while the model is free."""
    window_frames: int = Field(default=1500, gt=1000, le=3000, multiple_of=2)
    """Mel frames (10 ms each) as which Whisper encodes fragments that fit in; at 1000 it repeats itself."""


@runtime_checkable
class Windowed(Protocol):
    """An engine that works on windows."""

    def use_window(self, frames: int) -> None:
        """From the next call on, encode fragments that fit into so many mel frames (10 ms each) as so many."""


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A fragment ready for the engine."""

    utterance: Utterance
    duration_ms: int
    audio_format: AudioFormat
    acoustics: Acoustics | None
    elapsed_ms: int


class Asr:
    """One replica: one loaded engine.

    Args:
        engine: not loaded yet.
        concurrency: calls of the engine that may compute at once.
        decode_processes: children that decode containers; 0: this process does.
        log_level: of the replica's process.
        slowdown: each call of the engine takes so many times as long as it would.
        interim: hears what will be heard again, not loaded yet; None: the engine does.
        interim_concurrency: calls of that one that may compute at once.
        measure: hear a sentence once it is loaded, and tell in the capabilities what that took.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        engine: AsrEngine,
        concurrency: int = 1,
        decode_processes: int = 0,
        log_level: str = "INFO",
        *,
        slowdown: float = 1.0,
        interim: AsrEngine | None = None,
        interim_concurrency: int = 1,
        measure: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        configure_logs(log_level)
        self._engine = engine
        self._clock = clock
        self._decoders = Decoders(Stage.ASR, decode_processes)
        self._reading = ThreadPool(Stage.ASR, DECODE_THREADS, clock)
        """For raw audio, which has to wait for no decoder."""
        self._unpacking = ThreadPool(Stage.ASR, decode_processes or DECODE_THREADS, clock)
        """For containers: as many as can be decoded, so that what waits is dropped when its time is over."""
        self._listening = ThreadPool(Stage.ASR, 1, clock)
        self._finals = Recogniser(engine, concurrency, slowdown, clock)
        self._interims = Recogniser(interim, interim_concurrency, slowdown, clock) if interim else self._finals
        self._recognisers = [self._finals, self._interims] if interim else [self._finals]
        self._user_config = UserConfig(AsrUserConfig.model_validate, "asr_user_config_refused")
        started_s = clock()
        self._decoders.start()
        for recogniser in self._recognisers:
            recogniser.load()
        self._apply(AsrUserConfig())
        logger.info("asr_loaded", model=engine.model, elapsed_ms=self._ms_since(started_s))
        self._measured: Measured | None = None
        if measure:
            aside(lambda: self._measure(concurrency))

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Apply a changed `user_config`, see AsrUserConfig; what it does not name goes back to its default.

        A coroutine, because Serve would call a plain method in a thread, and what waits belongs to the loop. Once the
        replica has started, a wrong value is logged and changes nothing.

        Raises:
            ValidationError: the `user_config` that the replica starts with is wrong.
        """
        config = self._user_config.take(user_config)
        if config is not None:
            self._apply(config)
            logger.info("asr_configured", **config.model_dump())

    def _apply(self, config: AsrUserConfig) -> None:
        if isinstance(self._engine, Windowed):
            self._engine.use_window(config.window_frames)
        self._finals.configure(BatchLimits(config.max_batch_size, config.batch_wait_ms))

    async def transcribe(self, request: TranscribeRequest) -> Transcript:
        """Recognise one fragment, in one call of the engine with those of other streams.

        Raises:
            UnsupportedLanguage: the engine does not hear the request's language.
            InvalidAudio, FragmentTooLarge: the audio can't be decoded.
            DeadlineExceeded: its turn did not come within the budget.
            GpuOutOfMemory, ModelFailed: the engine could not do it.
        """
        with about(request.ref, Stage.ASR):
            try:
                transcript = await self._transcribe(request)
            except StageError as error:
                logger.warning("transcription_failed", code=error.code)
                raise
            tell = logger.debug if request.interim else logger.info
            tell(
                "transcribed",
                elapsed_ms=transcript.elapsed_ms,
                duration_ms=transcript.duration_ms,
                n_segments=len(transcript.recognition.segments),
            )
            return transcript

    async def _transcribe(self, request: TranscribeRequest) -> Transcript:
        if not self._finals.hears(request.language):
            raise UnsupportedLanguage(Stage.ASR, f"{self._engine.model} does not hear {request.language}")
        decoded: list[_Decoded] = []
        arrived_s = self._clock()
        threads = self._unpacking if needs_decoder(request.audio) else self._reading

        def decode() -> _Decoded:
            return self._decode(request, request.budget_ms - self._ms_since(arrived_s))

        async def coming() -> Utterance:
            decoded.append(await threads.run(decode, request.budget_ms))
            return decoded[0].utterance

        fast = request.interim and self._interims.hears(request.language)
        recogniser = self._interims if fast else self._finals
        recognition, elapsed_ms = await recogniser.hear(coming(), request.budget_ms, gives_way=request.interim)
        return Transcript(
            recognition=recognition,
            duration_ms=decoded[0].duration_ms,
            audio_format=decoded[0].audio_format,
            model=recogniser.engine.model,
            elapsed_ms=decoded[0].elapsed_ms + elapsed_ms,
            acoustics=decoded[0].acoustics,
        )

    async def listen(self, request: ListenRequest) -> VoiceActivity:
        """Find out where a voice is in a stretch of live audio.

        Raises:
            InvalidAudio: the audio can't be decoded.
            QueueFull, DeadlineExceeded: its turn would not come, or did not come, within the budget.
        """
        with about(request.ref, Stage.ASR):
            return await self._listening.run(lambda: self._listen(request), request.budget_ms)

    def _listen(self, request: ListenRequest) -> VoiceActivity:
        started_s = self._clock()
        samples = codec.to_asr(self._decoders.decode(request.audio, request.budget_ms))
        context_samples = pcm.ms_to_samples(request.context_ms, ASR_RATE_HZ)
        probabilities = voice_probabilities(samples, min(context_samples, len(samples)), self._engine)
        return VoiceActivity(probabilities, self._ms_since(started_s))

    def _decode(self, request: TranscribeRequest, budget_ms: int) -> _Decoded:
        started_s = self._clock()
        decoded = self._decoders.decode(request.audio, budget_ms)
        utterance = Utterance(request.ref, codec.to_asr(decoded), request.language, request.hints)
        heard = None if request.interim else acoustics(utterance.samples, ASR_RATE_HZ)
        audio_format = AudioFormat(request.audio.format.container, decoded.sample_rate_hz, decoded.channels)
        return _Decoded(utterance, decoded.duration_ms, audio_format, heard, self._ms_since(started_s))

    def _measure(self, slots: int) -> None:
        languages = self._engine.languages or frozenset({"en"})
        language = "en" if "en" in languages else min(languages)
        audio = EncodedAudio(_SENTENCE.read_bytes(), AudioFormat("ogg", ASR_RATE_HZ, 1))
        request = TranscribeRequest(ITSELF, audio, language, hints=(), budget_ms=_ANY_BUDGET_MS)

        def hear() -> None:
            self._finals.hear_now(self._decode(request, _ANY_BUDGET_MS).utterance)

        self._measured = measuring.measured(Stage.ASR, hear, slots)

    def _ms_since(self, started_s: float) -> int:
        return round((self._clock() - started_s) * 1000)

    async def capabilities(self) -> AsrCapabilities:
        """What streams may ask for."""
        return AsrCapabilities(self._engine.model, self._engine.languages, self._measured, self._finals.at_once)

    def check_health(self) -> None:
        """Raise RuntimeError when the replica should be replaced."""
        self._user_config.healthy()
        for recogniser in self._recognisers:
            recogniser.health.check()
            recogniser.threads.check()
