"""The checker is worth something: it catches every defect planted in the core, among them those of earlier servers."""

import random

import pytest

from deployments.errors import GpuOutOfMemory, InvalidAudio, ModelFailed
from serve_app.protocol import ErrorCode
from serve_app.stream.values import StreamLimits
from tests.unit.serve_app.stream.checker import Checker
from tests.unit.serve_app.stream.mutants import MUTANTS
from tests.unit.serve_app.stream.recorder import Recorder, failed, make_settings

SEEDS = range(60)


def drive(seed: int) -> None:
    """One stream with a lossy worker and an erratic pipeline; AssertionError when a promise is broken."""
    dice = random.Random(seed)  # noqa: S311 - a test's dice, not a secret
    stream, limits = make_settings(max_inflight=dice.choice([1, 3]), timeout_ms=2000), StreamLimits(critical_inflight=8)
    checker = Checker(stream, limits)
    recorder = Recorder(stream, limits, observe=checker)
    numbers = list(range(25))
    for place in range(0, 24, 3):
        if dice.random() < 0.5:
            numbers[place], numbers[place + 1] = numbers[place + 1], numbers[place]
    for number in numbers:
        fate = dice.random()
        if fate < 0.1:
            recorder.refuse(dice.choice([ErrorCode.RATE_LIMITED, ErrorCode.MALFORMED_DATA]), number, f"f{number}")
        elif fate < 0.9:
            recorder.send(number)
        while dice.random() < 0.6:
            act(recorder, checker, dice)
        recorder.wait(dice.choice([0.0, 0.1, 0.6]))
    recorder.end() if dice.random() < 0.7 else recorder.disconnect()
    recorder.settle()
    checker.finish()


def drive_all() -> None:
    for seed in SEEDS:
        drive(seed)


def act(recorder: Recorder, checker: Checker, dice: random.Random) -> None:
    made = [ticket for tickets in recorder.tickets.values() for ticket in tickets]
    roll = dice.random()
    if roll < 0.6 and checker.flights:
        ticket = dice.choice(sorted(checker.flights))
        error = ModelFailed if ticket % 2 else InvalidAudio
        recorder.complete_ticket(ticket, failed(error) if dice.random() < 0.3 else None)
    elif roll < 0.7 and made:
        recorder.complete_ticket(dice.choice(made))
    elif roll < 0.9 and made:
        name = dice.choice(sorted(recorder.tickets))
        recorder.send(int(name[1:]), name, b"other audio" if roll > 0.88 else None)
    elif roll > 0.99 and checker.flights:
        recorder.complete_ticket(dice.choice(sorted(checker.flights)), failed(GpuOutOfMemory))


def test_the_core_as_it_is_breaks_no_promise() -> None:
    drive_all()


@pytest.mark.parametrize("name", MUTANTS)
def test_the_checker_catches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    with pytest.raises(AssertionError):
        drive_all()
