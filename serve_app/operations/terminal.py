"""What `livedub serve` shows: its own lines, and the logs of all its processes that Ray hands over line by line.

Processes always log JSON. On a terminal it becomes readable lines; elsewhere it goes on as it is, without what Ray
writes in front. Ray's own chatter is left out; Ray keeps all of it in the logs of its session.
"""

import json
import os
import re
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from io import TextIOBase
from typing import Any, Literal, TextIO

LogFormat = Literal["auto", "text", "json"]
_PREFIX = re.compile(r"(?:\x1b\[\d+m)?\(((?:[^()]|\([^()]*\))*?)(?: pid=[^()]*)?\)(?:\x1b\[0?m)? ?(.*)")
_SERVES = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) \S+ \S+ (\S+) \S+ -- (.*)")
_RAYS = re.compile(r"\S+ \S+\t(DEBUG|INFO|WARNING|ERROR|CRITICAL) (\S+?):\d+ -- (.*)")
_QUIET = ("ServeController", "ProxyActor", "build_serve_application")
"""Their tracebacks are left out, and before the service is ready their warnings too: the launcher tells of those."""
_EXPECTED = (
    "Token authentication is enabled",
    "ServeController.graceful_shutdown failed",  # it ends itself
    "Started Serve in namespace",
    "Connecting to existing Serve app",
)
_COLOURS = {"warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}
_PLAIN = "\x1b[0m"
_LOUD = ("warning", "error", "critical")


class Console:
    """Writes to one stream, from any thread.

    Args:
        out: where to.
        log_format: text, json, or auto: text where `out` is a terminal.
    """

    def __init__(self, out: TextIO, log_format: LogFormat = "auto") -> None:
        self._out = out
        self._text = log_format == "text" or (log_format == "auto" and out.isatty())
        self._coloured = out.isatty() and not os.environ.get("NO_COLOR")
        self._own_as_json = log_format == "json"
        self._lock = threading.Lock()
        self._shown: dict[str, bool] = {}
        """Whether each process's last entry was shown, and so what follows it."""
        self.ready = False
        """Whether the service has come up."""
        self.unread = False
        """Whether nobody is there any more to read."""

    def tell(self, line: str) -> None:
        """A line of the command's own."""
        if self._own_as_json:
            level = line.partition(":")[0] if line.startswith(("error:", "warning:")) else "info"
            self._entry("livedub", {"event": line, "level": level})
        else:
            self._write(f"livedub: {line}")

    def show(self, line: str) -> None:
        """A line that a process of Ray wrote."""
        if not line.strip() or any(one in line for one in _EXPECTED):
            return
        prefixed = _PREFIX.fullmatch(line)
        process, text = prefixed.groups() if prefixed else ("livedub", line)
        process = process.rpartition(":")[2] if process.startswith("ServeReplica:") else process
        entry = _entry_of(text)
        if entry is None:
            if self._shown.get(process, not process.startswith(_QUIET)):
                self._continued(process, text)
            return
        loud = str(entry.get("level", "info")) in _LOUD
        quiet = process.startswith(_QUIET)
        if entry.pop("serves", False) or quiet:
            self._shown[process] = loud and not quiet
            if (self._text and not loud) or (loud and quiet and not self.ready):
                return
        else:
            self._shown[process] = True
        self._entry(process, entry)

    def _continued(self, process: str, text: str) -> None:
        if self._text:
            self._write(f"  {text}")
        else:
            self._entry(process, {"event": text})

    def _entry(self, process: str, entry: dict[str, Any]) -> None:
        entry.setdefault("level", "info")
        entry.setdefault("timestamp", datetime.now(UTC).isoformat().replace("+00:00", "Z"))
        if self._text:
            colour = _COLOURS.get(str(entry["level"]), "") if self._coloured else ""
            self._write(f"{colour}{_readable(process, entry)}{_PLAIN if colour else ''}")
        else:
            self._write(json.dumps({**entry, "process": process}, ensure_ascii=False))

    def _write(self, line: str) -> None:
        try:
            with self._lock:
                self._out.write(line + "\n")
                self._out.flush()
        except OSError:  # the terminal was closed, or the other end of a pipe; what runs must still be stopped in order
            self.unread = True

    def stream(self) -> "Lines":
        """What may stand in for `sys.stdout` or `sys.stderr`."""
        return Lines(self)


class Lines(TextIOBase):
    """Cuts what is written into lines."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rest = ""
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        """Take text; whole lines are shown."""
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._console.show(line)
        return len(text)

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """Of the process's own stderr: some libraries ask."""
        return sys.__stderr__.fileno() if sys.__stderr__ is not None else 2


def _entry_of(text: str) -> dict[str, Any] | None:
    """The log entry that begins with this line; None: it belongs to what came before."""
    if text.startswith("{"):
        try:
            entry = json.loads(text)
        except ValueError:
            return None
        if not isinstance(entry, dict):
            return None
        if "event" in entry:
            return entry
        if "levelname" in entry and "message" in entry:  # Serve's, where it logs JSON
            told = {"event": str(entry["message"]), "level": str(entry["levelname"]).lower(), "serves": True}
            return told | ({"exception": entry["exc_text"]} if entry.get("exc_text") else {})
        return None
    found = _SERVES.fullmatch(text) or _RAYS.fullmatch(text)
    return None if found is None else {"event": found[3], "level": found[1].lower(), "logger": found[2], "serves": True}


def _readable(process: str, entry: Mapping[str, Any]) -> str:
    """`12:30:01 warning Asr: event key=value`, and a traceback below."""
    hidden = ("event", "level", "logger", "timestamp", "exception", "stack")
    values = "".join(f" {key}={value}" for key, value in entry.items() if key not in hidden and value is not None)
    below = [line for key in ("exception", "stack") for line in str(entry.get(key) or "").splitlines()]
    return "\n  ".join(
        [f"{_time_of_day(str(entry['timestamp']))} {entry['level']:<7} {process}: {entry['event']}{values}", *below]
    )


def _time_of_day(timestamp: str) -> str:
    """Of this machine."""
    try:
        return f"{datetime.fromisoformat(timestamp).astimezone():%H:%M:%S}"
    except ValueError:
        return timestamp
