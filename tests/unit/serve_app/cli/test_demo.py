"""What the demo needs, before it starts anything."""

import subprocess
import sys

import pytest

from serve_app.cli import demo
from serve_app.cli.demo import DemoError, run_demo
from serve_app.configuration.serve_file import read_config
from serve_app.configuration.shipped import CLIP, CONFIGS


def test_what_the_demo_runs_on_ships_with_the_project():
    assert CLIP.is_file()
    read_config(CONFIGS / "local.yaml")


def test_a_clip_that_is_not_there_is_named_before_anything_starts(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(DemoError, match=r"none\.flac is not there"):
        run_demo(tmp_path / "none.flac", CONFIGS / "local.yaml", out, pytest.fail)
    assert not out.exists()


def test_a_server_that_stops_early_is_told_with_the_end_of_its_log(tmp_path):
    log = tmp_path / "server.log"
    log.write_text("\n".join(f"line {number}" for number in range(100)))
    server = subprocess.Popen([sys.executable, "-c", ""])
    server.wait(30)
    with pytest.raises(DemoError, match="stopped before it was ready") as refused:
        demo._wait(server, "http://127.0.0.1:9", log, pytest.fail)
    assert str(refused.value).splitlines()[1:] == [f"line {number}" for number in range(85, 100)]
