"""The connections under DeepL's client: pooled, kept alive, each exchange bounded by its own time."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from requests import PreparedRequest, ReadTimeout, Response
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ReadTimeoutError
from urllib3.util import Timeout as SocketTimeout


class Exchange(threading.local):
    """What the exchange of this thread may take and has brought."""

    timeout_s: float | None = None
    retry_after: str | None = None
    """The header of the last answer."""


class BoundedAdapter(HTTPAdapter):
    """Takes the time of an exchange from the thread that makes it, and keeps the Retry-After header.

    Args:
        connections: kept open at most, for each host.
    """

    def __init__(self, connections: int) -> None:
        self._exchange = Exchange()
        super().__init__(pool_maxsize=connections, max_retries=0)

    @contextmanager
    def within(self, timeout_s: float) -> Iterator[Exchange]:
        """Bound what this thread sends inside: connecting and the first byte together, and each later wait."""
        self._exchange.timeout_s = timeout_s
        self._exchange.retry_after = None
        yield self._exchange

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: object = None,  # noqa: ARG002 - the client's own, one for the process
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> Response:
        """Send one request, with the time of this thread's exchange."""
        bound = SocketTimeout(total=self._exchange.timeout_s)
        # requests takes urllib3's timeouts as they are; only its annotations don't know.
        response = super().send(request, stream, bound, verify, cert, proxies)  # type: ignore[arg-type]
        self._exchange.retry_after = response.headers.get("Retry-After")
        return response


def is_timeout(cause: object) -> bool:
    """Whether requests gave up waiting for an answer; a connection that doesn't come about is none."""
    # While a body is read, requests tells a timeout as a broken connection with the timeout inside.
    inside = cause.args if isinstance(cause, Exception) else ()
    return isinstance(cause, ReadTimeout) or any(isinstance(part, ReadTimeoutError) for part in inside)
