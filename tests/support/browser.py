"""Programs in JavaScript that the tests run: clients of the field, and pages in a real Chromium."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.speed import seconds

PROGRAMS = Path(__file__).resolve().parents[1] / "js"
MISSING = "no Node.js, or its packages are not installed: make packages-test"
NO_CHROMIUM = "no Chromium: make packages-test"

with_node = pytest.mark.skipif(
    not (shutil.which("node") and (PROGRAMS / "node_modules").is_dir()), reason=MISSING
)  # fmt: skip
with_chromium = pytest.mark.skipif(not shutil.which("chromium"), reason=NO_CHROMIUM)


async def run(program: str, *arguments: str, timeout_s: float = 60) -> Any:
    """What a program in tests/js prints, as JSON; the test fails with its complaint where it fails."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        "node", str(PROGRAMS / program), *arguments, stdout=pipe, stderr=pipe, cwd=PROGRAMS
    )
    try:
        async with asyncio.timeout(seconds(timeout_s)):
            printed, complained = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, complained.decode()[-2000:]
    return json.loads(printed)
