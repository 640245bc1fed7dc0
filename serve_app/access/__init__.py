"""Who may connect, what they may open, and how much they may send. PURE.

Time is an argument; nothing here knows sockets. All of it is off until it is configured, and refuses whatever it can't
make out once it is on. Counts are those of one ingress replica.
"""

from serve_app.access.auth import (
    ANYONE,
    Authenticator,
    Subject,
)
from serve_app.access.credentials import Credentials, credentials
from serve_app.access.entry import (
    Access,
    AccessDenied,
    Caller,
    Principal,
    Reason,
)
from serve_app.access.options import (
    AccessOptions,
    AuthOptions,
    LimitsConfig,
    Rates,
)

__all__ = [
    "ANYONE",
    "Access",
    "AccessDenied",
    "AccessOptions",
    "AuthOptions",
    "Authenticator",
    "Caller",
    "Credentials",
    "LimitsConfig",
    "Principal",
    "Rates",
    "Reason",
    "Subject",
    "credentials",
]
