"""Why a replica did not start, as one sentence: said by the replica, found again in what Ray makes of it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import BaseModel

_MARK = "livedub could not start"
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_SENTENCE = re.compile(rf"{_MARK} (.+)")
_RAISED = re.compile(r"(?:\w+\.)*(\w+): +(\S.*)")
_HUB = ("LocalEntryNotFoundError", "OfflineModeIsEnabled", "RepositoryNotFoundError", "ConnectError", "HfHubHTTPError")
_FETCHED = (
    "; it is neither on this machine nor can it be fetched: see that the name is right and the hub can be reached, "
    "run `livedub fetch` where it can, or name a folder"
)


class NotStarted(RuntimeError):
    """A replica can't be made of its options; the message is the sentence that the operator reads."""


@contextmanager
def told_plainly(name: str, model: str) -> Iterator[None]:
    """Turn whatever is raised inside into NotStarted; the traceback stays with it as its cause, for the log.

    Args:
        name: the deployment.
        model: what it loads.
    """
    try:
        yield
    except Exception as error:
        kind = type(error).__name__
        reason = _FETCHED if kind in _HUB else f": {kind}: {' '.join(str(error).split())}"
        raise NotStarted(f"{_MARK} {name} with {model}{reason}") from error


def name_of(options: BaseModel) -> str:
    """Engine and model, as the configuration names them."""
    told = (getattr(options, field, None) for field in ("engine", "model"))
    return " ".join(str(one) for one in told if one)


def sentence(message: str) -> str:
    """The sentence in what Serve says of an application: the replica's own, or else the last error's."""
    plain = _ANSI.sub("", message)
    own = _SENTENCE.findall(plain)
    if own:
        return f"could not start {own[-1].strip()}"
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    if "Traceback (most recent call last)" not in plain:
        return " ".join(lines)
    raised = [line for line in lines if _RAISED.fullmatch(line)]
    return (raised or lines)[-1]
