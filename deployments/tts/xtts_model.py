"""Coqui's XTTS v2 on torch: a checkpoint, and sentences of several speakers in one pass of its GPT.

The library speaks one sentence at a time, and keeps that sentence's prefix on the model, where a second thread would
overwrite it. Here the prefixes of several sentences are padded on the left into one batch, so the GPT's step, which is
what the time goes into, is shared. All else is the library's. Streams, voices.json and durations are not known here.
Importing this module needs torch and coqui-tts. Source: https://github.com/idiap/coqui-ai-TTS
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from deployments.contracts.engines import Samples
from deployments.errors import InvalidText, Stage
from deployments.tts.coqui_library import import_torchaudio
from deployments.tts.torch_runtime import translated

REFERENCE_RATE_HZ = 22_050
"""The rate of recordings that a voice is cloned from."""
_MIN_REFERENCE_S = 1.0


@dataclass(frozen=True, slots=True)
class Latents:
    """What the model knows of one voice."""

    conditioning: Tensor
    """(1, n_latents, n_channels), for the GPT."""
    embedding: Tensor
    """(1, n_dimensions, 1), for the vocoder."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """One text for the GPT."""

    tokens: tuple[int, ...]
    """A start, a language and the text."""
    voice: Latents
    max_audio_tokens: int
    """Where speech is cut off: the model sometimes doesn't find an end."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How audio tokens are chosen."""

    temperature: float | None = None
    """None: what the checkpoint says. 0: always the likeliest token."""
    seed: int | None = None
    """Set before each batch. None: every call differs."""


class XttsModel:
    """A loaded checkpoint. `generate` is for one thread at a time, the rest for any number.

    Args:
        directory: holds model.pth, config.json, vocab.json and, for built-in speakers, speakers_xtts.pth.
        device: cpu or cuda.
        sampling: of the GPT.
    """

    def __init__(self, directory: Path, device: str, sampling: Sampling) -> None:
        import_torchaudio()
        configs = importlib.import_module("TTS.tts.configs.xtts_config")
        models = importlib.import_module("TTS.tts.models.xtts")
        config = configs.XttsConfig()
        config.load_json(str(directory / "config.json"))
        model = models.Xtts(config)
        model.load_checkpoint(config, checkpoint_dir=str(directory), eval=True)  # weights_only, says the library
        self._model: Any = model.to(device)
        self._sampling = sampling
        self._dtype = torch.float32
        self.sample_rate_hz = int(config.model_args.output_sample_rate)
        self._token_s = config.model_args.gpt_code_stride_len / config.model_args.input_sample_rate
        self._speakers: dict[str, Any] = model.speaker_manager.speakers if model.speaker_manager else {}

    @property
    def languages(self) -> frozenset[str]:
        """Base languages."""
        return frozenset(language.split("-")[0] for language in self._model.config.languages)

    @property
    def speakers(self) -> list[str]:
        """The checkpoint's own speakers."""
        return sorted(self._speakers)

    def max_chars(self, language: str) -> int:
        """How many characters of a language the model was made for in one piece."""
        return int(self._model.tokenizer.char_limits.get(language, 200))

    def built_in(self, speaker: str) -> Latents:
        """One of `speakers`."""
        conditioning, embedding = self._speakers[speaker].values()
        return Latents(conditioning.to(self._model.device), embedding.to(self._model.device))

    def clone(self, samples: Samples) -> Latents:
        """The voice of a recording: float32 (n_samples,), mono, 22 050 Hz. Call it before `halve`.

        Raises:
            ValueError: it is too short.
        """
        if samples.shape[0] < _MIN_REFERENCE_S * REFERENCE_RATE_HZ:
            raise ValueError(f"the recording is shorter than {_MIN_REFERENCE_S} s")
        config = self._model.config
        audio = torch.from_numpy(samples).unsqueeze(0)[:, : REFERENCE_RATE_HZ * config.max_ref_len]
        audio = audio.to(self._model.device)
        if config.sound_norm_refs:
            audio = audio / audio.abs().max() * 0.75
        return Latents(
            self._model.get_gpt_cond_latents(
                audio, REFERENCE_RATE_HZ, length=config.gpt_cond_len, chunk_length=config.gpt_cond_chunk_len
            ),
            self._model.get_speaker_embedding(audio, REFERENCE_RATE_HZ),
        )

    def halve(self) -> None:
        """Keep the GPT in float16. The vocoder stays as it is: it is small, and noise there is heard."""
        gpt = self._model.gpt.half()
        gpt.gpt.wpe = _no_positions(gpt.model_dim)
        self._dtype = torch.float16

    def sentence(self, text: str, language: str, voice: Latents, max_s: float) -> Sentence | None:
        """A text made ready; None: it is more than the model takes in one piece.

        Args:
            text: any; numbers and abbreviations are spelled out.
            language: one of `languages`.
            voice: who says it.
            max_s: seconds of speech after which it is cut off.

        Raises:
            InvalidText: the library can't read something in it aloud, such as a number of 30 digits.
        """
        try:
            tokens = tuple(self._model.tokenizer.encode(text.strip().lower(), lang=language))
        except (ArithmeticError, LookupError, ValueError, TypeError, NotImplementedError) as error:
            raise InvalidText(
                Stage.TTS, f"XTTS can't read all of {len(text)} characters aloud: {type(error).__name__}"
            ) from error
        if len(tokens) >= self._model.args.gpt_max_text_tokens:
            return None
        return Sentence(tokens, voice, min(max(1, round(max_s / self._token_s)), self._model.gpt.max_gen_mel_tokens))

    def seconds(self, speech: Tensor) -> float:
        """How long an answer of `generate` will sound at speed 1."""
        return float(speech.shape[1] * self._token_s)

    def generate(self, sentences: Sequence[Sentence]) -> list[Tensor]:
        """What the GPT says to each sentence, for `vocode`: float32 (1, n_audio_tokens, n_channels).

        Raises:
            GpuOutOfMemory: the batch didn't fit; what was reserved for it is given back to the device.
            ModelFailed: torch raised anything else.
        """
        return translated(lambda: self._generate(sentences))

    def vocode(self, speech: Tensor, voice: Latents, speed: float) -> Samples:
        """Samples, float32 (n_samples,), mono, at `sample_rate_hz`; `speed` above 1 makes fewer of them.

        Raises:
            GpuOutOfMemory, ModelFailed: as `generate`.
        """
        return translated(lambda: self._vocode(speech, voice, speed))

    def _generate(self, sentences: Sequence[Sentence]) -> list[Tensor]:
        gpt = self._model.gpt
        if self._sampling.seed is not None:
            torch.manual_seed(self._sampling.seed)
        prefixes = [self._prefix(sentence) for sentence in sentences]
        longest = max(prefix.shape[1] for prefix in prefixes)
        batch = prefixes[0].new_zeros(len(prefixes), longest, gpt.model_dim)
        inputs = torch.ones(len(prefixes), longest + 1, dtype=torch.long, device=batch.device)
        mask = torch.zeros_like(inputs)
        inputs[:, -1] = gpt.start_audio_token
        for row, prefix in enumerate(prefixes):
            batch[row, longest - prefix.shape[1] :] = prefix[0]
            mask[row, longest - prefix.shape[1] :] = 1
        gpt.gpt_inference.store_prefix_emb(batch)
        codes = gpt.gpt_inference.generate(
            inputs,
            attention_mask=mask,
            bos_token_id=gpt.start_audio_token,
            pad_token_id=gpt.stop_audio_token,
            eos_token_id=gpt.stop_audio_token,
            max_new_tokens=max(sentence.max_audio_tokens for sentence in sentences),
            **self._choice(),
        )[:, longest + 1 :]
        return [self._spoken(sentence, row) for sentence, row in zip(sentences, codes, strict=True)]

    def _prefix(self, sentence: Sentence) -> Tensor:
        """What the GPT continues: the voice, then the text. (1, n, n_channels)."""
        gpt = self._model.gpt
        gpt.compute_embeddings(sentence.voice.conditioning.to(self._dtype), self._text(sentence))
        return cast("Tensor", gpt.gpt_inference.cached_prefix_emb)

    def _spoken(self, sentence: Sentence, codes: Tensor) -> Tensor:
        """The GPT's last layer over one sentence and what it said to it, up to the end that it found."""
        gpt = self._model.gpt
        ends = (codes == gpt.stop_audio_token).nonzero()
        n_codes = min(int(ends[0]) + 1 if len(ends) else len(codes), sentence.max_audio_tokens)
        text = self._text(sentence)
        speech = gpt(
            text,
            torch.tensor([text.shape[1]], device=text.device),
            codes[None, :n_codes],
            torch.tensor([n_codes * gpt.code_stride_len], device=text.device),
            cond_latents=sentence.voice.conditioning.to(self._dtype),
            return_latent=True,
        )
        return cast("Tensor", speech.float())

    def _text(self, sentence: Sentence) -> Tensor:
        return torch.tensor([sentence.tokens], dtype=torch.int, device=self._model.device)

    def _choice(self) -> dict[str, float | bool]:
        """How the next token is picked, in the words of transformers."""
        config = self._model.config
        penalty = {"repetition_penalty": float(config.repetition_penalty), "num_beams": 1}
        temperature = config.temperature if self._sampling.temperature is None else self._sampling.temperature
        if temperature == 0:
            return {"do_sample": False, **penalty}
        return {
            "do_sample": True,
            "temperature": float(temperature),
            "top_k": config.top_k,
            "top_p": float(config.top_p),
            **penalty,
        }

    def _vocode(self, speech: Tensor, voice: Latents, speed: float) -> Samples:
        if speed != 1.0:
            speech = torch.nn.functional.interpolate(speech.mT, scale_factor=1 / speed, mode="linear").mT
        wave = self._model.hifigan_decoder(speech, g=voice.embedding)
        return np.asarray(wave.flatten().cpu().numpy(), dtype=np.float32)


def _no_positions(n_channels: int) -> Callable[[Tensor], Tensor]:
    """The library's stand-in for GPT-2's own positions, in float16: its float32 would turn all that follows into it."""
    return lambda positions: torch.zeros(*positions.shape, n_channels, dtype=torch.float16, device=positions.device)
