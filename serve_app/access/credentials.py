"""Where a caller of an HTTP door carries its key or token. PURE."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

SCHEMES = ("token", "bearer")
"""Of an Authorization header, and of a browser's pair of subprotocols, which can send no headers."""
KEY_PROTOCOL = "openai-insecure-api-key."
"""Of one subprotocol among others, as browsers send a key to OpenAI's realtime sessions."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What was found."""

    token: str | None
    subprotocol: str | None = None
    """Of those offered, the one to answer with: a client that offered some takes no answer for a refusal."""

    @property
    def auth(self) -> dict[str, str] | None:
        """As a handshake's `auth` has it."""
        return None if self.token is None else {"token": self.token}


def credentials(headers: Mapping[str, str], subprotocols: Sequence[str] = ()) -> Credentials:
    """The key or token of a request.

    Args:
        headers: by lower-case name.
        subprotocols: that a WebSocket offers; `["token", KEY]` is how browsers send one.
    """
    offered = subprotocols[0] if subprotocols else None
    scheme, _, token = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() in SCHEMES and token.strip():
        return Credentials(token.strip(), offered)
    for name, value in pairwise(subprotocols):
        if name.lower() in SCHEMES:
            return Credentials(value, name)
    for name in subprotocols:
        if name.startswith(KEY_PROTOCOL):
            return Credentials(name.removeprefix(KEY_PROTOCOL), offered)
    return Credentials(None, offered)
