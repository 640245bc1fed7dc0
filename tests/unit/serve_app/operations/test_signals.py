"""Signals: the first asks, the second ends; and where Ray has gone nothing is waited for."""

import os
import signal
import subprocess
import sys
import time

import pytest

from serve_app.operations import signals as module
from serve_app.operations.signals import AGAIN_S, FAILED, Signals, children


@pytest.fixture
def watched(monkeypatch):
    monkeypatch.setattr(module, "_kill_with_children", lambda _: None)
    told: list[str] = []
    left: list[int] = []
    return Signals(told.append, left.append), told, left


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_to_stop(watched, number):
    signals, told, left = watched
    signals.hear(number, 0.0)
    assert signals.stop.is_set()
    assert told == ["stopping; the same signal again stops at once"]
    assert left == []


def test_a_signal_that_is_sent_twice_at_once_is_one(watched):
    """`timeout` sends it to its child and to the group that the child is in."""
    signals, _, left = watched
    signals.hear(signal.SIGTERM, 0.0)
    signals.hear(signal.SIGTERM, AGAIN_S / 2)
    assert left == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_stops_at_once_and_says_so(watched, number, code):
    signals, told, left = watched
    signals.hear(signal.SIGINT, 0.0)
    signals.hear(number, AGAIN_S)
    assert left == [code]
    assert told[-1] == "stopped at once; what was in flight is lost"


def test_a_hangup_asks_to_read_the_file_again(watched):
    signals, _, left = watched
    signals.hear(signal.SIGHUP, 0.0)
    assert signals.reload.is_set()
    assert not signals.stop.is_set()
    assert left == []


def test_a_hangup_of_a_terminal_that_was_closed_asks_to_stop():
    told: list[str] = []
    signals = Signals(told.append, unread=lambda: True)
    signals.hear(signal.SIGHUP, 0.0)
    assert signals.stop.is_set()
    assert not signals.reload.is_set()


def test_a_stop_that_takes_too_long_is_cut_short(watched):
    signals, told, left = watched
    signals.allow(5.0)
    now_s = time.monotonic()
    signals.hear(None, now_s)
    assert left == []
    signals.hear(None, now_s + 6.0)
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
    signals, told, left = watched
    signals.watch()
    signals.hear(None, 0.0)
    assert left == []
    node.kill()
    os.waitid(os.P_PID, node.pid, os.WEXITED | os.WNOWAIT)
    signals.hear(None, 0.0)
    assert left == [FAILED]
    assert told[-1].startswith("error: Ray has ended (")
    assert node.wait() == -signal.SIGKILL, "its end is left to whoever waits for it"
    signals.hear(None, 0.0)
    assert left == [FAILED, FAILED]


def test_a_ray_that_is_let_end_is_no_accident(watched, node):
    signals, _, left = watched
    signals.watch()
    signals.let_end()
    node.kill()
    node.wait()
    signals.hear(None, 0.0)
    assert left == []


BLOCKING = """
import os, signal, subprocess, sys, time
from serve_app.operations.signals import Signals
signals = Signals(lambda line: print(line, flush=True))
signals.start()
child = subprocess.Popen([sys.executable, "-c", "print('up', flush=True); input()"], stdin=subprocess.PIPE)
signals.stop.wait(30)
print("child", child.poll(), flush=True)
signals.let_end()
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
