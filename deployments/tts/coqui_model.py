"""Any single-pass model of coqui-tts on torch, loaded and run through the library's Synthesizer.

The speaking rate is an attribute of the model, so one text is spoken at a time. Streams, voices.json and durations are
not known here. Importing this module needs torch and coqui-tts. Source: https://github.com/idiap/coqui-ai-TTS
"""

import importlib
import json
import logging
import threading
from typing import Any

import numpy as np
import torch

from deployments.contracts.engines import Samples
from deployments.errors import InvalidText, Stage
from deployments.tts.coqui_library import Files, import_torchaudio
from deployments.tts.torch_runtime import translated

_CLONING = {"xtts": "use the engine xtts", "bark": "it is too slow", "tortoise": "it is too slow"}


class CoquiModel:
    """A loaded model. Its methods are for any number of threads.

    Args:
        files: checkpoint, config.json and, for models that need one, a vocoder.
        device: cpu or cuda.
        seed: set before each text. None: every call differs, in models that draw.

    Raises:
        ValueError: config.json is of a model that isn't spoken here, or doesn't fit the checkpoint.
        UnpicklingError: the checkpoint holds more than weights.
    """

    def __init__(self, files: Files, device: str, seed: int | None) -> None:
        self._declared = _declared(files)
        import_torchaudio()
        library = importlib.import_module("TTS.utils.synthesizer")
        logging.getLogger("TTS").setLevel(logging.WARNING)  # its info lines hold the texts
        try:
            self._synthesizer: Any = library.Synthesizer(
                tts_checkpoint=files.checkpoint,
                tts_config_path=files.config,
                vocoder_checkpoint=files.vocoder,
                vocoder_config=files.vocoder_config,
                use_cuda=device == "cuda",
            )
        except (AssertionError, AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"model: {files.checkpoint} can't be loaded: {_reason(error)}") from error
        # What the library calls the end of the speech is the first pause of 0.8 s, or the first stretch below zero.
        self._synthesizer.tts_config.audio["do_trim_silence"] = False
        self._model = self._synthesizer.tts_model
        self._seed = seed
        self._speaking = threading.Lock()
        self._natural_length = float(self._model.length_scale) if hasattr(self._model, "length_scale") else None
        self.sample_rate_hz = int(self._synthesizer.output_sample_rate)

    @property
    def has_rate(self) -> bool:
        """Whether the model can speak faster and slower by itself."""
        return self._natural_length is not None

    @property
    def languages(self) -> list[str]:
        """The model's own names of its languages, such as fr-fr; none where config.json names none."""
        names = self._names()
        return names if len(names) > 1 else self._declared

    @property
    def speakers(self) -> list[str]:
        """The model's own names of its speakers; none where it has a single voice."""
        manager = self._model.speaker_manager
        if manager is None:
            return []
        return sorted({*manager.name_to_id, *manager.embedding_names})

    def sounds(self, text: str, language: str | None) -> str:
        """The letters or phonemes that the model reads in a text; empty where it knows none of its characters.

        Raises:
            InvalidText: the library can't spell the text out.
        """
        tokenizer = self._model.tokenizer
        with self._speaking:
            try:
                numbers = tokenizer.text_to_ids(text, language=language or self._names()[0])
            except (ArithmeticError, LookupError, ValueError, TypeError, NotImplementedError) as error:
                raise InvalidText(
                    Stage.TTS, f"the model can't read all of {len(text)} characters aloud: {type(error).__name__}"
                ) from error
        names = (str(tokenizer.characters.id_to_char(number)) for number in numbers)
        return "".join(name for name in names if len(name) == 1)  # longer ones are marks such as <BLNK>

    def speak(self, text: str, speaker: str | None, language: str | None, rate: float) -> Samples:
        """Samples, float32 (n_samples,), mono, at `sample_rate_hz`.

        Args:
            text: `sounds` found some in it.
            speaker: one of `speakers`; None where there are none.
            language: one of `languages`; None where the model has only one.
            rate: above 1 is faster; no effect unless `has_rate`.

        Raises:
            GpuOutOfMemory, ModelFailed: torch raised.
        """
        with self._speaking:
            if self._seed is not None:
                torch.manual_seed(self._seed)
            if self._natural_length is not None:
                self._model.length_scale = self._natural_length / rate
            wave = translated(
                lambda: self._synthesizer.tts(text, speaker_name=speaker, language_name=language, split_sentences=False)
            )
        return np.asarray(wave, dtype=np.float32).reshape(-1)

    def _names(self) -> list[str]:
        return list(self._model.language_manager.language_names)


def _declared(files: Files) -> list[str]:
    """The languages that config.json names: the library takes English where there is none."""
    try:
        config = json.loads(files.config.read_bytes())
        kind = config.get("model")
        datasets = [dataset.get("language") for dataset in config.get("datasets") or []]
    except (ValueError, AttributeError) as error:
        raise ValueError(f"model: {files.config} is not the configuration of a Coqui model") from error
    if kind in _CLONING:
        raise ValueError(f"model: {kind} is not for the engine coqui: {_CLONING[kind]}")
    named = config.get("languages") or [name for name in datasets if name] or [config.get("phoneme_language")]
    return sorted({str(name) for name in named if name})


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
