"""On a terminal logs are for people, elsewhere they are JSON; Ray's own chatter is in neither."""

import io
import json
import time
from typing import Any

import pytest

from serve_app.operations.terminal import Console

ENTRY = '{"model": "fake", "event": "asr_loaded", "level": "info", "timestamp": "2026-01-02T03:04:05.678Z"}'
NAMELESS = ENTRY.replace('"fake"', "null")
ASR = "(ServeReplica:livedub:Asr pid=12)"
CONTROLLER = "(ServeController pid=7)"
TRACEBACK = 'Traceback (most recent call last):\n  File "x.py", line 3, in load\nKeyError: 1'


@pytest.fixture(autouse=True)
def _utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(*lines: str, log_format: Any = "auto", out: io.StringIO | None = None, ready: bool = True) -> list[str]:
    out = out or io.StringIO()
    console = Console(out, log_format)
    console.ready = ready
    stream = console.stream()
    for line in lines:
        print(line, file=stream)
    return out.getvalue().splitlines()


def text(*lines: str, ready: bool = True) -> list[str]:
    return shown(*lines, log_format="text", ready=ready)


def entries(*lines: str, ready: bool = True) -> list[dict[str, Any]]:
    return [json.loads(line) for line in shown(*lines, ready=ready)]


def test_a_terminal_gets_readable_lines():
    assert shown(f"{ASR} {ENTRY}", out=Terminal()) == ["03:04:05 info    Asr: asr_loaded model=fake"]


def test_warnings_and_errors_have_colours_on_a_terminal(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    line = f"{ASR} {ENTRY.replace('info', 'warning')}"
    assert shown(line, out=Terminal()) == ["\x1b[33m03:04:05 warning Asr: asr_loaded model=fake\x1b[0m"]
    monkeypatch.setenv("NO_COLOR", "1")
    assert shown(line, out=Terminal()) == ["03:04:05 warning Asr: asr_loaded model=fake"]


def test_what_an_entry_has_no_value_for_is_left_out():
    assert text(f"{ASR} {NAMELESS}") == ["03:04:05 info    Asr: asr_loaded"]


def test_anything_else_gets_the_entry_itself_with_the_process_that_wrote_it():
    assert entries(f"{ASR} {ENTRY}") == [json.loads(ENTRY) | {"process": "Asr"}]


def test_a_coloured_prefix_and_one_with_an_address_are_understood():
    for prefix in (
        "\x1b[36m(ServeReplica:livedub:Asr pid=12)\x1b[0m",
        "(ServeReplica:livedub:Asr pid=12, ip=10.0.0.2)",
    ):
        assert text(f"{prefix} {ENTRY}") == ["03:04:05 info    Asr: asr_loaded model=fake"]


def test_a_traceback_of_ours_stands_below_its_entry():
    entry = json.dumps({"event": "bug", "level": "error", "timestamp": "2026-01-02T03:04:05Z", "exception": TRACEBACK})
    assert text(f"{ASR} {entry}") == ["03:04:05 error   Asr: bug", *(f"  {line}" for line in TRACEBACK.splitlines())]


def test_what_serve_reports_of_its_own_work_is_not_shown_to_people():
    line = "INFO 2026-01-02 03:04:05,678 controller 7 -- Adding 1 replica."
    assert text(f"{CONTROLLER} {line}") == []
    assert [entry["event"] for entry in entries(f"{CONTROLLER} {line}")] == ["Adding 1 replica."]


@pytest.mark.parametrize("show", [text, lambda *lines, ready: [e["event"] for e in entries(*lines, ready=ready)]])
def test_of_the_controller_there_are_no_tracebacks_and_before_the_service_is_ready_nothing(show):
    """The launcher then tells why it did not come up, in a sentence."""
    lines = [f"{CONTROLLER} ERROR 2026-01-02 03:04:05,678 controller 7 -- Exception in Replica(id='a')."]
    lines += [f"{CONTROLLER} {line}" for line in TRACEBACK.splitlines()]
    assert show(*lines, ready=False) == []
    [only] = show(*lines, ready=True)
    assert only.endswith("Exception in Replica(id='a').")


def test_a_bug_in_a_replica_keeps_its_traceback():
    lines = [f"{ASR} ERROR 2026-01-02 03:04:05,678 livedub_Asr k2 -- Request failed."]
    told = text(*lines, *(f"{ASR} {line}" for line in TRACEBACK.splitlines()))
    assert told[0].endswith("error   Asr: Request failed.")
    assert told[1:] == [f"  {line}" for line in TRACEBACK.splitlines()]


def test_serves_entries_in_json_are_entries_too():
    serves = {"levelname": "ERROR", "message": "Request failed.", "exc_text": TRACEBACK}
    [entry] = entries(f"{ASR} {json.dumps(serves)}")
    assert (entry["event"], entry["level"], entry["exception"]) == ("Request failed.", "error", TRACEBACK)
    assert "serves" not in entry


def test_what_is_no_entry_is_shown_as_it_came():
    assert text(f"{ASR} terminate called without an active exception") == [
        "  terminate called without an active exception"
    ]
    assert entries(f"{ASR} [1, 2]", f'{ASR} {{"half": ')[0]["event"] == "[1, 2]"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "2026-01-02 03:04:05,678\tWARNING setup.py:85 -- Token authentication is enabled for this Ray cluster.",
        "(raylet) Task ServeController.graceful_shutdown failed. There are infinite retries remaining",
        'INFO 2026-01-02 03:04:05,678 serve 1 -- Started Serve in namespace "serve".',
    ],
)
def test_what_ray_says_each_time_is_not_repeated(line):
    assert text(line) == []
    assert entries(line) == []


def test_lines_may_come_in_pieces():
    out = io.StringIO()
    stream = Console(out, "text").stream()
    for piece in (f"{ASR} {ENTRY[:20]}", ENTRY[20:], "\n", "rest"):
        stream.write(piece)
    assert out.getvalue() == "03:04:05 info    Asr: asr_loaded model=fake\n"


def test_a_reader_that_has_gone_stops_nothing():
    """Else a closed terminal or pipe would end the command before it has taken down what runs."""

    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    console = Console(Gone(), "text")
    assert not console.unread
    console.tell("stopping")
    assert console.unread


def test_the_commands_own_lines_are_json_only_where_that_is_asked_for():
    lines = {}
    for log_format in ("auto", "text", "json"):
        out = io.StringIO()
        Console(out, log_format).tell("error: no")  # type: ignore[arg-type]
        lines[log_format] = out.getvalue()
    assert lines["auto"] == lines["text"] == "livedub: error: no\n"
    assert {"event": "error: no", "level": "error", "process": "livedub"}.items() <= json.loads(lines["json"]).items()
