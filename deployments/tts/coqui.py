"""Any single-pass voice of the library coqui-tts, by Coqui's name or from a folder: VITS, Glow-TTS, FastPitch.

It owns the options, the voices and the rate; `coqui_model` runs the network. XTTS has an engine of its own. Source:
https://github.com/idiap/coqui-ai-TTS
"""

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from deployments.audio import pcm
from deployments.checksums import verify
from deployments.contracts.engines import Line, Samples, Spoken, TtsEngine
from deployments.contracts.values import Voice
from deployments.errors import InvalidText, Stage, SynthesisFailed
from deployments.options import EngineOptions
from deployments.tts.coqui_library import Files, download_voice
from deployments.tts.faster import Faster
from deployments.tts.sentences import pieces
from deployments.tts.speech_rate import SpeechRate, wanted_rate
from deployments.tts.text_normalization import plain_text
from deployments.tts.torch_runtime import choose_device

if TYPE_CHECKING:
    from deployments.tts.coqui_model import CoquiModel

_PUBLISHED = re.compile(r"tts_models/[\w-]+/[\w.-]+/[\w.-]+")
_CHECKPOINTS = ("model_file.pth", "model.pth", "best_model.pth")
"""What the library and its trainer call the weights in a folder, the first that is there."""
_TRIM_THRESHOLD = 0.005
_PIECE_KEEP_MS, _TRIM_KEEP_MS = 100.0, 20.0
"""Silence that is left beside each piece of a long text, and around the whole."""


class CoquiOptions(EngineOptions):
    """Speech by a model of coqui-tts."""

    engine: Literal["coqui"] = "coqui"
    faster: Faster | None = None
    """The engine that speaks what this one can't in time; None: nothing does."""
    model: str = Field(min_length=1)
    """Coqui's name, such as tts_models/es/css10/vits, which is downloaded; or a folder with config.json and model.pth
    (or model_file.pth, or best_model.pth)."""
    language: str | None = Field(default=None, pattern=r"^[a-z]{2,3}$")
    """The base language of a model that has one and whose name and config.json don't tell it, or tell it wrongly."""
    checkpoint_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Of the checkpoint. Given: another file is refused before it is read."""
    accept_noncommercial: bool = False
    """That you may use weights whose licence forbids commercial use; without it none such are downloaded."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    gpu_memory_fraction: float | None = Field(default=None, gt=0.0, le=1.0)
    """The most of its card's memory that this replica takes; give it where replicas share a card."""
    max_text_chars: int = Field(default=400, ge=10, le=5000)
    """Longer texts are cut between sentences, which bounds the memory of one pass."""
    seed: int | None = None
    """Set: the same speech for the same text, in models that draw."""
    min_rate: float = Field(default=0.8, ge=0.5, le=1.0)
    """The slowest speech that is asked for; a text that is still too short is padded."""
    max_rate: float = Field(default=1.25, ge=1.0, le=2.0)
    """The fastest speech that is asked for; the rest is stretched."""

    @model_validator(mode="after")
    def _model_is_named_or_there(self) -> Self:
        folder = Path(self.model)
        if folder.is_dir():
            _files_in(folder)
        elif not _PUBLISHED.fullmatch(self.model):
            raise ValueError(f"model: {self.model} is neither a folder nor a name like tts_models/es/css10/vits")
        elif "/xtts" in self.model:
            raise ValueError("model: XTTS is spoken by the engine xtts")
        return self

    def build(self) -> TtsEngine:
        """The engine, not yet loaded and picklable."""
        return CoquiEngine(self)


class CoquiEngine:
    """A Coqui model in this process. It learns how fast each voice speaks and asks for the rate that lands near."""

    wants_original = False

    def __init__(self, options: CoquiOptions) -> None:
        self._options = options
        self.model = Path(options.model).name if Path(options.model).is_dir() else options.model
        self.voice_models = frozenset({"coqui", options.model})

    def load(self, voices: Mapping[str, Voice]) -> None:
        """Load the weights.

        Raises:
            ImportError: coqui-tts isn't installed.
            ValueError: the model can't be had or loaded, its language isn't known, or a voice doesn't fit it.
            WeightsChanged: the checkpoint is not the pinned one.
        """
        if importlib.util.find_spec("TTS") is None:
            raise ImportError("the engine coqui needs the package coqui-tts: install livedub[coqui]")
        device = choose_device(self._options.device, self._options.gpu_memory_fraction)
        files = self._files()
        if self._options.checkpoint_sha256 is not None:
            verify(files.checkpoint, self._options.checkpoint_sha256)

        from deployments.tts.coqui_model import CoquiModel  # noqa: PLC0415 - heavy, and only replicas need it

        model = CoquiModel(files, device, self._options.seed)
        self._use(model, voices)

    def speak(self, line: Line) -> Spoken:
        """Speak a text of any length once, at the rate that should land near the target.

        Raises:
            InvalidText: nothing in it can be spoken.
            SynthesisFailed: the model returned silence.
            GpuOutOfMemory, ModelFailed: the model raised.
        """
        voice, language = line.voice, self._languages[line.voice.language]
        parts = self._parts(plain_text(line.text), language)
        sounds = " ".join(found for _, found in parts)
        rate = self._rate(line, sounds)
        waves = [self._model.speak(part, voice.speaker or None, language, rate) for part, _ in parts]
        samples = self._trimmed(np.concatenate([self._trimmed(wave, _PIECE_KEEP_MS) for wave in waves]), _TRIM_KEEP_MS)
        if samples.shape[0] == 0:
            raise SynthesisFailed(Stage.TTS, f"the model was silent on {len(line.text)} characters")
        self._paces[voice.name].learn(sounds, samples.shape[0] / self._model.sample_rate_hz, rate)
        return Spoken(samples, self._model.sample_rate_hz, rate)

    def _use(self, model: "CoquiModel", voices: Mapping[str, Voice]) -> None:
        self._model = model
        self._languages = self._spoken_languages(model.languages)
        for voice in voices.values():
            _check(voice, self._languages, model.speakers)
        self._paces = {name: SpeechRate() for name in voices}

    def _spoken_languages(self, named: list[str]) -> dict[str, str | None]:
        """Base languages to the model's names for them; None where it has only one and isn't told."""
        if len(named) > 1:
            if self._options.language is not None:
                raise ValueError(f"language: the model has several, {named}; it is for models that have one")
            return {_base(name): name for name in reversed(named)}
        from_name = self._options.model.split("/")[1] if _PUBLISHED.fullmatch(self._options.model) else ""
        from_name = "" if from_name == "multilingual" else from_name
        language = self._options.language or _base(from_name or next(iter(named), ""))
        if not language:
            raise ValueError("language: config.json doesn't say which one the model speaks; set it")
        return {language: None}

    def _parts(self, text: str, language: str | None) -> list[tuple[str, str]]:
        """Pieces of the text, each with the sounds that the model finds in it; those without any are left out."""
        found = [(part, self._model.sounds(part, language)) for part in pieces(text, self._options.max_text_chars)]
        spoken = [(part, sounds) for part, sounds in found if any(sound.isalnum() for sound in sounds)]
        if not spoken:
            raise InvalidText(Stage.TTS, f"the model knows none of the {len(text)} characters")
        return spoken

    def _rate(self, line: Line, sounds: str) -> float:
        if not self._model.has_rate:
            return 1.0
        natural_ms = self._paces[line.voice.name].natural_s(sounds) * 1000
        return min(max(wanted_rate(natural_ms, line), self._options.min_rate), self._options.max_rate)

    def _trimmed(self, wave: Samples, keep_ms: float) -> Samples:
        mono = wave / max(1.0, float(np.abs(wave).max(initial=0.0)))
        return pcm.trim_silence(mono, self._model.sample_rate_hz, _TRIM_THRESHOLD, keep_ms=keep_ms)

    def _files(self) -> Files:
        folder = Path(self._options.model)
        if folder.is_dir():
            return _files_in(folder)
        return download_voice(self._options.model, accept_noncommercial=self._options.accept_noncommercial)


def _files_in(folder: Path) -> Files:
    checkpoint = next((folder / name for name in _CHECKPOINTS if (folder / name).is_file()), None)
    config = folder / "config.json"
    if checkpoint is None or not config.is_file():
        raise ValueError(f"model: {folder} needs config.json and one of {', '.join(_CHECKPOINTS)}")
    return Files(checkpoint, config)


def _check(voice: Voice, languages: Mapping[str, str | None], speakers: list[str]) -> None:
    if voice.language not in languages:
        raise ValueError(f"voice {voice.name!r}: no language {voice.language!r}, only {sorted(languages)}")
    if voice.speaker_wav:
        raise ValueError(f"voice {voice.name!r}: speaker_wav is for the engine xtts; coqui speaks a model's own voices")
    if len(speakers) == 1 and not voice.speaker:
        return
    if speakers and voice.speaker not in speakers:
        raise ValueError(f"voice {voice.name!r}: the model has no speaker {voice.speaker!r}, only {speakers}")
    if not speakers and voice.speaker:
        raise ValueError(f"voice {voice.name!r}: the model has no speaker {voice.speaker!r}, it has a single voice")


def _base(language: str) -> str:
    return language.partition("-")[0].lower()
