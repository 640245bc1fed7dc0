"""Names: which variables of the environment are livedub's, and what was meant by a name that nobody knows."""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

ENV_PREFIX = "LIVEDUB_"
OTHER_VARIABLES = (
    "LIVEDUB_HOST",
    "LIVEDUB_PORT",
    "LIVEDUB_DRAIN_TIMEOUT_S",
    "LIVEDUB_LOG_FORMAT",
    "LIVEDUB_SERVER",
    "LIVEDUB_TOKEN",
)
"""Read by commands and for logs, not as part of the configuration."""
_OURS = re.compile(r"LIVE_?DUB_", re.IGNORECASE)
_TOOLS = ("LIVEDUB_TEST_", "LIVEDUB_BENCH_")
"""Those of tests and measurements."""
_SERVICE_LINK = re.compile(
    r"LIVEDUB_(\w+_)?"
    r"(SERVICE_HOST=.*|SERVICE_PORT(_\w+)?=\d+|PORT(_\d+_(TCP|UDP|SCTP))?=(tcp|udp|sctp)://.*"
    r"|PORT_\d+_(TCP|UDP|SCTP)_(PROTO|PORT|ADDR)=.*)"
)
"""What Kubernetes gives to all containers beside a Service named livedub, unless `enableServiceLinks` is false.

https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables
"""


def own_variables(environ: Mapping[str, str]) -> list[str]:
    """Names that must be settings, in order: those with our prefix, in whatever spelling; a wrong one is no setting."""
    return [
        name
        for name in sorted(environ)
        if _OURS.match(name)
        and not name.startswith(_TOOLS)
        and name not in OTHER_VARIABLES
        and not is_service_link(name, environ[name])
    ]


def is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes set this variable, on behalf of a Service whose name begins with livedub."""
    return _SERVICE_LINK.fullmatch(f"{name}={value}") is not None


def meant(name: str, known: Iterable[str]) -> str:
    """The end of a sentence that names the nearest known name; empty where none is near."""
    by_folded = {one.casefold(): one for one in known}
    near = get_close_matches(name.casefold(), by_folded, n=1)
    return f" (did you mean {by_folded[near[0]]}?)" if near else ""
