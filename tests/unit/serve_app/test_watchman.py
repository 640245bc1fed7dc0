"""Signals: the first asks, the second ends; and where Ray has gone nothing is waited for."""

import os
import signal
import subprocess
import sys
import time

import pytest

from serve_app import watchman as module
from serve_app.watchman import AGAIN_S, FAILED, Watchman, children


@pytest.fixture
def watched(monkeypatch):
    monkeypatch.setattr(module, "_kill_with_children", lambda _: None)
    told: list[str] = []
    left: list[int] = []
    return Watchman(told.append, left.append), told, left


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_to_stop(watched, number):
    watchman, told, left = watched
    watchman.hear(number, 0.0)
    assert watchman.stop.is_set()
    assert told == ["stopping; the same signal again stops at once"]
    assert left == []


def test_a_signal_that_is_sent_twice_at_once_is_one(watched):
    """`timeout` sends it to its child and to the group that the child is in."""
    watchman, _, left = watched
    watchman.hear(signal.SIGTERM, 0.0)
    watchman.hear(signal.SIGTERM, AGAIN_S / 2)
    assert left == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_stops_at_once_and_says_so(watched, number, code):
    watchman, told, left = watched
    watchman.hear(signal.SIGINT, 0.0)
    watchman.hear(number, AGAIN_S)
    assert left == [code]
    assert told[-1] == "stopped at once; what was in flight is lost"


def test_a_hangup_asks_to_read_the_file_again(watched):
    watchman, _, left = watched
    watchman.hear(signal.SIGHUP, 0.0)
    assert watchman.reload.is_set()
    assert not watchman.stop.is_set()
    assert left == []


def test_a_hangup_of_a_terminal_that_was_closed_asks_to_stop():
    told: list[str] = []
    watchman = Watchman(told.append, unread=lambda: True)
    watchman.hear(signal.SIGHUP, 0.0)
    assert watchman.stop.is_set()
    assert not watchman.reload.is_set()


def test_a_stop_that_takes_too_long_is_cut_short(watched):
    watchman, told, left = watched
    watchman.allow(5.0)
    now_s = time.monotonic()
    watchman.hear(None, now_s)
    assert left == []
    watchman.hear(None, now_s + 6.0)
    assert left == [FAILED]
    assert "did not stop in time" in told[-1]


@pytest.fixture
def node(monkeypatch):
    """A child that stands for Ray's."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    monkeypatch.setattr(module, "NODE", (children()[child.pid],))
    yield child
    child.kill()
    child.wait()


def test_a_ray_that_has_ended_ends_the_service_with_a_reason(watched, node):
    watchman, told, left = watched
    watchman.watch()
    watchman.hear(None, 0.0)
    assert left == []
    node.kill()
    os.waitid(os.P_PID, node.pid, os.WEXITED | os.WNOWAIT)
    watchman.hear(None, 0.0)
    assert left == [FAILED]
    assert told[-1].startswith("error: Ray has ended (")
    assert node.wait() == -signal.SIGKILL, "its end is left to whoever waits for it"
    watchman.hear(None, 0.0)
    assert left == [FAILED, FAILED]


def test_a_ray_that_is_let_end_is_no_accident(watched, node):
    watchman, _, left = watched
    watchman.watch()
    watchman.let_end()
    node.kill()
    node.wait()
    watchman.hear(None, 0.0)
    assert left == []


BLOCKING = """
import os, signal, subprocess, sys, time
from serve_app.watchman import Watchman
watchman = Watchman(lambda line: print(line, flush=True))
watchman.start()
child = subprocess.Popen([sys.executable, "-c", "print('up', flush=True); input()"], stdin=subprocess.PIPE)
watchman.stop.wait(30)
print("child", child.poll(), flush=True)
watchman.let_end()
child.terminate()
print("ended", child.wait(10), flush=True)
"""


def test_a_signal_to_the_group_is_heard_and_ends_no_child_before_its_time():
    """And a child that is then asked to end, and can't hear it, is ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", BLOCKING], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    os.killpg(process.pid, signal.SIGTERM)
    rest, _ = process.communicate(timeout=30)
    assert rest.splitlines() == ["stopping; the same signal again stops at once", "child None", "ended -9"]
    assert process.returncode == 0
