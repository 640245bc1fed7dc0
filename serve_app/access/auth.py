"""API keys and JSON Web Tokens: from what a handshake carries to a subject. PURE."""

import hashlib
import hmac
from dataclasses import dataclass

import jwt

from deployments.patterns import matches
from serve_app.access.options import AuthOptions
from serve_app.protocol import ErrorCode, WireError

MAX_TOKEN_CHARACTERS = 8192
_CLAIMS = ["exp", "aud", "sub", "streams"]


@dataclass(frozen=True, slots=True)
class Subject:
    """One who was let in."""

    digest: str
    """Stands for the key or the token's `sub`; empty where anybody is let in."""
    streams: tuple[str, ...] | None = None
    """Patterns of the stream ids it may open: `*` is any text, `?` any character; None: all."""
    expires_unix_s: float | None = None

    def may_open(self, stream_id: str) -> bool:
        """Whether it may open a stream of this name."""
        return self.streams is None or any(matches(stream_id, pattern) for pattern in self.streams)


ANYONE = Subject("")


class Authenticator:
    """Checks tokens.

    Args:
        options: keys and the secret of tokens.
    """

    def __init__(self, options: AuthOptions) -> None:
        self._options = options
        self._keys = [_digest("key", key.get_secret_value()) for key in options.api_keys or ()]
        self.on = bool(self._keys) or options.jwt_secret is not None

    def subject(self, auth: object, unix_s: float) -> Subject:
        """Who sent this `auth` in the handshake.

        Raises:
            WireError: AUTH_FAILED, saying what is wrong with it but not what would be right.
        """
        if not self.on:
            return ANYONE
        token = auth.get("token") if isinstance(auth, dict) else None
        if not isinstance(token, str) or not token:
            raise _failed("this server wants a token: send {token: …} as the handshake's auth")
        if len(token) > MAX_TOKEN_CHARACTERS or not token.isascii():
            raise _failed("the token is not valid")
        digest = _digest("key", token)
        # All are compared, each in constant time: how long it takes tells nothing.
        if any([hmac.compare_digest(digest, known) for known in self._keys]):  # noqa: C419
            return Subject(digest)
        return self._bearer(token, unix_s)

    def _bearer(self, token: str, unix_s: float) -> Subject:
        secret = self._options.jwt_secret
        if secret is None:
            raise _failed("the token is not valid")
        try:
            claims = jwt.decode(
                token,
                secret.get_secret_value(),
                algorithms=[self._options.jwt_algorithm],
                audience=self._options.jwt_audience,
                # Times are checked below, against the clock that was handed in.
                options={"require": _CLAIMS, "verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except jwt.MissingRequiredClaimError as error:
            raise _failed(f"the token lacks the claim {error.claim!r}") from None
        except jwt.InvalidAudienceError:
            raise _failed("the token is meant for another audience") from None
        except (jwt.InvalidTokenError, ValueError, RecursionError):
            raise _failed("the token is not valid") from None
        expires_unix_s, starts_unix_s = _time(claims["exp"]), _time(claims.get("nbf", 0))
        if unix_s >= expires_unix_s:
            raise _failed("the token has expired")
        if unix_s < starts_unix_s:
            raise _failed("the token is not valid yet")
        return Subject(_digest("sub", claims["sub"]), _patterns(claims["streams"]), expires_unix_s)


def _time(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _failed("the token's times are not numbers")
    return value


def _patterns(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(pattern, str) for pattern in value):
        raise _failed("the token's claim 'streams' is not a list of stream ids or patterns")
    return tuple(value)


def _digest(kind: str, secret: str) -> str:
    return hashlib.sha256(f"{kind}:{secret}".encode()).hexdigest()


def _failed(message: str) -> WireError:
    return WireError(ErrorCode.AUTH_FAILED, message)
