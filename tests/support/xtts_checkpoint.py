"""An XTTS v2 checkpoint with random weights: every file that the real one has, loaded and run by the same code.

It speaks noise. What is tested with it is shapes, lengths and errors, never what is heard.
"""

import importlib
import json
from pathlib import Path

import torch

from deployments.tts.coqui_library import import_torchaudio

_LETTERS = "abcdefghijklmnopqrstuvwxyzáéíñóúü0123456789.,;:!?¿¡-'"
_SPECIAL = ("[STOP]", "[UNK]", "[SPACE]", "[START]", "[en]", "[es]", "[fr]", "[de]")
SPEAKERS = ("Ana", "Luis")
MODEL_FILE = "model.pth"


def write_tiny(directory: Path, *, max_audio_tokens: int = 64, ends: bool = True) -> Path:
    """Two narrow layers, 93 MB in all (the vocoder is the real one's), about a second.

    Without `ends` it speaks for as long as it may, whatever the text.
    """
    return _write(
        directory,
        ends=ends,
        gpt_layers=2,
        gpt_n_model_channels=64,
        gpt_n_heads=2,
        decoder_input_dim=64,
        gpt_max_audio_tokens=max_audio_tokens,
    )


def write_full(directory: Path) -> Path:
    """As large as the published XTTS v2: 30 layers of 1024 channels, 1.9 GB. It never finds an end to a text."""
    return _write(directory, ends=False)


def _write(directory: Path, *, ends: bool, **sizes: int) -> Path:
    import_torchaudio()
    configs = importlib.import_module("TTS.tts.configs.xtts_config")
    models = importlib.import_module("TTS.tts.models.xtts")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "vocab.json").write_text(json.dumps(_vocabulary()), encoding="utf-8")
    arguments = configs.XttsArgs(
        gpt_use_perceiver_resampler=True,
        gpt_number_text_tokens=len(_SPECIAL) + len(_LETTERS),
        gpt_start_text_token=_SPECIAL.index("[START]"),
        gpt_stop_text_token=_SPECIAL.index("[STOP]"),
        **sizes,
    )
    # The values that the published checkpoint has, where they differ from the library's defaults.
    config = configs.XttsConfig(
        model_args=arguments,
        temperature=0.75,
        repetition_penalty=5.0,
        gpt_cond_len=30,
        gpt_cond_chunk_len=4,
        max_ref_len=30,
    )
    config.save_json(str(directory / "config.json"))
    torch.manual_seed(0)
    model = models.Xtts(config)
    if not ends:
        model.gpt.mel_head.bias.data[arguments.gpt_stop_audio_token] = -1e4
    torch.save({"model": model.state_dict(), "config": config.to_dict()}, directory / MODEL_FILE)
    torch.save({name: _speaker(arguments.gpt_n_model_channels) for name in SPEAKERS}, directory / "speakers_xtts.pth")
    return directory


def _speaker(n_channels: int) -> dict[str, torch.Tensor]:
    return {"gpt_cond_latent": torch.randn(1, 32, n_channels), "speaker_embedding": torch.randn(1, 512, 1)}


def _vocabulary() -> dict[str, object]:
    """A tokenizer whose tokens are characters."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "special": True, "content": content}
            | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            for number, content in enumerate(_SPECIAL)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "[UNK]",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "vocab": {content: number for number, content in enumerate((*_SPECIAL, *_LETTERS))},
            "merges": [],
        },
    }
