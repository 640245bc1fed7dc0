"""The access itself: lets callers in, lets them open streams, and weighs what they send. PURE."""

import ipaddress
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from serve_app.access.address import caller_address
from serve_app.access.auth import Authenticator, Subject
from serve_app.access.options import AccessOptions, AuthOptions, LimitsConfig, Rates
from serve_app.access.rate_limits import RateLimiter
from serve_app.protocol import ERROR_TABLE, ErrorCode, WireError

Reason = Literal["token", "origin", "limit"]
RETRY_CONNECTION_MS = 5000
"""After how long a caller with too many connections may look again: nobody knows when one ends."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who knocks, as far as the connection tells."""

    peer: str
    """Its address, or that of the proxy before it."""
    origin: str | None = None
    forwarded: str | None = None
    """X-Forwarded-For."""


@dataclass(frozen=True, slots=True)
class Principal:
    """One connection that was let in."""

    subject: Subject
    address: str


class AccessDenied(Exception):
    """A connection is turned down.

    Args:
        reason: for the metric.
        error: what its client is told.
    """

    def __init__(self, reason: Reason, error: WireError) -> None:
        super().__init__(error.message)
        self.reason: Reason = reason
        self.error = error

    def wire(self) -> dict[str, Any]:
        """The `data` of the CONNECT_ERROR."""
        code = self.error.code
        return {
            "code": code.value,
            "message": self.error.message,
            "retryable": ERROR_TABLE[code].retryable,
            "details": self.error.details,
        }


class Access:
    """The access of one ingress replica.

    Args:
        auth: who is let in.
        access: where callers may come from.
    """

    def __init__(self, auth: AuthOptions | None = None, access: AccessOptions | None = None) -> None:
        access = access or AccessOptions()
        self.limits = LimitsConfig()
        """In force right now; may be replaced at any time."""
        self._authenticator = Authenticator(auth or AuthOptions())
        self._origins = access.origins
        self._trusted = [ipaddress.ip_network(network) for network in access.trusted_proxies]
        self._keys = RateLimiter()
        self._addresses = RateLimiter()

    def enter(self, caller: Caller, auth: object, unix_s: float) -> Principal:
        """Let a connection in, or not.

        Raises:
            AccessDenied: AUTH_FAILED for its origin or token, RATE_LIMITED when its caller has too many connections.
        """
        if self._origins is not None and caller.origin is not None and caller.origin.lower() not in self._origins:
            message = f"pages of {caller.origin[:200]!r} may not connect to this server"
            raise AccessDenied("origin", WireError(ErrorCode.AUTH_FAILED, message))
        try:
            subject = self._authenticator.subject(auth, unix_s)
        except WireError as error:
            raise AccessDenied("token", error) from None
        principal = Principal(subject, caller_address(caller.peer, caller.forwarded, self._trusted))
        for whose, accounts, name, rates in self._scales(principal):
            if rates.connections is not None and accounts.connections(name) >= rates.connections:
                message = f"this {whose} has {rates.connections} connections, which is its limit"
                details = {"limit": rates.connections, "retry_after_ms": RETRY_CONNECTION_MS}
                raise AccessDenied("limit", WireError(ErrorCode.RATE_LIMITED, message, details))
        for _, accounts, name, _ in self._scales(principal):
            accounts.enter(name)
        return principal

    def leave(self, principal: Principal, now_s: float) -> None:
        """Its connection is gone. Any monotonic clock, the same as in `check_rate`."""
        for _, accounts, name, rates in self._scales(principal):
            accounts.leave(name, rates, now_s)

    def check_stream(self, principal: Principal, stream_id: str, others: Iterable[Principal], unix_s: float) -> None:
        """Whether a principal may open this stream.

        Args:
            principal: who wants to.
            stream_id: the stream.
            others: the principal of each stream that would stay open beside it.
            unix_s: now.

        Raises:
            WireError: AUTH_FAILED when its token doesn't name the stream or has expired; RATE_LIMITED when it has too
                many streams.
        """
        subject = principal.subject
        if subject.expires_unix_s is not None and unix_s >= subject.expires_unix_s:
            raise WireError(ErrorCode.AUTH_FAILED, "the token has expired; connect with a new one")
        if not subject.may_open(stream_id):
            raise WireError(ErrorCode.AUTH_FAILED, f"the token does not allow stream {stream_id!r}")
        others = list(others)
        for whose, _, name, rates in self._scales(principal):
            if rates.streams is None:
                continue
            theirs = [other.subject.digest if whose == "key" else other.address for other in others]
            if theirs.count(name) >= rates.streams:
                message = f"this {whose} has {rates.streams} streams open, which is its limit"
                details = {"limit": rates.streams, "retry_after_ms": RETRY_CONNECTION_MS}
                raise WireError(ErrorCode.RATE_LIMITED, message, details)

    def check_rate(self, principal: Principal, size_bytes: int, now_s: float) -> None:
        """A principal sends a fragment of this size. Any monotonic clock: a wall clock that is set would lend or take.

        Raises:
            WireError: RATE_LIMITED, with `retry_after_ms` in its details; such a fragment counts for nothing.
        """
        due = []
        for whose, accounts, name, rates in self._scales(principal):
            account = accounts.account(name)
            wait_s = account.wait_s(size_bytes, rates, now_s)
            if wait_s:
                wait_ms = math.ceil(wait_s * 1000)
                message = f"this {whose} sends more than it may; try again in {wait_ms} ms"
                raise WireError(ErrorCode.RATE_LIMITED, message, {"retry_after_ms": wait_ms})
            due.append((account, rates))
        for account, rates in due:
            account.pay(size_bytes, rates, now_s)

    def _scales(self, principal: Principal) -> Iterator[tuple[str, RateLimiter, str, Rates]]:
        """On what a principal is weighed; one without a key by its address alone."""
        if principal.subject.digest:
            yield "key", self._keys, principal.subject.digest, self.limits.per_key
        yield "address", self._addresses, principal.address, self.limits.per_address
