"""The command line: help, messages, exit codes, and whole runs against a scripted server."""

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import srt
import typer
from typer.testing import CliRunner

import client.commands
from client.cli import app
from client.media import probe, read

from .conftest import StandIn, failed, processed, serving
from .media_files import bursts, write_sound, write_video

run = CliRunner().invoke
OFTEN = {"retryable": True}


@pytest.fixture
def server() -> Iterator[StandIn]:
    """The stand-in in a thread of its own, for code that runs its own event loop."""
    stand_in = StandIn()
    loop = asyncio.new_event_loop()
    started, stop = threading.Event(), asyncio.Event()

    async def live() -> None:
        async with serving(stand_in):
            started.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(live(),))
    thread.start()
    assert started.wait(10)
    yield stand_in
    loop.call_soon_threadsafe(stop.set)
    thread.join(15)
    loop.close()


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    """About 13 s with pauses."""
    return write_sound(tmp_path / "talk.wav", bursts([(2.5, True), (0.5, False)] * 4 + [(1.0, True)]))


def test_help_explains_every_option() -> None:
    shown = run(app, ["dub", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})

    assert shown.exit_code == 0
    for option in (
        "--to", "--from", "--voice", "--out", "--realtime", "--chunk-ms", "--hint", "--binary", "--base64",
        "--timeout-ms", "--max-inflight", "--fill", "--json", "--quiet", "--server", "--force",
        "--token", "LIVEDUB_SERVER",
    ):  # fmt: skip
        assert option in shown.output
    assert "Exit code" in shown.output


def test_a_file_is_dubbed_into_sound_subtitles_and_numbers(server: StandIn, talk: Path) -> None:
    shown = run(
        app, ["dub", str(talk), "--server", server.url, "--hint", "Dickens", "--json", str(talk.parent / "r.json")]
    )

    assert shown.exit_code == 0, shown.output
    names = {path.name for path in talk.parent.iterdir()}
    assert names == {"talk.wav", "talk.es.wav", "talk.en.srt", "talk.en.vtt", "talk.es.srt", "talk.es.vtt", "r.json"}
    # The stand-in echoes: a lossless way there and back gives the same sound.
    echo, original = (np.concatenate(list(read(probe(path)))) for path in (talk.parent / "talk.es.wav", talk))
    assert np.array_equal(echo, original)
    report = json.loads((talk.parent / "r.json").read_text())
    assert report["fragments"] == report["success"] == len(server.fragments) >= 2
    assert report["asr_p50_ms"] == 10
    assert report["queue_p50_ms"] == 5
    assert report["variance_max_percent"] == 1.5
    assert report["speech_coverage_percent"] == 100.0
    assert report["audio_s"] == 13.0
    lines = list(srt.parse((talk.parent / "talk.es.srt").read_text(encoding="utf-8")))
    assert [line.content for line in lines] == [f"texto {n}" for n in range(len(lines))]
    for label in ("latency p50 / p95", "real-time factor", "talk.es.wav", "duration variance max"):
        assert label in shown.output
    config = server.inits[0]["config"]
    assert (config["target_language"], config["format"], config["domain_hints"]) == ("es", "pcm_s16le", ["Dickens"])


def test_a_video_is_dubbed_with_its_pictures(server: StandIn, tmp_path: Path) -> None:
    source = write_video(tmp_path / "talk.mp4", bursts([(2.0, True), (0.5, False)], 48_000))

    shown = run(app, ["dub", str(source), "--to", "fr", "--server", server.url, "-q", "--base64"])

    assert (shown.exit_code, shown.output) == (0, "")
    assert probe(tmp_path / "talk.fr.mp4").video_codec == "mpeg4"
    assert "data_base64" in server.fragments[0]["audio"]


def test_failed_fragments_are_told_and_the_files_are_written(server: StandIn, talk: Path) -> None:
    async def second_fails(sid: str, data: dict) -> None:
        if data["sequence_number"] == 1:
            await server.emit("fragment:processed", failed(data, "INVALID_AUDIO", retryable=False), sid)
        else:
            await server.emit("fragment:processed", processed(data), sid)

    server.on_fragment = second_fails
    shown = run(
        app, ["dub", str(talk), "--server", server.url, "-o", str(talk.parent / "out.flac"), "--fill", "silence"]
    )

    assert shown.exit_code == 1
    assert "INVALID_AUDIO 1; silence put in their place" in " ".join(shown.output.split())
    assert "INVALID_AUDIO: scripted" in shown.stderr
    assert probe(talk.parent / "out.flac").duration_s == pytest.approx(13.0)


@pytest.mark.parametrize("options", [[], ["--quiet"]])
def test_what_goes_wrong_on_the_way_is_told_on_stderr_in_words(server: StandIn, talk: Path, options: list[str]) -> None:
    """An address that fails, a connection that breaks, and what the server warns of."""

    async def breaks_once(sid: str, data: dict) -> None:
        if len(server.inits) == 1:
            await server.emit("error", {"code": "RATE_LIMITED", "message": "[too] fast", "severity": "warning"} | OFTEN)
            await server.sio.disconnect(sid)
        else:
            await server.answer(sid, data)

    server.on_fragment = breaks_once
    shown = run(app, ["dub", str(talk), "--server", f"http://127.0.0.1:1,{server.url}", *options])

    assert shown.exit_code == 0, shown.output
    lines = [line for line in shown.stderr.splitlines() if line.startswith("livedub: ")]
    assert lines[0].startswith("livedub: address failed, trying the next one: Can't connect to http://127.0.0.1:1: ")
    assert "livedub: the server warns: RATE_LIMITED: [too] fast" in lines
    assert any(line.startswith("livedub: connection lost, opening it again: ") for line in lines)
    assert logging.getLogger("livedub.client").handlers == []


def test_a_dub_without_audio_counts_as_failed(server: StandIn, talk: Path) -> None:
    async def mute(sid: str, data: dict) -> None:
        sound = None if data["sequence_number"] else processed(data)["dubbed_audio"] | {"format": "m4a"}
        await server.emit("fragment:processed", processed(data, dubbed_audio=sound), sid)

    server.on_fragment = mute
    shown = run(app, ["dub", str(talk), "--server", server.url])

    assert shown.exit_code == 1
    assert "DUB_UNREADABLE" in shown.output


def test_a_refused_stream_writes_nothing(server: StandIn, talk: Path) -> None:
    server.refuse_init = [{"code": "INVALID_VOICE_PROFILE", "message": "voice 'x': use default", "retryable": False}]

    shown = run(app, ["dub", str(talk), "--voice", "x", "--server", server.url])

    assert shown.exit_code == 2
    assert shown.stderr == "livedub: voice 'x': use default\n"
    assert [path.name for path in talk.parent.iterdir()] == ["talk.wav"]


def test_a_stream_that_fails_half_way_writes_nothing(server: StandIn, talk: Path) -> None:
    async def taken_over(sid: str, data: dict) -> None:
        body = {"code": "SESSION_REPLACED", "message": "taken over", "retryable": False, "severity": "fatal"}
        await server.emit("error", body, sid)

    server.on_fragment = taken_over
    shown = run(app, ["dub", str(talk), "--server", server.url])

    assert shown.exit_code == 2
    assert "taken over" in shown.stderr
    assert [path.name for path in talk.parent.iterdir()] == ["talk.wav"]


def test_ctrl_c_ends_the_stream_and_writes_nothing(server: StandIn, talk: Path, monkeypatch) -> None:
    async def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("client.cli.dub_file", interrupted)
    shown = run(app, ["dub", str(talk), "--server", server.url])

    assert shown.exit_code == 130
    assert "nothing was written" in shown.stderr
    assert [path.name for path in talk.parent.iterdir()] == ["talk.wav"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["gone.wav"], "Can't read gone.wav: no such file"),
        (["{talk}", "-o", "{talk}"], "is the input itself"),
        (["{talk}", "-o", "{talk}.doc"], "use one of .wav"),
        (["{talk}", "--to", "spanish!"], "target_language"),
        (["{talk}", "--server", "localhost"], "write it like http://127.0.0.1:8000"),
        (["{talk}", "--server", "http://127.0.0.1:1"], "Is the server running"),
        (["{talk}", "--chunk-ms", "5"], "greater than or equal to 1000"),
        (["{talk}", "--fill", "music"], "original"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(talk: Path, arguments: list[str], says: str) -> None:
    shown = run(app, ["dub", *(part.format(talk=talk) for part in arguments)], env={"COLUMNS": "200"})

    assert shown.exit_code == 2
    assert says in " ".join(shown.stderr.split())
    assert "Traceback" not in shown.output


def test_an_output_is_not_overwritten_unless_asked(server: StandIn, talk: Path) -> None:
    (talk.parent / "talk.en.srt").write_text("mine")
    shown = run(app, ["dub", str(talk), "--server", server.url])
    assert shown.exit_code == 2
    assert "talk.en.srt exists" in shown.stderr
    assert (talk.parent / "talk.en.srt").read_text() == "mine"

    assert run(app, ["dub", str(talk), "--server", server.url, "--force", "-q"]).exit_code == 0
    assert (talk.parent / "talk.en.srt").read_text() != "mine"


def test_realtime_sends_a_fragment_when_life_has_got_there(server: StandIn, tmp_path: Path) -> None:
    source = write_sound(tmp_path / "short.wav", bursts([(0.3, True)]))
    shown = run(app, ["dub", str(source), "--server", server.url, "--realtime", "--json", str(tmp_path / "r.json")])

    assert shown.exit_code == 0
    assert json.loads((tmp_path / "r.json").read_text())["real_time_factor"] >= 1.0


# --- commands of others --------------------------------------------------------------------------------------------

theirs = typer.Typer()


@theirs.callback(invoke_without_command=True)
def their_app() -> None:
    """An app of another package."""
    typer.echo("their app ran")


def their_function(count: int = 1) -> None:
    """A function of another package."""
    typer.echo(f"their function ran {count} times")


@pytest.fixture
def extended(monkeypatch) -> None:
    module = __name__
    points = (
        EntryPoint("app", f"{module}:theirs", client.commands.GROUP),
        EntryPoint("function", f"{module}:their_function", client.commands.GROUP),
        EntryPoint("gone", "no_such_module:app", client.commands.GROUP),
        EntryPoint("extra", "no_such_module:app [local]", client.commands.GROUP),
    )
    monkeypatch.setattr("client.commands.entry_points", lambda group: points)


@pytest.mark.usefixtures("extended")
def test_commands_of_other_packages_run() -> None:
    assert run(app, ["app"]).output == "their app ran\n"
    assert run(app, ["function", "--count", "3"]).output == "their function ran 3 times\n"
    shown = run(app, ["--help"])
    assert shown.exit_code == 0
    for name in ("dub", "app", "function", "gone", "extra", "An app of another package"):
        assert name in shown.output


@pytest.mark.usefixtures("extended")
def test_a_command_that_can_not_be_loaded_says_so_when_it_is_called() -> None:
    shown = run(app, ["gone", "--option", "value"])
    assert shown.exit_code == 2
    assert "No module named 'no_such_module'" in shown.stderr

    assert "pip install 'livedub[local]'" in run(app, ["extra"]).stderr
    assert run(app, ["never-heard-of"]).exit_code == 2
