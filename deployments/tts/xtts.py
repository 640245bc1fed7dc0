"""Coqui's XTTS v2 by the library coqui-tts: the cloned voices of production. Made for CUDA, correct on a CPU.

It owns the options, the voices and the rate; `xtts_model` runs the network. The published weights are under the Coqui
Public Model License, which forbids commercial use: naming them needs `accept_cpml`. Source:
https://github.com/idiap/coqui-ai-TTS
"""

import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from deployments.audio import codec, pcm
from deployments.batching.threads import ThreadGatherer
from deployments.checksums import verify
from deployments.contracts.engines import Line, Samples, Spoken, TtsEngine
from deployments.contracts.values import AudioFormat, EncodedAudio, Voice
from deployments.errors import InvalidText, Stage, StageError, SynthesisFailed
from deployments.options import EngineOptions
from deployments.tts.coqui_library import download
from deployments.tts.faster import Faster
from deployments.tts.sentences import halves, pieces
from deployments.tts.speech_rate import estimate_s, wanted_rate
from deployments.tts.text_normalization import plain_text
from deployments.tts.torch_runtime import choose_device

if TYPE_CHECKING:
    from torch import Tensor

    from deployments.tts.xtts_model import Latents, Sentence, XttsModel

PUBLISHED = "tts_models/multilingual/multi-dataset/xtts_v2"
"""Coqui's name of the published weights."""
_MAX_REFERENCE_MS = 120_000
_TRIM_THRESHOLD = 0.005
_TRIM_KEEP_MS = 20.0
_RAMBLING, _RAMBLING_S = 3.0, 2.0
"""Speech of this many times the estimate and so many seconds more has lost its text, and is cut off there."""


class XttsOptions(EngineOptions):
    """Speech by XTTS v2."""

    engine: Literal["xtts"] = "xtts"
    faster: Faster | None = None
    """The engine that speaks what this one can't in time; None: nothing does."""
    model: str = Field(default=PUBLISHED, min_length=1)
    """A folder with model.pth, config.json, vocab.json and speakers_xtts.pth, or a name that Coqui downloads."""
    checkpoint_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Of model.pth. Given: another file is refused before it is read."""
    accept_cpml: bool = False
    """That you have read https://coqui.ai/cpml and may use the weights under it; without it nothing is downloaded."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    half: bool = True
    """On CUDA: keep the GPT in float16."""
    gpu_memory_fraction: float | None = Field(default=None, gt=0.0, le=1.0)
    """The most of its card's memory that this replica takes; give it where replicas share a card."""
    concurrency: int = Field(default=8, ge=1, le=256)
    """Texts at once in one replica. They don't run side by side: what waits goes into the next batch."""
    max_batch: int = Field(default=8, ge=1, le=64)
    """Sentences, of any streams, in one pass of the GPT."""
    max_text_chars: int = Field(default=200, ge=10, le=1000)
    """Longer texts are cut between sentences; the model's own limit for a language is kept in any case."""
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    """None: the checkpoint's own. 0: the same speech for the same text, duller."""
    seed: int | None = None
    """Repeats what is drawn above temperature 0, where `max_batch` is 1; in a batch the neighbours count too."""
    min_rate: float = Field(default=0.8, ge=0.5, le=1.0)
    """The slowest speech that is asked for; a text that is still too short is padded."""
    max_rate: float = Field(default=1.25, ge=1.0, le=2.0)
    """The fastest speech that is asked for; the rest is stretched."""

    @model_validator(mode="after")
    def _folder_is_whole(self) -> Self:
        folder = Path(self.model)
        if self.model.startswith("tts_models/") and not folder.is_dir():
            return self
        missing = [name for name in ("model.pth", "config.json", "vocab.json") if not (folder / name).is_file()]
        if missing:
            raise ValueError(f"model: {folder} has no {' and no '.join(missing)}")
        return self

    def build(self) -> TtsEngine:
        """The engine, not yet loaded and picklable."""
        return XttsEngine(self)


class XttsEngine:
    """XTTS in this process. All streams share one model: their sentences go through its GPT together."""

    model = "xtts_v2"
    voice_models = frozenset({"xtts_v2"})
    wants_original = False

    def __init__(self, options: XttsOptions) -> None:
        self._options = options

    def load(self, voices: Mapping[str, Voice]) -> None:
        """Load the weights and compute every voice's latents, so that no fragment waits for any of it.

        Raises:
            ValueError: a voice can't be made, no CUDA device is there for `cuda`, or a licence must be accepted.
            WeightsChanged: model.pth is not the pinned one.
        """
        references = {voice.name: _reference(voice) for voice in voices.values() if voice.speaker_wav}
        device = choose_device(self._options.device, self._options.gpu_memory_fraction)
        folder = self._folder()
        if self._options.checkpoint_sha256 is not None:
            verify(folder / "model.pth", self._options.checkpoint_sha256)

        from deployments.tts.xtts_model import Sampling, XttsModel  # noqa: PLC0415 - heavy, and only replicas need it

        model = XttsModel(folder, device, Sampling(self._options.temperature, self._options.seed))
        latents = {voice.name: _latents(model, voice, references.get(voice.name)) for voice in voices.values()}
        if device == "cuda" and self._options.half:
            model.halve()
        self._use(model, latents)

    def speak(self, line: Line) -> Spoken:
        """Speak a text of any length. Its natural duration is known before the vocoder runs, which lands on the target.

        Raises:
            InvalidText: nothing in it can be spoken.
            SynthesisFailed: the model returned silence.
            GpuOutOfMemory, ModelFailed: the model raised.
        """
        sentences = self._sentences(plain_text(line.text), line.voice)
        spoken = self._gatherer.run(sentences)
        natural_s = sum(self._model.seconds(speech) for speech in spoken)
        rate = min(max(wanted_rate(natural_s * 1000, line), self._options.min_rate), self._options.max_rate)
        voice = self._latents[line.voice.name]
        waves = [self._model.vocode(speech, voice, rate) for speech in spoken]
        samples = _trimmed(np.concatenate(waves), self._model.sample_rate_hz)
        if samples.shape[0] == 0:
            raise SynthesisFailed(Stage.TTS, f"XTTS was silent on {len(line.text)} characters")
        return Spoken(samples, self._model.sample_rate_hz, rate)

    def _use(self, model: "XttsModel", latents: "Mapping[str, Latents]") -> None:
        self._model = model
        self._latents = dict(latents)
        self._gatherer: ThreadGatherer[Sentence, Tensor] = ThreadGatherer(model.generate, self._options.max_batch)

    def _sentences(self, text: str, voice: Voice) -> "list[Sentence]":
        max_chars = min(self._options.max_text_chars, self._model.max_chars(voice.language))
        return [sentence for piece in pieces(text, max_chars) for sentence in self._ready(piece, voice)]

    def _ready(self, text: str, voice: Voice) -> "list[Sentence]":
        max_s = _RAMBLING * estimate_s(_sounds(text)) + _RAMBLING_S
        sentence = self._model.sentence(text, voice.language, self._latents[voice.name], max_s)
        if sentence is not None:
            return [sentence]
        if len(text) == 1:
            raise InvalidText(Stage.TTS, "XTTS takes a single character for more than it can speak")
        return [sentence for half in halves(text) for sentence in self._ready(half, voice)]

    def _folder(self) -> Path:
        if Path(self._options.model).is_dir():
            return Path(self._options.model)
        return download(self._options.model, accept_licence=self._options.accept_cpml)


def _reference(voice: Voice) -> Samples:
    """The recording that a voice is cloned from: float32 (n_samples,), mono, 22 050 Hz."""
    path = Path(voice.speaker_wav)
    label = AudioFormat(path.suffix.lstrip(".") or "wav", 0, 0)  # what is in the file counts, not its name
    try:
        decoded = codec.decode(EncodedAudio(path.read_bytes(), label), max_duration_ms=_MAX_REFERENCE_MS)
    except OSError as error:
        raise ValueError(f"voice {voice.name!r}: speaker_wav {path} can't be read: {error.strerror}") from error
    except StageError as error:
        raise ValueError(f"voice {voice.name!r}: speaker_wav {path}: {error.message}") from error
    mono = pcm.map_channels(decoded.samples, 1)[:, 0]
    return codec.resample(mono, decoded.sample_rate_hz, 22_050)


def _latents(model: "XttsModel", voice: Voice, reference: Samples | None) -> "Latents":
    if voice.language not in model.languages:
        raise ValueError(f"voice {voice.name!r}: no language {voice.language!r}, only {sorted(model.languages)}")
    if reference is None and voice.speaker not in model.speakers:
        raise ValueError(
            f"voice {voice.name!r}: XTTS has no speaker {voice.speaker!r}, only {model.speakers}; or give speaker_wav"
        )
    try:
        latents = model.built_in(voice.speaker) if reference is None else model.clone(reference)
        model.sentence("1", voice.language, latents, 1.0)
    except ValueError as error:
        raise ValueError(f"voice {voice.name!r}: {error}") from error
    except ImportError as error:  # Chinese and Japanese need packages of their own
        raise ValueError(f"voice {voice.name!r}: language {voice.language!r} needs a package: {error}") from error
    return latents


def _sounds(text: str) -> str:
    """Letters that take about as long to say as the text, for `estimate_s`: digits are words, ideographs syllables."""
    plain = unicodedata.normalize("NFKD", text.lower())
    return "".join("kaka" if c.isdigit() else "ka" if c.isalpha() and ord(c) > 0x1100 else c for c in plain)  # noqa: PLR2004


def _trimmed(wave: Samples, sample_rate_hz: int) -> Samples:
    mono = wave / max(1.0, float(np.abs(wave).max(initial=0.0)))
    return pcm.trim_silence(mono, sample_rate_hz, _TRIM_THRESHOLD, keep_ms=_TRIM_KEEP_MS)
