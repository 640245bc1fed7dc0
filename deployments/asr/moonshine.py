"""Moonshine tiny on ONNX Runtime: English on a CPU, the cheaper the shorter the sound is.

Nothing is padded to a window: a sound of 1 s costs a seventh of what Whisper tiny.en takes for it, one of 6 s three
quarters. Beyond half a minute it begins to invent words at the edges.

It has no idea of silence: in noise it hears "You" and in a tone "Thank you for watching.", so what reaches it has to be
gated by voice activity. Only digital silence is no speech to it.

The weights are files of the package moonshine-voice, pinned by hash. The package itself is never imported: that would
load its own runtime and want a sound card's library. Source: https://github.com/moonshine-ai/moonshine
"""

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from deployments.asr.moonshine_model import Session, SpeechModel, read_pieces
from deployments.checksums import verify
from deployments.contracts.engines import ASR_RATE_HZ, AsrEngine, Utterance
from deployments.contracts.values import Recognition, Segment
from deployments.errors import ModelFailed, Stage, StageError
from deployments.logs import about, get_logger
from deployments.options import EngineOptions

logger = get_logger(__name__)

PACKAGE = "moonshine_voice"
PACKAGED_SHA256 = {
    "encoder_model.ort": "94e90a4654fc45cdfedb77c4c08e1739f48862998e58fada384b25118134f221",
    "decoder_model_merged.ort": "cf524c4862d36e9e5ab032eddc73637efd822d70e868ac575cf1a46e1e4708a0",
    "tokenizer.bin": "6884b35fd6377d4c4d32336a0bc152f36b64d1e45b6503683cdc238250a8472d",
}
"""The model in moonshine-voice 0.0.62; some later versions bring none."""

MIN_SAMPLES = ASR_RATE_HZ // 10
"""In less nobody says anything, and the model invents what it hears."""
SPARE_TOKENS = 5
"""On top of those that the duration allows, for the shortest fragments."""


class MoonshineOptions(EngineOptions):
    """Options of Moonshine."""

    engine: Literal["moonshine"]
    threads: int = Field(default=1, ge=1, le=64)
    """CPU threads of one call."""
    max_tokens_per_s: int = Field(default=8, ge=1)
    """What bounds the time that a fragment of junk can take. Novels read aloud were seen to need 4."""

    def build(self) -> AsrEngine:
        """The engine, not loaded yet."""
        return Moonshine(self)


class Moonshine:
    """Moonshine. It hears one fragment after the other; hints are passed over, for it takes none."""

    model = "moonshine-tiny-en"
    languages: frozenset[str] | None = frozenset({"en"})

    def __init__(self, options: MoonshineOptions) -> None:
        self._options = options

    def load(self) -> None:
        """Load the model, and run it once, since the first call is the slowest.

        Raises:
            ImportError: the package with the model isn't installed.
            WeightsChanged: its files are not the expected ones.
        """
        folder = packaged_model()
        encoder, decoder, tokenizer = (verify(folder / name, sha256) for name, sha256 in PACKAGED_SHA256.items())
        threads = self._options.threads
        pieces = read_pieces(tokenizer.read_bytes())
        speech = SpeechModel(_session(encoder, threads), _session(decoder, threads), pieces)
        self.attach(speech, _onnxruntime_errors())
        speech.hear(np.random.default_rng(0).normal(0.0, 0.1, ASR_RATE_HZ).astype(np.float32), max_tokens=2)

    def attach(self, speech: SpeechModel, failures: tuple[type[Exception], ...]) -> None:
        """Use a model that is loaded; `failures` are what it raises when it fails."""
        self._speech = speech
        self._failures = failures

    def transcribe(self, utterances: Sequence[Utterance]) -> list[Recognition | StageError]:
        """Recognise one after the other; one that fails doesn't fail the others."""
        return [self._transcribe(utterance) for utterance in utterances]

    def _transcribe(self, utterance: Utterance) -> Recognition | StageError:
        samples = utterance.samples
        if len(samples) < MIN_SAMPLES or not samples.any():
            return Recognition((), utterance.language)
        try:
            heard = self._speech.hear(samples, max_tokens(len(samples), self._options.max_tokens_per_s))
        except self._failures as error:
            return ModelFailed(Stage.ASR, f"{type(error).__name__}: {error}"[:500])
        if not heard.ended:
            with about(utterance.ref, Stage.ASR):
                logger.warning("tokens_bounded", n_tokens=len(heard.tokens))
        text = self._speech.text(heard.tokens)
        duration_ms = round(len(samples) * 1000 / ASR_RATE_HZ)
        said = any(map(str.isalnum, text))
        segments = (Segment(text, 0, duration_ms, heard.confidence),) if said else ()
        return Recognition(segments, utterance.language, repeats=heard.repeats)


def max_tokens(n_samples: int, per_s: int) -> int:
    """How many tokens a sound of this length may have."""
    return math.ceil(n_samples / ASR_RATE_HZ * per_s) + SPARE_TOKENS


def packaged_model() -> Path:
    """The folder with the model's files, found without importing the package.

    Raises:
        ImportError: there is none.
    """
    spec = importlib.util.find_spec(PACKAGE)
    for place in (spec.submodule_search_locations if spec else None) or ():
        folder = Path(place) / "assets" / "tiny-en"
        if folder.is_dir():
            return folder
    raise ImportError("the engine moonshine needs the package moonshine-voice, version 0.0.62: install livedub[local]")


def _session(path: Path, threads: int) -> Session:
    import onnxruntime  # noqa: PLC0415 - heavy, and only replicas need it

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    # Spinning threads take the core from the other stages of the machine.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session: Session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    return session


def _onnxruntime_errors() -> tuple[type[Exception], ...]:
    """They have no ancestor of their own, and are made in C++."""
    from onnxruntime.capi import onnxruntime_pybind11_state as errors  # noqa: PLC0415 - heavy

    return (
        RuntimeError,
        *(one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, Exception)),
    )
