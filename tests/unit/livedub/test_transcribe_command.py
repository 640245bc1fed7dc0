"""`livedub transcribe`: files, standard input, a microphone; what it writes, says and exits with."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import srt
import structlog
from typer.testing import CliRunner

from livedub.cli import app
from serve_app.transcription import TranscriptionLimits
from tests.support.captions import RATE_HZ, contained, loud, quiet
from tests.support.media_files import write_sound
from tests.unit.serve_app.transport.test_transcription_events import Place

run = CliRunner().invoke
SENTENCE = loud(1000) + quiet(1000)
SAID = "Hello, World!"
SINE = "lavfi:sine=frequency=440:duration=1"
"""A device that FFmpeg makes up."""


@pytest.fixture
def server() -> Iterator[Place]:
    """The door in a thread of its own, for code that runs its own event loop; its log would be in the command's way."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    place = Place()
    started, stop, loops = threading.Event(), asyncio.Event(), []

    async def live() -> None:
        loops.append(asyncio.get_running_loop())
        await place.start()
        started.set()
        await stop.wait()
        await place.stop()

    thread = threading.Thread(target=asyncio.run, args=(live(),))
    thread.start()
    assert started.wait(10)
    yield place
    loops[0].call_soon_threadsafe(stop.set)
    thread.join(15)
    structlog.reset_defaults()


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    path = tmp_path / "talk.wav"
    return write_sound(path, np.frombuffer(SENTENCE * 2, np.int16)[:, None], RATE_HZ)


def transcribe(server: Place, *arguments: object, **options):
    return run(app, ["transcribe", "--server", server.url, *map(str, arguments)], **options)


def test_a_file_comes_out_as_lines_of_text(server, speech):
    done = transcribe(server, speech)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [SAID, SAID]
    assert "0:00:04" in done.stderr


def test_translations_stand_below_each_line(server, speech):
    done = transcribe(server, speech, "--to", "Spanish,pt", "-q")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:3] == [SAID, f"[es] es: {SAID}", f"[pt] pt: {SAID}"]


def test_json_is_a_line_a_final_and_the_summary(server, speech, tmp_path):
    out = tmp_path / "talk.json"
    assert transcribe(server, speech, "-o", out).exit_code == 0
    *finals, summary = map(json.loads, out.read_text().splitlines())
    assert finals[0]["words"][0]["text"] == "Hello,"
    assert finals[-1]["end_ms"] == 4000
    assert (summary["reason"], summary["metrics"]["transcripts"]) == ("ended", 2)


def test_subtitles_are_written_at_the_end(server, speech, tmp_path):
    done = transcribe(server, speech, "--format", "srt")
    assert " ".join(cue.content for cue in srt.parse(done.stdout)) == f"{SAID} {SAID}"
    out = tmp_path / "talk.vtt"
    assert transcribe(server, speech, "-o", out).exit_code == 0
    assert out.read_text().startswith("WEBVTT\nLanguage: en")


def test_subtitles_of_several_languages_are_a_file_each(server, speech, tmp_path):
    assert transcribe(server, speech, "--to", "es,pt", "-o", tmp_path / "talk.srt").exit_code == 0
    texts = {path.name: path.read_text() for path in tmp_path.glob("*.srt")}
    assert set(texts) == {"talk.en.srt", "talk.es.srt", "talk.pt.srt"}
    first = next(srt.parse(texts["talk.es.srt"]))
    assert first.content.replace("\n", " ").startswith(f"es: {SAID}")
    assert first.start.total_seconds() < 1
    refused = transcribe(server, speech, "--to", "es", "--format", "srt")
    assert refused.exit_code == 2
    assert "-o talk.srt" in refused.stderr


def test_standard_input_is_raw_or_a_file(server):
    raw = transcribe(server, "-", "--raw", "pcm_s16le", input=SENTENCE)
    assert (raw.exit_code, raw.stdout) == (0, f"{SAID}\n")
    webm = contained(np.frombuffer(SENTENCE, np.int16), RATE_HZ, "webm", "libopus")
    assert transcribe(server, "-", input=webm).stdout == f"{SAID}\n"
    broken = transcribe(server, "-", input=b"no sound at all" * 1000)
    assert broken.exit_code == 2
    assert "INVALID_AUDIO" in broken.stderr


def test_a_pipe_is_heard_while_it_is_written(server, tmp_path):
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "livedub", "transcribe", "--server", server.url, "-", "--raw", "pcm_s16le"]
    with subprocess.Popen(command, stdin=reading, stdout=subprocess.PIPE, text=True) as process:
        os.close(reading)
        os.write(writing, SENTENCE[:60_000])
        os.write(writing, SENTENCE[60_000:])
        assert process.stdout.readline() == f"{SAID}\n"
        os.close(writing)
        assert process.wait(20) == 0


def test_a_microphone_is_an_input_device_of_ffmpeg(server):
    done = transcribe(server, "mic", "--device", SINE)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{SAID}\n"


def test_without_a_microphone_it_says_what_was_tried(server):
    done = transcribe(server, "mic", "--device", "lavfi:nonsense")
    assert done.exit_code == 2
    assert "no microphone can be heard (lavfi:nonsense: " in done.stderr
    assert "--device" in done.stderr
    assert "KIND:NAME" in transcribe(server, "mic", "--device", "microphone").stderr


def test_ctrl_c_ends_a_microphone_as_it_should_and_interrupts_a_file(server, speech, tmp_path):
    out = tmp_path / "said.srt"
    for source, code in ((("mic", "--device", "lavfi:sine=frequency=440"), 0), ((speech, "--realtime"), 130)):
        out.unlink(missing_ok=True)
        command = [
            sys.executable,
            "-m",
            "livedub",
            "transcribe",
            "--server",
            server.url,
            *map(str, source),
            "-o",
            str(out),
        ]
        server.stages_asked.clear()
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            wait_for(lambda: len(server.stages_asked) > 5)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=20)
        assert process.returncode == code, told
        assert SAID in out.read_text()
        assert ("Interrupted" in told) == (code == 130)


def wait_for(condition) -> None:
    give_up_s = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.02)


def test_what_fails_on_its_way_is_told_by_the_exit_code(server, speech):
    server.untranslatable = "es"
    done = transcribe(server, speech, "--to", "es")
    assert done.exit_code == 1
    assert "2 stretches or translations failed, the last with MODEL_ERROR" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["talk.wav", "--to", "de"], "allowed: es, fr, pt"),
        (["talk.wav", "--language", "gibberish"], "is no language"),
        (["missing.wav"], "missing.wav"),
        (["talk.wav", "-o", "talk.wav"], "exists"),
        (["talk.wav", "-o", "nowhere/talk.srt"], "nowhere is no folder"),
        (["-", "--raw", "pcm_s16le", "--rate", "100"], "sample_rate_hz"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_line(server, speech, monkeypatch, arguments, told):
    monkeypatch.chdir(speech.parent)
    done = transcribe(server, *arguments)
    assert done.exit_code == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_a_server_it_says_where_it_looked(speech):
    done = run(app, ["transcribe", "--server", "http://127.0.0.1:1", str(speech)])
    assert done.exit_code == 2
    assert "Can't connect to http://127.0.0.1:1" in done.stderr


@pytest.mark.parametrize("name", ["talk.srt", "talk.txt"])
def test_where_nothing_was_heard_what_stood_there_stays(speech, tmp_path, name):
    out = tmp_path / name
    out.write_text("from before")
    done = run(app, ["transcribe", "--server", "http://127.0.0.1:1", str(speech), "-o", str(out), "--force"])
    assert done.exit_code == 2
    assert out.read_text() == "from before"


def test_a_reader_that_has_enough_ends_it(server, speech):
    command = [sys.executable, "-m", "livedub", "transcribe", "--server", server.url, str(speech), "--realtime", "-q"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        _, told = process.communicate(timeout=20)
    assert process.returncode == 2
    assert told == "livedub: Can't write the output: Broken pipe\n"


def test_a_session_that_may_not_last_longer_goes_on_in_another(server, speech, tmp_path):
    server.transcription = TranscriptionLimits(max_session_s=0.3)
    out = tmp_path / "talk.txt"
    done = transcribe(server, speech, "--realtime", "-o", out)
    assert done.exit_code == 0, done.output
    assert out.read_text().split() == SAID.split() * (len(out.read_text().split()) // 2)
    assert "connection lost, opening it again: the server ended the session: lasted" in done.stderr
