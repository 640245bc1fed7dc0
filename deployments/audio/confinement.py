"""What a process that decodes strangers' bytes has, and what is taken from it."""

import os
import resource
import sys

MEMORY_LIMIT_BYTES = 1024 * 1024 * 1024
"""Address space beyond what the loaded process has. A minute at 192 kHz in stereo takes about 0.4 GiB."""
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "LANG", "TZ")


def environment() -> dict[str, str]:
    """What such a process inherits; above all no key of a service."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {**inherited, "PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}


def confine() -> None:
    """Take from this process what decoding doesn't need: more memory, files, core dumps."""
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 - one line, and nothing to import
        used_bytes = int(statm.read().split()[0]) * resource.getpagesize()
    limit_bytes = used_bytes + MEMORY_LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))
