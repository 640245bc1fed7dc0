"""What a media-service worker runs: DubClient, TranscribeClient and the command line.

Warnings go to the logger `livedub.client`; nothing is printed until the program gives it, or the root, a handler. What
is named here is imported when it is used, so that the command line need not wait for it.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from livedub.dub_client import DubClient
    from livedub.errors import ConnectFailed, DubError, InitRefused, StreamFailed
    from livedub.fragment import CONNECTION_LOST, NO_ANSWER, Failure, Fragment, FragmentResult
    from livedub.timeouts import Timeouts
    from livedub.transcribe_client import TranscribeClient
    from serve_app.protocol import (
        StreamConfig,
        TranscriptComplete,
        TranscriptFinal,
        TranscriptionConfig,
        TranscriptUpdate,
    )

__all__ = [
    "CONNECTION_LOST",
    "NO_ANSWER",
    "ConnectFailed",
    "DubClient",
    "DubError",
    "Failure",
    "Fragment",
    "FragmentResult",
    "InitRefused",
    "StreamConfig",
    "StreamFailed",
    "Timeouts",
    "TranscribeClient",
    "TranscriptComplete",
    "TranscriptFinal",
    "TranscriptUpdate",
    "TranscriptionConfig",
]
_HOMES = {
    "livedub.dub_client": ("DubClient",),
    "livedub.errors": ("ConnectFailed", "DubError", "InitRefused", "StreamFailed"),
    "livedub.fragment": ("CONNECTION_LOST", "NO_ANSWER", "Failure", "Fragment", "FragmentResult"),
    "livedub.timeouts": ("Timeouts",),
    "livedub.transcribe_client": ("TranscribeClient",),
    "serve_app.protocol": (
        "StreamConfig",
        "TranscriptComplete",
        "TranscriptFinal",
        "TranscriptUpdate",
        "TranscriptionConfig",
    ),
}

logging.getLogger("livedub").addHandler(logging.NullHandler())  # else Python prints warnings that nobody handles


def __getattr__(name: str) -> object:
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
