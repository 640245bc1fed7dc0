"""Who is at the other end of a request."""

from starlette.requests import HTTPConnection

from serve_app.access import Caller


def caller_of(connection: HTTPConnection) -> Caller:
    """Where a request or a WebSocket comes from, as its headers and its socket say."""
    headers = connection.headers
    peer = connection.client.host if connection.client else ""
    return Caller(peer, headers.get("origin"), headers.get("x-forwarded-for"))
