"""The command line: help, messages, exit codes, and whole runs against a scripted server."""

import asyncio
import errno
import json
import logging
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path

import av
import numpy as np
import pytest
import socketio
import srt
import typer
from typer.testing import CliRunner

import livedub.commands
from deployments.media.reader import read
from deployments.media.tracks import probe
from livedub.checkpoint import Checkpoint
from livedub.cli import app
from livedub.timeouts import Timeouts
from tests.support.media_files import bursts, write_sound, write_video

from .conftest import StandIn, failed, processed, serving

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
    assert probe(tmp_path / "talk.fr.mp4").picture.codec == "mpeg4"
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


def test_a_stream_that_fails_at_once_writes_nothing(server: StandIn, talk: Path) -> None:
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

    monkeypatch.setattr("livedub.dub_command.dub_track", interrupted)
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
        (["{talk}", "--to", "spanish!"], "'spanish!' is no language: give a tag such as es or pt-BR, or a name"),
        (["{talk}", "--server", "localhost"], "write it like http://127.0.0.1:8000"),
        (["{talk}", "--server", "http://127.0.0.1:1"], "Is the server running"),
        (["{talk}", "--chunk-ms", "5"], "greater than or equal to 1000"),
        (["{talk}", "--fill", "music"], "original"),
        (["{talk}", "--to", "../x"], "'../x' is no language"),
        (["{talk}", "--tracks", "es,es"], "each language once"),
        (["{talk}", "--subtitles", "srt,doc"], "--subtitles doc: one or more of srt, vtt"),
        (["{talk}", "--audio-track", "2"], "has no sound 2: its sounds are 1:"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(talk: Path, arguments: list[str], says: str) -> None:
    shown = run(app, ["dub", *(part.format(talk=talk) for part in arguments)], env={"COLUMNS": "200"})

    assert shown.exit_code == 2
    assert says in " ".join(shown.stderr.split())
    assert "Traceback" not in shown.output


def test_an_output_is_not_overwritten_unless_asked(server: StandIn, talk: Path) -> None:
    (talk.parent / "talk.es.srt").write_text("mine")
    shown = run(app, ["dub", str(talk), "--server", server.url])
    assert shown.exit_code == 2
    assert "talk.es.srt exists" in shown.stderr
    assert (talk.parent / "talk.es.srt").read_text() == "mine"

    assert run(app, ["dub", str(talk), "--server", server.url, "--force", "-q"]).exit_code == 0
    assert (talk.parent / "talk.es.srt").read_text() != "mine"


def test_subtitles_of_the_original_are_not_in_the_way_of_a_second_language(server: StandIn, talk: Path) -> None:
    assert run(app, ["dub", str(talk), "--server", server.url, "-q"]).exit_code == 0
    (talk.parent / "talk.en.srt").write_text("corrected")

    shown = run(app, ["dub", str(talk), "--server", server.url, "-q", "--to", "pt"])

    assert shown.exit_code == 0, shown.output
    assert "talk.en.srt exists and stays as it is" in shown.stderr
    assert (talk.parent / "talk.en.srt").read_text() == "corrected"
    assert (talk.parent / "talk.pt.srt").exists()


# --- what is interrupted -------------------------------------------------------------------------------------------


def long_talk(folder: Path, seconds: float = 30.0) -> Path:
    return write_sound(folder / "long.wav", bursts([(2.5, True), (0.4, False)] * round(seconds / 2.9)))


def outputs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.suffix != ".json"}


def in_one_go(server: StandIn, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    assert run(app, ["dub", str(long_talk(folder)), "--server", server.url, "-q"]).exit_code == 0
    return outputs(folder)


@pytest.mark.parametrize("after", [1, 2, 3])
def test_an_interrupted_dub_leaves_its_part_and_is_gone_on_with(server: StandIn, tmp_path: Path, after: int) -> None:
    whole = in_one_go(server, tmp_path / "whole")
    source = long_talk(tmp_path)

    async def taken_over(sid: str, data: dict) -> None:
        if data["sequence_number"] < after:
            await server.answer(sid, data)
        elif data["sequence_number"] == after:
            body = {"code": "SESSION_REPLACED", "message": "taken over", "retryable": False, "severity": "fatal"}
            await server.emit("error", body, sid)

    answer, server.on_fragment = server.on_fragment, taken_over
    shown = run(app, ["dub", str(source), "--server", server.url, "-q", "--max-inflight", "1"])

    assert shown.exit_code == 2
    assert re.search(r"taken over\. 0:00:\d\d of 0:00:\d\d are done and kept: --resume goes on from there; so far: .*"
                     r"long\.es\.partial\.wav", shown.stderr)  # fmt: skip
    part = probe(tmp_path / "long.es.partial.wav")
    assert 0 < part.duration_s < 29
    assert (tmp_path / "long.es.partial.srt").read_text().count("-->") == after
    assert not (tmp_path / "long.es.wav").exists()

    again = run(app, ["dub", str(source), "--server", server.url, "-q"])
    assert again.exit_code == 2
    assert "was interrupted: go on with --resume, or start anew with --force" in again.stderr

    server.on_fragment = answer
    server.fragments.clear()
    resumed = run(app, ["dub", str(source), "--server", server.url, "-q", "--resume"])

    assert resumed.exit_code == 0, resumed.output
    assert len(server.fragments) == whole["long.es.srt"].count(b"-->") - after
    # The stand-in numbers its texts by fragments of a stream, so only sound and times are the same.
    files = outputs(tmp_path)
    assert set(files) == set(whole)
    assert files["long.es.wav"] == whole["long.es.wav"]
    assert re.findall(rb"[\d:,]+ --> [\d:,]+", files["long.es.srt"]) == re.findall(
        rb"[\d:,]+ --> [\d:,]+", whole["long.es.srt"]
    )
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.fixture
def swift(monkeypatch) -> None:
    """Fragments that fail are sent again at once, and once."""
    monkeypatch.setattr("livedub.dub_client.Timeouts", partial(Timeouts, retry_delays_s=(0.01,)))


@pytest.mark.usefixtures("swift")
def test_fragments_that_failed_for_a_reason_that_passes_are_tried_again(server: StandIn, talk: Path) -> None:
    async def second_fails(sid: str, data: dict) -> None:
        if data["sequence_number"] == 1:
            await server.emit("fragment:processed", failed(data, "MODEL_ERROR", retryable=True), sid)
        else:
            await server.emit("fragment:processed", processed(data), sid)

    answer, server.on_fragment = server.on_fragment, second_fails
    shown = run(app, ["dub", str(talk), "--server", server.url, "-q"])
    assert shown.exit_code == 1
    assert "1 of the fragments that failed may succeed later: --resume tries them again" in shown.stderr

    server.on_fragment = answer
    server.fragments.clear()
    resumed = run(app, ["dub", str(talk), "--server", server.url, "--resume"])

    assert resumed.exit_code == 0, resumed.output
    assert len(server.fragments) == 1
    echo, original = (np.concatenate(list(read(probe(path)))) for path in (talk.parent / "talk.es.wav", talk))
    assert np.array_equal(echo, original)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (["--chunk-ms", "4000"], "chunk_ms was 6000 and is 4000"),
        (["--voice", "other"], "voice was 'default' and is 'other'"),
        (["--hint", "x"], "hints was None and is ['x']"),
    ],
)
@pytest.mark.usefixtures("swift")
def test_other_settings_do_not_go_on_with_it(server: StandIn, talk: Path, changed: list[str], says: str) -> None:
    async def second_fails(sid: str, data: dict) -> None:
        error = failed(data, "MODEL_ERROR", retryable=True) if data["sequence_number"] else processed(data)
        await server.emit("fragment:processed", error, sid)

    server.on_fragment = second_fails
    assert run(app, ["dub", str(talk), "--server", server.url, "-q"]).exit_code == 1

    shown = run(app, ["dub", str(talk), "--server", server.url, "--resume", *changed])

    assert shown.exit_code == 2
    assert says in " ".join(shown.stderr.split())


def test_two_processes_do_not_work_on_one_dub(server: StandIn, talk: Path) -> None:
    at_work = Checkpoint(talk.parent / "talk.es.wav", {})
    at_work.begin(resume=False, anew=False)

    for option in ("--resume", "--force"):
        shown = run(app, ["dub", str(talk), "--server", server.url, option])
        assert shown.exit_code == 2
        assert "another process is at work on" in shown.stderr

    at_work.close()


@pytest.mark.usefixtures("swift")
def test_half_a_line_of_a_process_that_was_killed_is_not_taken_for_a_result(server: StandIn, talk: Path) -> None:
    async def second_fails(sid: str, data: dict) -> None:
        error = failed(data, "MODEL_ERROR", retryable=True) if data["sequence_number"] else processed(data)
        await server.emit("fragment:processed", error, sid)

    answer, server.on_fragment = server.on_fragment, second_fails
    assert run(app, ["dub", str(talk), "--server", server.url, "-q"]).exit_code == 1
    (results,) = talk.parent.glob(".livedub-*/es.jsonl")
    whole = results.read_bytes()
    results.write_bytes(whole[: whole.index(b"\n") - 30])

    server.on_fragment = answer
    server.fragments.clear()
    assert run(app, ["dub", str(talk), "--server", server.url, "-q", "--resume"]).exit_code == 0
    assert len(server.fragments) == whole.count(b"\n")


def test_where_nothing_was_interrupted_resume_starts_and_overwrites_nothing(server: StandIn, talk: Path) -> None:
    command = ["dub", str(talk), "--server", server.url, "--resume", "-q"]
    assert run(app, command).exit_code == 0

    again = run(app, command)

    assert again.exit_code == 2
    assert "talk.es.wav exists" in again.stderr


def test_a_dub_that_can_not_be_written_is_kept(server: StandIn, talk: Path, monkeypatch) -> None:
    def disk_full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "talk.es.wav")

    with monkeypatch.context() as patched:
        patched.setattr("livedub.dub_file.write", disk_full)
        shown = run(app, ["dub", str(talk), "--server", server.url, "-q"])
    assert shown.exit_code == 2
    assert "Can't write talk.es.wav: No space left on device. 0:00:13 of 0:00:13 are done" in shown.stderr

    server.fragments.clear()
    assert run(app, ["dub", str(talk), "--server", server.url, "-q", "--resume"]).exit_code == 0
    assert server.fragments == []


def test_several_languages_are_tracks_of_one_file(server: StandIn, tmp_path: Path) -> None:
    source = write_video(tmp_path / "talk.mp4", bursts([(2.0, True), (0.5, False)], 48_000))

    shown = run(
        app,
        ["dub", str(source), "--tracks", "es,pt", "--keep-original", "--embed-subtitles", "--server", server.url, "-q"],
    )

    assert shown.exit_code == 0, shown.output
    tracks = probe(tmp_path / "talk.es.pt.mp4").tracks
    assert [(t.kind, t.language, t.default) for t in tracks] == [
        ("video", None, True),
        ("audio", "spa", True),
        ("audio", "por", False),
        ("audio", None, False),
        ("subtitle", "spa", True),
        ("subtitle", "por", False),
    ]
    assert {p.name for p in tmp_path.glob("*.srt")} == {"talk.en.srt", "talk.es.srt", "talk.pt.srt"}


def test_a_language_that_the_server_refuses_is_found_before_any_work(server: StandIn, talk: Path) -> None:
    server.refuse_init = [{"code": "UNSUPPORTED_LANGUAGE", "message": "en→fr is not possible", "retryable": False}]

    shown = run(app, ["dub", str(talk), "--tracks", "es,fr", "--server", server.url])

    assert shown.exit_code == 2
    assert shown.stderr.strip() == "livedub: en→fr is not possible"
    assert server.fragments == []


def test_a_file_says_that_its_voice_is_synthetic_and_whose(server: StandIn, tmp_path: Path) -> None:
    async def spoken(sid: str, data: dict) -> None:
        metadata = {"original_duration_ms": 1, "tts_model": "xtts_v2", "synthetic_voice": True, "may_be_sold": False}
        await server.emit("fragment:processed", processed(data, metadata=metadata), sid)

    server.on_fragment = spoken
    source = write_video(tmp_path / "talk.mp4", bursts([(2.0, True), (0.5, False)], 48_000))
    for suffix in (".mp4", ".mkv"):
        shown = run(app, ["dub", str(source), "--server", server.url, "-o", str(tmp_path / f"out{suffix}"), "--force"])

        assert shown.exit_code == 0, shown.output
        assert "xtts_v2 1 (not to be sold)" in shown.output
        with av.open(tmp_path / f"out{suffix}") as container:
            tags = {name.lower(): value for name, value in container.metadata.items()}
        assert tags["comment"].startswith("Dubbed with a synthetic voice (xtts_v2). http://cv.iptc.org/")
        assert tags["comment"].endswith("/compositeWithTrainedAlgorithmicMedia")


def test_where_nobody_speaks_the_original_is_kept_and_told(server: StandIn, talk: Path) -> None:
    async def silent(sid: str, data: dict) -> None:
        metadata = {"original_duration_ms": 1, "tts_model": "none", "synthetic_voice": False}
        mute = data["audio"] | {"data": bytes(len(data["audio"]["data"]))}
        await server.emit("fragment:processed", processed(data, metadata=metadata, dubbed_audio=mute), sid)

    server.on_fragment = silent
    shown = run(app, ["dub", str(talk), "--server", server.url])

    assert shown.exit_code == 0, shown.output
    assert re.search(r"original kept +13\.0 s", shown.output)
    kept, original = (np.concatenate(list(read(probe(path)))) for path in (talk.parent / "talk.es.wav", talk))
    assert np.array_equal(kept, original)


# --- what is found out before any work -----------------------------------------------------------------------------


def test_a_name_that_is_too_long_is_found_before_any_work(server: StandIn, tmp_path: Path) -> None:
    source = write_sound(tmp_path / ("n" * 246 + ".wav"), bursts([(1.0, True)]))

    shown = run(app, ["dub", str(source), "--server", server.url])

    assert shown.exit_code == 2
    assert "name a shorter output with -o" in shown.stderr
    assert server.inits == []


def test_too_little_space_is_found_before_any_work(server: StandIn, talk: Path, monkeypatch) -> None:
    monkeypatch.setattr("livedub.outputs.shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))

    shown = run(app, ["dub", str(talk), "--server", server.url])

    assert shown.exit_code == 2
    assert "take about 1 MB, and" in shown.stderr
    assert "has 0 MB left: make room" in shown.stderr
    assert server.inits == []


@pytest.mark.parametrize("where", [["-o", "{folder}/dub.wav"], ["--json", "{folder}/report.json"]])
def test_a_folder_that_can_not_be_written_to_is_found_before_any_work(
    server: StandIn, talk: Path, monkeypatch, where: list[str]
) -> None:
    folder = talk.parent / "locked"
    folder.mkdir()
    monkeypatch.setattr("livedub.outputs.os.access", lambda path, _: path != folder)

    shown = run(app, ["dub", str(talk), "--server", server.url, *(part.format(folder=folder) for part in where)])

    assert shown.exit_code == 2
    assert f"Can't write into {folder}" in shown.stderr
    assert server.inits == []


def test_in_real_time_a_fragment_is_sent_when_it_ends(server: StandIn, tmp_path: Path) -> None:
    source = write_sound(tmp_path / "short.wav", bursts([(0.3, True)]))
    shown = run(app, ["dub", str(source), "--server", server.url, "--realtime", "--json", str(tmp_path / "r.json")])

    assert shown.exit_code == 0
    assert json.loads((tmp_path / "r.json").read_text())["real_time_factor"] >= 1.0


@pytest.mark.parametrize("given", ["es", "Spanish", "spanish", "español", " Español "])
def test_a_language_may_be_named(server: StandIn, talk: Path, given: str) -> None:
    shown = run(app, ["dub", str(talk), "--to", given, "--server", server.url, "-q", "--stream-id", "radio-1"])

    assert shown.exit_code == 0, shown.output
    assert server.inits[0]["config"]["target_language"] == "es"
    assert server.inits[0]["stream_id"] == "radio-1"
    assert (talk.parent / "talk.es.wav").exists()


def test_the_languages_of_a_server_are_listed(server: StandIn) -> None:
    refusal = {"code": "UNSUPPORTED_LANGUAGE_PAIR", "message": "no", "retryable": False}
    server.refuse_init = [refusal | {"details": {"allowed": "en→es, en→pt"}}]

    shown = run(app, ["languages", "--server", server.url])

    assert shown.exit_code == 0
    assert [line for line in ("en→es", "en→pt") if line in shown.output] == ["en→es", "en→pt"]


def test_why_languages_can_not_be_listed_is_said(server: StandIn) -> None:
    server.refuse_init = [{"code": "INTERNAL", "message": "models are loading", "retryable": True}]
    for url, says in ((server.url, "models are loading"), ("http://127.0.0.1:1", "Is the server running")):
        shown = run(app, ["languages", "--server", url])
        assert shown.exit_code == 2
        assert says in shown.stderr


def test_a_token_that_is_missing_is_asked_for_by_its_option(server: StandIn, talk: Path) -> None:
    server.refuse_connect = socketio.exceptions.ConnectionRefusedError(
        {"code": "AUTH_FAILED", "message": "this server wants a token"}
    )
    shown = run(app, ["dub", str(talk), "--server", server.url])

    assert shown.exit_code == 2
    assert "--token or LIVEDUB_TOKEN" in shown.stderr


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
        EntryPoint("app", f"{module}:theirs", livedub.commands.GROUP),
        EntryPoint("function", f"{module}:their_function", livedub.commands.GROUP),
        EntryPoint("gone", "no_such_module:app", livedub.commands.GROUP),
        EntryPoint("extra", "no_such_module:app [local]", livedub.commands.GROUP),
    )
    monkeypatch.setattr("livedub.commands.entry_points", lambda group: points)


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


def test_help_imports_no_command_and_says_what_each_one_says_of_itself() -> None:
    code = """
import sys
import livedub.cli
sys.argv = ["livedub", "--help"]
try:
    livedub.cli.main()
except SystemExit:
    pass
print(sorted({"ray", "socketio", "aiohttp", "av", "numpy", "httpx", "serve_app", "deployments"} & set(sys.modules)))
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip().endswith("[]")
    group = typer.main.get_command(app)
    context = typer.Context(group)
    for name, summary in livedub.commands.SUMMARIES.items():
        assert name in shown.stdout
        command = group.get_command(context, name).command
        assert " ".join(command.help.split("\n\n")[0].split()) == summary
