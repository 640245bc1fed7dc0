"""Moonshine's encoder and decoder: from samples to tokens to text. It knows no file, and of ONNX Runtime only `run`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deployments.contracts.engines import Samples

LOOP_TIMES = 4
LOOP_TOKENS = 16
"""What is said so often, and fills so many tokens with it, is the model going round in circles."""

_START, _END = 1, 2
_SPOKEN = range(3, 32_000)
"""Tokens with a text; the others are marks."""
_WORD_BEGINS = "\u2581"
_N_LAYERS, _N_HEADS, _HEAD_SIZE = 6, 8, 36
_TWO_BYTES = 128
"""A length from here on has a second byte, of the multiples of this."""


class Session(Protocol):
    """A model of ONNX Runtime."""

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """The outputs that are asked for, in order; None: all."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What the model said of one sound."""

    tokens: tuple[int, ...]
    """Without start and end."""
    probabilities: tuple[float, ...]
    """Of each token, in [0, 1]."""
    repeats: bool = False
    """The rest went round in circles and is cut off."""
    ended: bool = True
    """The model came to an end by itself."""

    @property
    def confidence(self) -> float:
        """The mean of the probabilities; 0 where there is no token."""
        return min(max(float(np.mean(self.probabilities)), 0.0), 1.0) if self.probabilities else 0.0


class SpeechModel:
    """Encoder, decoder and the tokens' texts. Calls share nothing, so several may run at once.

    Args:
        encoder: from samples to what the decoder looks at.
        decoder: from a token to the next one, with what it remembers handed in and out.
        pieces: each token's text, UTF-8 or a part of it.
    """

    def __init__(self, encoder: Session, decoder: Session, pieces: Sequence[bytes]) -> None:
        self._encoder = encoder
        self._decoder = decoder
        self._pieces = pieces

    def hear(self, samples: Samples, max_tokens: int) -> Heard:
        """Decode greedily until the model ends, goes round in circles or has said `max_tokens`.

        Args:
            samples: float32 (n_samples,), mono, [-1, 1], 16 000 Hz, no fewer than MIN_SAMPLES.
            max_tokens: at least 1.
        """
        sound = np.ascontiguousarray(samples, dtype=np.float32)[None]
        mask = np.ones(sound.shape, dtype=np.int64)
        [states] = self._encoder.run(None, {"input_values": sound, "attention_mask": mask})
        fixed = {"encoder_hidden_states": states, "encoder_attention_mask": mask}
        memory = {
            name: np.zeros((1, _N_HEADS, 0, _HEAD_SIZE), dtype=np.float32) for name in _memory("encoder", "decoder")
        }
        tokens: list[int] = []
        probabilities: list[float] = []
        while len(tokens) < max_tokens:
            # The encoder's part is made by the first step and stays.
            kept = _memory("decoder") if tokens else _memory("encoder", "decoder")
            inputs = {
                "input_ids": np.array([[tokens[-1] if tokens else _START]], dtype=np.int64),
                "use_cache_branch": np.array([bool(tokens)]),
                **fixed,
                **memory,
            }
            logits, *remembered = self._decoder.run(["logits", *kept.values()], inputs)
            memory.update(zip(kept, remembered, strict=True))
            token, probability = _likeliest(logits[0, -1])
            if token == _END:
                return Heard(tuple(tokens), tuple(probabilities))
            tokens.append(token)
            probabilities.append(probability)
            n_kept = before_loop(tokens)
            if n_kept is not None:
                return Heard(tuple(tokens[:n_kept]), tuple(probabilities[:n_kept]), repeats=True)
        return Heard(tuple(tokens), tuple(probabilities), ended=False)

    def text(self, tokens: Sequence[int]) -> str:
        """What tokens say: marks left out, one space between words, none around."""
        spoken = b"".join(self._pieces[token] for token in tokens if token in _SPOKEN)
        return " ".join(spoken.decode("utf-8", "ignore").replace(_WORD_BEGINS, " ").split())


def before_loop(tokens: Sequence[int]) -> int | None:
    """How many tokens to keep of those whose end says the same thing again and again: that is kept once.

    Returns:
        None where the end doesn't repeat itself `LOOP_TIMES`, or fills fewer than `LOOP_TOKENS` with that.
    """
    for period in range(1, len(tokens) // LOOP_TIMES + 1):
        span = period * max(LOOP_TIMES, math.ceil(LOOP_TOKENS / period))
        if span > len(tokens):
            continue
        tail = tokens[-span:]
        if tail[period:] == tail[:-period]:
            return len(tokens) - span + period
    return None


def read_pieces(data: bytes) -> list[bytes]:
    """Each token's text in a tokenizer.bin: one length after the other, each with so many bytes behind it.

    Raises:
        ValueError: the data end within a text.
    """
    pieces: list[bytes] = []
    at = 0
    while at < len(data):
        length, at = data[at], at + 1
        if length >= _TWO_BYTES:
            more, at = data[at : at + 1], at + 1
            length += (more[0] - 1) * _TWO_BYTES if more else len(data)
        if at + length > len(data):
            raise ValueError(
                f"the text of token {len(pieces)} ends behind the end of the tokenizer's {len(data)} bytes"
            )
        pieces.append(data[at : at + length])
        at += length
    return pieces


def _memory(*sides: str) -> dict[str, str]:
    """What the decoder remembers, by the name under which it goes in: the one under which it comes out."""
    places = [f"{layer}.{side}.{kind}" for layer in range(_N_LAYERS) for side in sides for kind in ("key", "value")]
    return {f"past_key_values.{place}": f"present.{place}" for place in places}


def _likeliest(logits: NDArray[np.float32]) -> tuple[int, float]:
    """The token (n_tokens,) → its number and its probability."""
    token = int(logits.argmax())
    return token, float(1 / np.exp(logits - logits[token]).sum())
