"""The machine's part: an address to listen on, a folder for Ray's sockets and logs, where Ray keeps its token."""

import errno
import os
import random
import socket
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from serve_app.configuration.loading import ConfigError

MAX_SOCKET_PATH_BYTES = 107
"""Of an AF_UNIX address in Linux."""
FREE_PORTS = range(20_000, 30_000)
"""Below those from which Linux takes the near end of a connection (32768 on), above those of Ray's workers."""
_USUAL_TMPDIR = "/tmp"  # noqa: S108  # nosec B108 - Ray's own default


def reserve(host: str, port: int) -> socket.socket:
    """Make sure that nobody listens there, and that a second livedub sees it taken while this one still starts.

    Serve's proxies share their ports (SO_REUSEPORT), so two services would answer in turn.

    Returns:
        What keeps it, to be held as long as the service lives: a name that ends with its process. (The port itself,
        bound and not listened on, could not be kept while ends of past connections wait.)

    Raises:
        ConfigError: it is in use, or no address of this machine.
    """
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(f"can't listen on {host}: {error.strerror}; choose an address with --host") from None
    keeper = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if sys.platform == "linux":
            keeper.bind(f"\0livedub {host} {port}")
        for family, kind, protocol, _, address in places:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ends of past connections don't matter
                probe.bind(address)
                probe.listen(1)
    except OSError as error:
        keeper.close()
        raise ConfigError(_told(host, port, error)) from None
    return keeper


def free_port(host: str = "127.0.0.1") -> int:
    """A port of this machine on which nobody listens, which no connection made meanwhile takes for its near end.

    Raises:
        ConfigError: none was found.
    """
    for port in random.sample(FREE_PORTS, k=100):
        with suppress(ConfigError), reserve(host, port):
            return port
    raise ConfigError(f"found no free port from {FREE_PORTS.start} to {FREE_PORTS.stop - 1} of {host}: name one")


def _told(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} of {host} is in use by another program, or another livedub: choose one with --port "
            "(or LIVEDUB_PORT, or http_options.port in the file)"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine: choose one with --host (or LIVEDUB_HOST)"
    if error.errno == errno.EACCES:
        return f"port {port} needs privileges: choose one above 1023 with --port (or LIVEDUB_PORT)"
    return f"can't listen on port {port} of {host}: {error.strerror}; choose others with --host and --port"


def check_folder(environ: Mapping[str, str]) -> None:
    """Make sure that Ray can make its session's folder, and sockets in it.

    Raises:
        ConfigError: naming the folder and what to do.
    """
    name, folder = _temporary(environ)
    session = f"session_{datetime.now().astimezone():%Y-%m-%d_%H-%M-%S_%f}_{os.getpid()}"  # as Ray names it
    longest = folder / "ray" / session / "sockets" / "plasma_store"
    excess = len(os.fsencode(longest)) - MAX_SOCKET_PATH_BYTES
    given = f"{name}={folder}" if name else str(folder)
    if excess > 0:
        room = len(os.fsencode(folder)) - excess
        raise ConfigError(f"{given} is too long for Ray's sockets: set RAY_TMPDIR to a folder of at most {room} bytes")
    place = folder / "ray"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"livedub")
            file.flush()
    except OSError as error:
        raise ConfigError(
            f"{given}: Ray can't write in {place}: {error.strerror}; set RAY_TMPDIR to a folder where it can"
        ) from None


def ray_logs(environ: Mapping[str, str]) -> Path:
    """Where Ray keeps the logs of this session: all that the console leaves out is there."""
    return _temporary(environ)[1] / "ray" / "session_latest" / "logs" / "serve"


def dashboard_token(environ: Mapping[str, str]) -> str:
    """What the dashboard asks for, which Ray has made for this user."""
    if environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return "(it asks for no token)"
    path = Path(environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    token = environ.get("RAY_AUTH_TOKEN", "")
    with suppress(OSError):
        token = token or path.read_text(encoding="utf-8").strip()
    return f"(token: {token})" if token else f"(its token lies in {path})"


def _temporary(environ: Mapping[str, str]) -> tuple[str, Path]:
    """The variable that names it, if one does, and the folder in which Ray makes its own."""
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if environ.get(name)), "")
    return name, Path(environ[name] if name else _USUAL_TMPDIR)
