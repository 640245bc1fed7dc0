"""One seed, one run: workers that lose, repeat, swap and misuse, and a pipeline that is slow, fails, hangs or dies."""

import hashlib
import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass

from deployments.contracts.values import Outcome
from deployments.errors import (
    DurationMismatch,
    GpuOutOfMemory,
    InvalidAudio,
    ModelFailed,
    QueueFull,
    Stage,
    TranslationQuotaExceeded,
    WorkerCrashed,
)
from serve_app.protocol import ErrorCode, ErrorEvent, FragmentError, FragmentProcessed, ServerEvent
from serve_app.scheduling.admission import Admission
from serve_app.stream.session import Session
from serve_app.stream.values import StreamLimits, Submit
from tests.oracle.history import Record, Rules, Violation, judge
from tests.simulation.world import Connection, World
from tests.unit.serve_app.stream.recorder import failed, heard, make_fragment, make_outcome, make_settings

FAILURES = (ModelFailed, WorkerCrashed, QueueFull, InvalidAudio, DurationMismatch, TranslationQuotaExceeded)
AFTER_S = 40.0
"""Longer than any deadline and any delay before closing."""
PATIENCE_S = 20.0
"""A worker tries again until so long after its last plan, so that every run comes to its end."""
OVERLOADED_EVERY = 16
"""One seed in so many has more work than its models can do, and one door for all its streams."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a seed came to."""

    seed: int
    history: list[Record]
    violations: list[Violation]

    @property
    def digest(self) -> str:
        """Of the history, byte for byte."""
        return hashlib.sha256("\n".join(entry.line() for entry in self.history).encode()).hexdigest()

    def count(self, direction: str, event: str) -> int:
        return sum(entry.direction == direction and entry.event == event for entry in self.history)


def simulate(seed: int) -> Run:
    """Run and judge one seed."""
    dice = random.Random(seed)  # noqa: S311 - dice of a simulation, not a secret
    limits = StreamLimits(critical_inflight=dice.choice([4, 8, 10]), kept_results=dice.choice([2, 6, 64]))
    overloaded = seed % OVERLOADED_EVERY == OVERLOADED_EVERY - 1
    if overloaded:
        admission, places = Admission(), dice.randint(1, 3)
        admission.serves(Stage.TTS, places)
        world = World(limits, Pipeline(dice, places=places), admission)
        workers = [Worker(world, dice, f"stream-{n}", hurried=n % 3 < 2) for n in range(dice.randint(3, 6))]
    else:
        world = World(limits, Pipeline(dice))
        workers = [Worker(world, dice, f"stream-{n}") for n in range(dice.choice([1, 1, 2]))]
    end_s = max(worker.plan() for worker in workers)
    if dice.random() < 0.1:
        world.clock.at(dice.uniform(0, end_s), world.drain)
    world.clock.run(end_s + AFTER_S)
    rules = Rules(
        critical_inflight=limits.critical_inflight, kept_results=limits.kept_results, levels_by_count=not overloaded
    )
    return Run(seed, world.history, judge(world.history, rules))


class Pipeline:
    """Stages as the dice will have them.

    Args:
        dice: what decides.
        places: fragments worked on at once, the oldest first; None: all.
    """

    def __init__(self, dice: random.Random, places: int | None = None) -> None:
        self.dice = dice
        self.free_s = [] if places is None else [0.0] * places
        """When each place is free again, as a heap."""
        self.pace_s = dice.choice([0.1, 0.5, 1.5])
        self.trouble = dice.choice([0.0, 0.1, 0.4])
        self.hangs = dice.choice([0.0, 0.02, 0.2])
        self.full = dice.choice([0.0, 0.0, 0.01])

    def __call__(self, world: World, connection: Connection, session: Session, submit: Submit) -> None:
        dice, now, ticket = self.dice, world.clock.now, submit.ticket
        asr_s, tts_s = dice.expovariate(1 / self.pace_s), dice.expovariate(1 / self.pace_s)
        deaf = dice.random() < 0.1
        outcome = self._outcome(ticket, asr_s + tts_s)
        if dice.random() < self.hangs:
            return

        start_s = now
        if self.free_s:
            start_s = max(now, self.free_s[0])
            heapq.heapreplace(self.free_s, start_s + asr_s + tts_s)

        def stage() -> None:
            if ticket in connection.running:
                try:
                    world.stage(session, ticket, Stage.TTS, heard(make_outcome("heard")))
                except QueueFull as failure:
                    world.finish(connection, session, ticket, Outcome(failure=failure))

        def finish() -> None:
            if deaf or (ticket in connection.running and session is connection.session):
                world.finish(connection, session, ticket, outcome)

        world.clock.at(start_s + asr_s, stage)
        world.clock.at(start_s + asr_s + tts_s, finish)

    def _outcome(self, ticket: int, took_s: float) -> Outcome:
        roll = self.dice.random()
        if roll < self.full:
            return failed(GpuOutOfMemory)
        if roll < self.full + self.trouble:
            return failed(self.dice.choice(FAILURES))
        partial = self.dice.random() < 0.1
        return make_outcome(f"said in {ticket}", partial=partial, tts_ms=round(took_s * 1000))


class Worker:
    """One stream's worker, its reconnects and its takeovers.

    Args:
        world: of its server.
        dice: what decides.
        stream_id: its stream.
        hurried: sends more and faster than a live stream.
    """

    def __init__(self, world: World, dice: random.Random, stream_id: str, *, hurried: bool = False) -> None:
        self.world, self.dice, self.hurried = world, dice, hurried
        self.first = dice.choice([0, 0, 5])
        self.settings = make_settings(
            stream_id=stream_id,
            max_inflight=dice.choice([1, 2, 3]),
            timeout_ms=dice.choice([1500, 3000, 8000]),
            first_sequence_number=self.first,
        )
        self.connections = 0
        self.patient_until_s = 0.0
        self.connection = self.connect()

    def connect(self) -> Connection:
        self.connections += 1
        self.connection = Connection(f"{self.settings.stream_id}/{self.connections}")
        self.connection.hear = self.hear
        self.world.init(self.connection, self.settings)
        return self.connection

    def plan(self) -> float:
        """Set everything that it will do; returns when the last of it happens, in seconds."""
        dice, at, now = self.dice, self.world.clock.at, 0.0
        cadence_s, sloppy = dice.choice([0.0, 0.3, 1.0, 2.0]), dice.choice([0.0, 0.1, 0.3])
        count = dice.randint(8, 30)
        if self.hurried:
            cadence_s, count = dice.choice([0.1, 0.2, 0.4]), dice.randint(30, 60)
        for number in range(self.first, self.first + count):
            now += cadence_s * dice.uniform(0.5, 1.5) + (4 * cadence_s if dice.random() < 0.05 else 0)
            roll = dice.random()
            if roll < sloppy / 3:
                continue
            code = dice.choice([ErrorCode.RATE_LIMITED, ErrorCode.MALFORMED_DATA]) if roll < sloppy / 2 else None
            late_s = dice.choice([0.2, 1.5]) if dice.random() < sloppy else 0.0
            at(now + late_s, self._sending(number, refused=code))
            if dice.random() < sloppy:
                for _ in range(dice.randint(1, 3)):
                    again_s = dice.choice([0.01, 1.0, 5.0])
                    other = dice.random() < 0.15
                    shifted = number + dice.choice([0, 0, 0, 3])
                    at(now + again_s, self._sending(shifted, name=f"f{number}", audio=b"other" if other else None))
        return self._plan_events(now)

    def _plan_events(self, end_s: float) -> float:
        dice, at, world = self.dice, self.world.clock.at, self.world
        if dice.random() < 0.15:
            start_s = dice.uniform(0, end_s)
            at(start_s, lambda: world.signal(self.connection, "stream:pause"))
            at(start_s + dice.uniform(0, 3), lambda: world.signal(self.connection, "stream:resume"))
        if dice.random() < 0.15:
            gone_s = dice.uniform(0, end_s)
            at(gone_s, lambda: world.disconnect(self.connection))
            at(gone_s + dice.uniform(0, 2), self.connect)
        if dice.random() < 0.1:  # a restarted worker opens the stream again while the old connection lives
            at(dice.uniform(0, end_s), self.connect)
        last_s = end_s + dice.choice([0.0, 1.0, 9.0])
        self.patient_until_s = last_s + PATIENCE_S
        if dice.random() < 0.7:
            at(last_s, lambda: world.signal(self.connection, "stream:end"))
        elif dice.random() < 0.5:
            at(last_s, lambda: world.disconnect(self.connection))
        return last_s

    def _sending(
        self, number: int, name: str | None = None, audio: bytes | None = None, refused: ErrorCode | None = None
    ) -> Callable[[], None]:
        return lambda: self.world.send(self.connection, make_fragment(number, name, audio), refused)

    def hear(self, event: ServerEvent) -> None:
        """Some failures and refusals are tried again."""
        told = event.error if isinstance(event, FragmentProcessed) else event
        if not isinstance(event, FragmentProcessed | ErrorEvent) or not isinstance(told, FragmentError | ErrorEvent):
            return
        name, number = event.fragment_id, event.sequence_number
        if name is None or number is None or self.world.clock.now > self.patient_until_s:
            return
        if told.retryable and self.dice.random() < 0.3:
            self.world.clock.at(self.world.clock.now + self.dice.choice([0.1, 1.0]), self._sending(number, name=name))
