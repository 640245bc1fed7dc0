"""What coqui-tts needs before it can be used: torchaudio on machines without CUDA, and published models on disk.

Importing this module is cheap; its functions need torch and coqui-tts.
"""

import importlib
import sys
import types
from pathlib import Path


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


def download(name: str, *, accept_licence: bool) -> Path:
    """The folder of a model that Coqui publishes; it is fetched once.

    Raises:
        ValueError: its licence isn't accepted, or Coqui has no such model.
        OSError: it can't be fetched.
    """
    import_torchaudio()
    manage = importlib.import_module("TTS.utils.manage")
    manager = manage.ModelManager(progress_bar=False)
    # The library asks on standard input, where a replica has nobody to answer.
    manager.ask_tos = lambda _folder: accept_licence
    try:
        path, _, _ = manager.download_model(name)
    except KeyError as error:
        raise ValueError(f"model: Coqui has no {name!r}") from error
    except RuntimeError as error:
        raise ValueError(f"model: {name} is under a licence (CPML, non-commercial); set accept_cpml: true") from error
    path = Path(path)
    return path if path.is_dir() else path.parent
