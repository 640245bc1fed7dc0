"""The Asr deployment: decodes a fragment and recognises it. A plain class; Ray is put around it in `serve_app.app`."""

import time
from collections.abc import Callable

from deployments.audio import codec
from deployments.contracts import (
    AsrCapabilities,
    AsrEngine,
    AudioFormat,
    Recognition,
    TranscribeRequest,
    Transcript,
    Utterance,
)
from deployments.errors import Stage, StageError, UnsupportedLanguage
from deployments.health import Health
from deployments.logs import about, configure_logs, get_logger
from deployments.worker import WorkerThreads

logger = get_logger(__name__)


class Asr:
    """One replica: one loaded engine.

    Args:
        engine: not loaded yet.
        concurrency: fragments that may compute at once.
        log_level: of the replica's process.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        engine: AsrEngine,
        concurrency: int = 1,
        log_level: str = "INFO",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        configure_logs(log_level)
        self._engine = engine
        self._clock = clock
        self._threads = WorkerThreads(Stage.ASR, concurrency)
        self._health = Health()
        started_s = clock()
        engine.load()
        logger.info("asr_loaded", model=engine.model, elapsed_ms=self._ms_since(started_s))

    async def transcribe(self, request: TranscribeRequest) -> Transcript:
        """Recognise one fragment.

        Raises:
            UnsupportedLanguage: the engine does not hear the request's language.
            InvalidAudio, FragmentTooLarge: the audio can't be decoded.
            DeadlineExceeded: no thread came free within the budget.
            GpuOutOfMemory, ModelFailed: the engine could not do it.
        """
        with about(request.ref, Stage.ASR):
            try:
                transcript = await self._threads.run(lambda: self._transcribe(request), request.budget_ms)
            except StageError as error:
                self._health.failed(error)
                logger.warning("transcription_failed", code=error.code)
                raise
            self._health.succeeded()
            logger.info(
                "transcribed",
                elapsed_ms=transcript.elapsed_ms,
                duration_ms=transcript.duration_ms,
                n_segments=len(transcript.recognition.segments),
            )
            return transcript

    def _transcribe(self, request: TranscribeRequest) -> Transcript:
        started_s = self._clock()
        languages = self._engine.languages
        if languages is not None and request.language not in languages:
            raise UnsupportedLanguage(Stage.ASR, f"{self._engine.model} does not hear {request.language}")
        decoded = codec.decode(request.audio)
        utterance = Utterance(request.ref, codec.to_asr(decoded), request.language, request.hints)
        [heard] = self._engine.transcribe([utterance])
        match heard:
            case StageError():
                raise heard
            case Recognition():
                return Transcript(
                    recognition=heard,
                    duration_ms=decoded.duration_ms,
                    audio_format=AudioFormat(request.audio.format.container, decoded.sample_rate_hz, decoded.channels),
                    model=self._engine.model,
                    elapsed_ms=self._ms_since(started_s),
                )

    def _ms_since(self, started_s: float) -> int:
        return round((self._clock() - started_s) * 1000)

    async def capabilities(self) -> AsrCapabilities:
        """What streams may ask for."""
        return AsrCapabilities(self._engine.model, self._engine.languages)

    def check_health(self) -> None:
        """Raise RuntimeError when the replica should be replaced."""
        self._health.check()
