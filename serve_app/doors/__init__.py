"""Who may connect, what they may open, and how much they may send. PURE.

Time is an argument; nothing here knows sockets. All of it is off until it is configured, and refuses whatever it can't
make out once it is on. Counts are those of one ingress replica.
"""

from serve_app.doors.auth import (
    ANYONE,
    Authenticator,
    Subject,
)
from serve_app.doors.entry import (
    Caller,
    Doors,
    Guest,
    Reason,
    Refused,
)
from serve_app.doors.options import (
    AuthOptions,
    DoorsOptions,
    LimitsConfig,
    Rates,
)

__all__ = [
    "ANYONE",
    "AuthOptions",
    "Authenticator",
    "Caller",
    "Doors",
    "DoorsOptions",
    "Guest",
    "LimitsConfig",
    "Rates",
    "Reason",
    "Refused",
    "Subject",
]
