"""One Socket.IO connection: opens, sends, reports what comes and that it is lost. Never reconnects by itself.

It knows events by name only; what they mean to the stream is not its business.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import socketio

from livedub.errors import ConnectFailed
from serve_app.protocol import MAX_MESSAGE_BYTES, ClientEvent, fast_json

_transport_log = logging.getLogger("livedub.client.transport")
_DEFAULT_PATH = "socket.io"
_CLOSE_TIMEOUT_S = 2.0
_MAX_RECEIVED_BYTES = 2 * MAX_MESSAGE_BYTES
"""A dub may be larger than its original: other rate, other coding."""


class _WebSocket(aiohttp.ClientWebSocketResponse):
    """Keeps why the server closed it, which the libraries above leave out."""

    said = ""

    async def receive(self, timeout: float | None = None) -> aiohttp.WSMessage:  # noqa: ASYNC109 - aiohttp's own
        """The next message."""
        message = await super().receive(timeout)
        if message.type is aiohttp.WSMsgType.CLOSE:
            self.said = f"the server closed it with {message.data}{f' ({message.extra})' if message.extra else ''}"
        return message


class ServerConnection:
    """A WebSocket to the server, used once.

    Args:
        url: http(s)://host:port, with the path of the Socket.IO endpoint when it isn't `/socket.io/`.
        token: sent in the handshake when given.
        on_event: called with name and payload of each event, in order; must not block.
        on_lost: called once with the reason when an open connection ends for whatever reason.

    Raises:
        ConnectFailed: the URL can't be one of a server.
    """

    def __init__(
        self, url: str, token: str | None, on_event: Callable[[str, Any], None], on_lost: Callable[[str], None]
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https", "ws", "wss"} or not parts.netloc:
            raise ConnectFailed(f"{url!r} is no server URL; write it like http://127.0.0.1:8000")
        self._url = url
        self._path = parts.path.strip("/") or _DEFAULT_PATH
        self._auth = {"token": token} if token else None
        self._on_event = on_event
        self._on_lost = on_lost
        self._refusal: object = None
        self._session: aiohttp.ClientSession | None = None
        self._sio: Any = None

    async def open(self, timeout_s: float) -> None:
        """Connect, WebSocket only.

        Raises:
            ConnectFailed: nobody answers there, or the handshake is refused (then with the server's code).
        """
        self._session = aiohttp.ClientSession(ws_response_class=_WebSocket)
        sio: Any = socketio.AsyncClient(
            reconnection=False,
            handle_sigint=False,
            logger=_transport_log,  # without one, each library would give its own a handler that prints
            engineio_logger=_transport_log,
            json=fast_json,
            http_session=self._session,
            # aiohttp's own limit is 4 MiB, less than a dub may take.
            websocket_extra_options={"max_msg_size": _MAX_RECEIVED_BYTES},
        )
        self._sio = sio
        sio.on("*", self._received)
        sio.on("connect_error", self._refused)
        sio.on("disconnect", self._lost)
        try:
            async with asyncio.timeout(timeout_s):
                await sio.connect(
                    self._url,
                    auth=self._auth,
                    transports=["websocket"],
                    namespaces=["/"],
                    socketio_path=self._path,
                    wait_timeout=timeout_s,
                )
        except TimeoutError:
            await self.close()
            raise ConnectFailed(
                f"{self._url} did not answer within {timeout_s:g} s: check host, port and that `livedub` serves there"
            ) from None
        except (socketio.exceptions.ConnectionError, aiohttp.ClientError, OSError, ValueError) as error:
            await self.close()
            raise self._failure(error) from None
        except asyncio.CancelledError:
            await self.close()
            raise

    async def emit(self, event: ClientEvent) -> None:
        """Queue an event for sending; a connection that is lost swallows it, `on_lost` has told or will tell."""
        if self._sio is None:
            return
        with contextlib.suppress(socketio.exceptions.SocketIOError):
            await self._sio.emit(event.EVENT, event.model_dump(exclude_none=True))

    async def close(self) -> None:
        """Send what is queued and disconnect, within 2 s each."""
        if self._sio is not None:
            with contextlib.suppress(TimeoutError, socketio.exceptions.SocketIOError, aiohttp.ClientError, OSError):
                if self._sio.connected:
                    async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                        await self._sio.eio.queue.join()
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await self._sio.disconnect()
        if self._session is not None:
            await self._session.close()

    def _received(self, name: str, *arguments: object) -> None:
        self._on_event(name, arguments[0] if arguments else None)

    def _lost(self, reason: str) -> None:
        socket = self._sio.eio.ws
        self._on_lost((socket.said if isinstance(socket, _WebSocket) else "") or reason)

    def _refused(self, reason: object = None) -> None:
        self._refusal = reason

    def _failure(self, error: BaseException) -> ConnectFailed:
        """What the server said in its refusal, or what the network said."""
        if isinstance(self._refusal, dict):
            data = self._refusal.get("data")
            details = data if isinstance(data, dict) else {}
            message = str(details.get("message") or self._refusal.get("message") or "no reason given")
            code = str(details.get("code") or "")
            if not code and "AUTH_FAILED" in message:
                code = "AUTH_FAILED"
            shown = message if code in message else f"{code}: {message}"
            if code == "AUTH_FAILED" and self._auth is None:
                shown += "; give a token: --token or LIVEDUB_TOKEN of the command, `token` of DubClient"
            return ConnectFailed(f"{self._url} refused the connection: {shown}", code)
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, aiohttp.WSServerHandshakeError):
                return ConnectFailed(
                    f"{self._url} answers HTTP {cause.status} instead of opening a WebSocket: "
                    f"is livedub what listens there, and is /{self._path}/ its path?"
                )
            if isinstance(cause, OSError | aiohttp.ClientError):
                return ConnectFailed(f"Can't connect to {self._url}: {cause}. Is the server running there?")
            cause = cause.__cause__ or cause.__context__
        return ConnectFailed(f"Can't connect to {self._url}: {error}. Is the server running there?")
