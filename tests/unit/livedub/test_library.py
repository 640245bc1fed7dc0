"""DubClient inside another program: what it logs is that program's business."""

import asyncio
import json
import os
import subprocess
import sys

import pytest

from .conftest import StandIn, serving

PROGRAM = """
import asyncio, json, logging, sys
from livedub import DubClient, Fragment, StreamConfig

lines = []
if sys.argv[2] == "listening":
    class Lines(logging.Handler):
        def emit(self, record):
            lines.append([record.name, record.levelname, record.getMessage()])
    logging.getLogger("livedub").addHandler(Lines())

async def main():
    config = StreamConfig(target_language="es", format="pcm_s16le", sample_rate_hz=16_000)
    async with DubClient(["http://127.0.0.1:1", sys.argv[1]], config=config) as client:
        await client.send(Fragment(bytes(3200), "pcm_s16le", 16_000, 1, 100))
        await client.end()

asyncio.run(main())
known = [logging.getLogger(name) for name in ("", "socketio.client", "engineio.client", "livedub.client")]
print(json.dumps({"lines": lines, "handlers": [len(each.handlers) for each in known],
                  "levels": [each.level for each in known]}))
"""


async def outcome(listening: str) -> tuple[dict, str]:
    """What the program found out, and its stderr, when it loses its connection once."""
    stand_in = StandIn()

    async def crash_once(sid: str, data: dict) -> None:
        if len(stand_in.inits) == 1:
            await stand_in.sio.disconnect(sid)
        else:
            await stand_in.answer(sid, data)

    stand_in.on_fragment = crash_once
    async with serving(stand_in):
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", PROGRAM, stand_in.url, listening],
            capture_output=True,
            check=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            text=True,
            timeout=60,
        )
    return json.loads(done.stdout), done.stderr


async def test_as_a_library_it_prints_nothing_and_configures_no_logger() -> None:
    """Neither its own nor those of what it is made of; Python would print warnings that nobody takes."""
    found, stderr = await outcome("deaf")
    assert stderr == ""
    assert found["handlers"] == [0, 0, 0, 0]
    assert found["levels"] == [30, 0, 0, 0]


@pytest.mark.parametrize("said", ["address failed, trying the next one: ", "connection lost, opening it again: "])
async def test_a_program_that_listens_gets_warnings_that_say_why(said: str) -> None:
    """Under the name livedub.client, with the reason in the message."""
    found, _ = await outcome("listening")
    messages = [text for name, level, text in found["lines"] if (name, level) == ("livedub.client", "WARNING")]
    assert any(text.startswith(said) and len(text) > len(said) for text in messages)
