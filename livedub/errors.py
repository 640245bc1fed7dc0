"""What can go wrong for a worker as a whole; a single fragment's failure is a result, not an exception. PURE.

DubError
├── ConnectFailed   nobody answered, or the handshake was refused
├── InitRefused     the server answered and said no to the stream
└── StreamFailed    the stream was open and can't go on
"""

from collections.abc import Mapping


class DubError(Exception):
    """A stream can't be opened or can't go on.

    Args:
        message: what happened and what to do about it, for people.
        code: an error code of the protocol where the server gave one, else empty.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message, code)
        self.message = message
        self.code = code

    def __str__(self) -> str:
        return self.message


class ConnectFailed(DubError):
    """No connection: names the URL and what to check."""


class InitRefused(DubError):
    """The server refused the stream's configuration.

    Args:
        message: the server's words.
        code: the server's error code.
        retryable: whether the same request may succeed later.
        details: what the server says besides, such as what would be allowed.
    """

    def __init__(
        self, message: str, code: str, *, retryable: bool, details: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(message, code)
        self.retryable = retryable
        self.details = dict(details or {})

    def __reduce__(self) -> tuple[object, ...]:
        return (_init_refused, (self.message, self.code, self.retryable, self.details))


class StreamFailed(DubError):
    """The stream can't go on: taken over, closed by the server, or stalled beyond every limit."""


def _init_refused(message: str, code: str, retryable: bool, details: dict[str, object]) -> InitRefused:
    return InitRefused(message, code, retryable=retryable, details=details)
