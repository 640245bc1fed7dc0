"""What coqui-tts needs before it can be used: torchaudio on machines without CUDA, and published models on disk.

Importing this module is cheap; its functions need torch and coqui-tts.
"""

import importlib
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def import_torchaudio() -> None:
    """Import torchaudio where its compiled half can't load.

    PyPI builds it for CUDA. A torch without CUDA still runs its Python half, which is all that XTTS calls.
    """
    torch = importlib.import_module("torch")
    if torch.version.cuda is None and "torchaudio" not in sys.modules:
        extension = types.ModuleType("torchaudio._extension")
        vars(extension).update(
            _IS_TORCHAUDIO_EXT_AVAILABLE=False, _IS_ALIGN_AVAILABLE=False, fail_if_no_align=lambda function: function
        )
        sys.modules.setdefault("torchaudio._extension", extension)
    importlib.import_module("torchaudio")


@dataclass(frozen=True, slots=True)
class Files:
    """What one voice is loaded from. Without a vocoder the model makes the sound itself, or Griffin-Lim does."""

    checkpoint: Path
    config: Path
    vocoder: Path | None = None
    vocoder_config: Path | None = None


def download(name: str, *, accept_licence: bool) -> Path:
    """The folder of a model that Coqui publishes; it is fetched once.

    Raises:
        ValueError: its licence isn't accepted, or Coqui has no such model.
        OSError: it can't be fetched.
    """
    manager = _manager(accept_licence=accept_licence)
    try:
        path, _, _ = manager.download_model(name)
    except KeyError as error:
        raise ValueError(f"model: Coqui has no {name!r}") from error
    except RuntimeError as error:
        raise ValueError(f"model: {name} is under a licence (CPML, non-commercial); set accept_cpml: true") from error
    path = Path(path)
    return path if path.is_dir() else path.parent


def download_voice(name: str, *, accept_noncommercial: bool) -> Files:
    """The files of a model that Coqui publishes, and those of the vocoder that goes with it; they are fetched once.

    Raises:
        ValueError: its licence forbids commercial use and isn't accepted, or Coqui has no such model.
        OSError: it can't be fetched.
    """
    manager = _manager(accept_licence=False)
    licence = _licence(manager, name)
    if "-nc" in licence.lower() and not accept_noncommercial:
        raise ValueError(f"model: {name} is under {licence}, non-commercial; set accept_noncommercial: true")
    checkpoint, config, about = manager.download_model(name)
    vocoder = about.get("default_vocoder")
    if vocoder is None:
        return Files(Path(checkpoint), Path(config))
    vocoder_checkpoint, vocoder_config, _ = manager.download_model(vocoder)
    return Files(Path(checkpoint), Path(config), Path(vocoder_checkpoint), Path(vocoder_config))


def _manager(*, accept_licence: bool) -> Any:
    import_torchaudio()
    manager = importlib.import_module("TTS.utils.manage").ModelManager(progress_bar=False)
    # The library asks on standard input, where a replica has nobody to answer.
    manager.ask_tos = lambda _folder: accept_licence
    return manager


def _licence(manager: Any, name: str) -> str:
    if "/fairseq/" in name:
        return "CC BY-NC 4.0"  # a thousand languages, which the library's list doesn't have one by one
    kind, language, dataset, model = name.split("/")
    try:
        return str(manager.models_dict[kind][language][dataset][model].get("license"))
    except KeyError as error:
        raise ValueError(f"model: Coqui has no {name!r}") from error
