"""What a media-service worker runs: DubClient and the command line.

Warnings go to the logger `livedub.client`; nothing is printed until the program gives it, or the root, a handler.
"""

import logging

from client.dub_client import DubClient
from client.errors import ConnectFailed, DubError, InitRefused, StreamFailed
from client.fragment import CONNECTION_LOST, NO_ANSWER, Failure, Fragment, FragmentResult
from client.patience import Patience
from serve_app.protocol import StreamConfig

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
    "Patience",
    "StreamConfig",
    "StreamFailed",
]

logging.getLogger("livedub").addHandler(logging.NullHandler())  # else Python prints warnings that nobody handles
