"""What this server fetches or posts to because somebody else named a URL: from public addresses alone, in time."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from serve_app.access.addresses import is_public

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
"""Without a byte."""
MAX_REDIRECTS = 3


class NotReached(Exception):
    """A URL that can't be used; says why. What stands in answers of strangers is not repeated."""


class PublicOnly(httpx.AsyncHTTPTransport):
    """Connects to public addresses only: what a name means is looked up once, checked, and then used."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, of a redirect too.

        Raises:
            NotReached: the host has no address, or one inside a network.
        """
        host, port = request.url.host, request.url.port or (443 if request.url.scheme == "https" else 80)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, TimeoutError):
            raise NotReached(f"the host {host[:100]!r} is not found") from None
        addresses = [str(address[0]) for *_, address in found]
        if not all(map(is_public, addresses)):
            raise NotReached(f"the host {host[:100]!r} is not a public one")
        request.extensions = {**request.extensions, "sni_hostname": host}
        request.url = request.url.copy_with(host=addresses[0])
        return await super().handle_async_request(request)


def client(*, private: bool) -> httpx.AsyncClient:
    """For URLs of strangers.

    Args:
        private: whether addresses inside this server's networks may be meant.
    """
    return httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport() if private else PublicOnly(),
        timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        trust_env=False,
    )


@asynccontextmanager
async def fetched(url: str, *, private: bool) -> AsyncIterator[AsyncIterator[bytes]]:
    """What a URL answers, as it comes; its length is for the caller to bound.

    Raises:
        NotReached: it is no http or https URL, is not reached, or answers with anything but success.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        raise NotReached("it is no URL") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise NotReached("it is no http or https URL")
    async with client(private=private) as fetching:
        try:
            async with fetching.stream("GET", parsed) as response:
                if not response.is_success:
                    raise NotReached(f"it answers with HTTP {response.status_code}")
                yield response.aiter_bytes()
        except httpx.HTTPError as error:
            raise NotReached(f"it is not reached: {type(error).__name__}") from None
