"""A VITS checkpoint with random weights, made by the library's own classes: loaded and run like a published one.

It speaks noise. What is tested with it is shapes, lengths and errors, never what is heard.
"""

import importlib
from pathlib import Path
from typing import Any

import torch

from deployments.tts.coqui_library import import_torchaudio

LETTERS = "abcdefghijklmnopqrstuvwxyzáéíñóúü"
SPEAKERS = ("Ana", "Luis")
RATE_HZ = 22_050


def write_vits(directory: Path, *, speakers: tuple[str, ...] = (), languages: tuple[str, ...] = ("es",)) -> Path:
    """A narrow VITS of a few MB, about a second. With `speakers` or several `languages` it embeds them."""
    import_torchaudio()
    configs = importlib.import_module("TTS.tts.configs.vits_config")
    characters = importlib.import_module("TTS.tts.configs.shared_configs").CharactersConfig
    models = importlib.import_module("TTS.tts.models.vits")
    arguments = models.VitsArgs(
        hidden_channels=16,
        hidden_channels_ffn_text_encoder=16,
        num_layers_text_encoder=1,
        num_layers_posterior_encoder=1,
        num_layers_flow=1,
        upsample_initial_channel_decoder=32,
        use_sdp=False,
        use_speaker_embedding=bool(speakers),
        speaker_embedding_channels=16 if speakers else 256,
        use_language_embedding=len(languages) > 1,
        init_discriminator=False,
    )
    config = configs.VitsConfig(
        model_args=arguments,
        characters=characters(
            characters_class="TTS.tts.models.vits.VitsCharacters",
            pad="<PAD>",
            eos="<EOS>",
            bos="<BOS>",
            blank="<BLNK>",
            characters=LETTERS,
            punctuations=".,;:!?¿¡ ",
            phonemes=None,
        ),
        text_cleaner="basic_cleaners",
        use_phonemes=False,
        speakers=list(speakers),
        languages=list(languages),
    )
    torch.manual_seed(0)
    model: Any = models.Vits(config)
    # A sound for a good while on each letter, so that lengths say something.
    model.duration_predictor.proj.bias.data.fill_(1.4)
    directory.mkdir(parents=True, exist_ok=True)
    config.languages = list(languages)  # the model puts "en" where there is none
    config.save_json(str(directory / "config.json"))
    torch.save({"model": model.state_dict(), "config": config.to_dict()}, directory / "model.pth")
    return directory
