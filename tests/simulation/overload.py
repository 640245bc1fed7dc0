"""Workers and models in virtual time, to see what of the models' capacity comes out as results in time.

Real sessions and the real forecast; the stages are queues with so many servers that drop, as replicas do, what can't
end in time by the time it would start. Workers keep so many fragments in flight, heed backpressure and come back when
they are asked to.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from deployments.contracts.values import FASTER_NEEDS_MS, FASTER_VOICE, Outcome
from deployments.errors import QueueFull, Stage
from deployments.forecast import EXPECTED_MS, Expectation
from serve_app.protocol import Backpressure, ErrorEvent, FragmentProcessed, ServerEvent
from serve_app.scheduling.admission import Admission
from serve_app.stream.session import Session
from serve_app.stream.values import StreamLimits, Submit
from tests.simulation.world import Connection, World
from tests.unit.serve_app.stream.recorder import make_fragment, make_outcome, make_settings

ROUND_TRIP_S = 0.02
NOISE = 0.03
"""Share by which a call's time differs from what its size says."""


@dataclass
class Model:
    """One stage's replicas: servers that take the oldest first.

    Args:
        servers: calls computed at once.
        service_s: how long a call of size 1 computes, by the time.
        vary: sizes of calls differ by this share of 1; a replica sees a call's size, the ingress does not.
        knows: whether it refuses what can't end in time.
    """

    servers: int
    service_s: Callable[[float], float]
    vary: float = 0.0
    knows: bool = True
    busy: int = 0
    computed_s: float = 0.0
    queue: list["Call"] = field(default_factory=list)
    takes: Expectation = field(default_factory=Expectation)


@dataclass
class Call:
    size: float
    deadline: float
    wanted: Callable[[], bool]
    done: Callable[[float], None]
    refused: Callable[[QueueFull], None]


class Models:
    """The three stages behind the sessions.

    Args:
        dice: what decides.
        models: by stage.
        faster_s: how long a faster voice takes; None: there is none.
    """

    def __init__(self, dice: random.Random, models: dict[Stage, Model], faster_s: float | None = None) -> None:
        self.dice, self.models, self.faster_s = dice, models, faster_s

    def __call__(self, world: World, connection: Connection, session: Session, submit: Submit) -> None:
        self._enter(world, connection, session, submit, list(Stage), Outcome())

    def _enter(
        self,
        world: World,
        connection: Connection,
        session: Session,
        submit: Submit,
        stages: list[Stage],
        so_far: Outcome,
    ) -> None:
        if not stages:
            world.finish(connection, session, submit.ticket, so_far)
            return
        stage, rest = stages[0], stages[1:]

        def wanted() -> bool:
            return submit.ticket in connection.running and session is connection.session

        def refused(error: QueueFull) -> None:
            world.finish(connection, session, submit.ticket, replace(so_far, failure=error))

        def faster() -> None:
            """The other voice, which waits for nobody."""
            speech = make_outcome("said").speech
            assert speech is not None
            rescued = replace(so_far, speech=replace(speech, warnings=(FASTER_VOICE,)))
            at_s = world.clock.now + (self.faster_s or 0.0)
            world.clock.at(at_s, lambda: world.finish(connection, session, submit.ticket, rescued))

        def done(took_s: float) -> None:
            whole = make_outcome("said")
            part = {Stage.ASR: "transcript", Stage.TRANSLATION: "translation", Stage.TTS: "speech"}[stage]
            answer = replace(getattr(whole, part), elapsed_ms=round(took_s * 1000))
            if wanted():
                self._enter(world, connection, session, submit, rest, replace(so_far, **{part: answer}))

        try:
            hasten = world.stage(session, submit.ticket, stage, so_far)
        except QueueFull as error:
            refused(error)
            return
        if hasten:
            faster()
            return
        end_by = submit.deadline
        if stage is Stage.TTS and self.faster_s is not None:
            end_by -= FASTER_NEEDS_MS / 1000
            refused = lambda _error: faster()  # noqa: E731
        model = self.models[stage]
        size = self.dice.uniform(1 - model.vary, 1 + model.vary)
        model.queue.append(Call(size, end_by, wanted, done, refused))
        self._start(world, stage)

    def _start(self, world: World, stage: Stage) -> None:
        model = self.models[stage]
        while model.queue and model.busy < model.servers:
            call = model.queue.pop(0)
            if not call.wanted():
                continue
            now = world.clock.now
            needed_s = model.takes.at_worst(call.size)
            if (
                model.knows
                and needed_s > call.deadline - now
                and not (model.busy == 0 and model.takes.worth_a_try_in_s(now) == 0)
            ):
                full = QueueFull(stage, "late", {EXPECTED_MS: 1000 * model.takes.of(call.size)})
                world.clock.at(now, lambda call=call, full=full: call.refused(full))
                continue
            took_s = call.size * model.service_s(now) * self.dice.uniform(1 - NOISE, 1 + NOISE)
            model.busy += 1
            model.computed_s += took_s
            world.clock.at(now + took_s, lambda call=call, took_s=took_s: self._end(world, stage, call, took_s))

    def _end(self, world: World, stage: Stage, call: Call, took_s: float) -> None:
        model = self.models[stage]
        model.busy -= 1
        model.takes.learn(call.size, took_s, world.clock.now)
        call.done(took_s)
        self._start(world, stage)


class Worker:
    """Keeps so many fragments in flight, or sends at its pace; heeds what the server asks.

    Args:
        world: of its server.
        name: of its stream.
        keeps: in flight at most.
        period_s: between fragments; 0: as fast as they may be sent.
        timeout_s: that each fragment has.
        start_s: when it begins.
    """

    def __init__(
        self,
        world: World,
        name: str,
        *,
        keeps: int,
        period_s: float,
        timeout_s: float,
        start_s: float,
        faster_voice: str = "",
    ) -> None:
        self.world, self.keeps, self.period_s = world, keeps, period_s
        self.good: list[float] = []
        self.bad: list[tuple[float, str]] = []
        self.sent = 0
        self.waiting: list[tuple[int, str]] = []
        """Fragments that a live worker has and may not send yet; those that come back."""
        self.open: set[str] = set()
        self.paused = False
        self.gate_s = 0.0
        self.slow_s = 0.0
        self.woken = False
        self.next_number = 0
        self.settings = make_settings(
            stream_id=name,
            max_inflight=min(keeps, 10),
            timeout_ms=round(timeout_s * 1000),
            faster_voice=faster_voice,
        )
        self.connection = Connection(name)
        self.connection.hear = lambda event: world.clock.at(
            world.clock.now + ROUND_TRIP_S / 2, lambda: self.hear(event)
        )
        world.init(self.connection, self.settings)
        world.clock.at(start_s, self._produce if period_s else self._send)

    def _produce(self) -> None:
        """A live worker's next fragment; of those that it could not send it keeps the latest."""
        self.world.clock.at(self.world.clock.now + self.period_s, self._produce)
        self.waiting = [*self.waiting[-1:], (self.next_number, f"f{self.next_number}")]
        self.next_number += 1
        self._send()

    def _send(self) -> None:
        now = self.world.clock.now
        while not self.paused and now >= self.gate_s and len(self.open) < self.keeps:
            if self.period_s:
                if not self.waiting:
                    return
                number, name = self.waiting.pop(0)
            else:
                number, name = self.next_number, f"f{self.next_number}"
                self.next_number += 1
            self.open.add(name)
            self.sent += 1
            if self.slow_s:
                self.gate_s = now + self.slow_s
            fragment = make_fragment(number, name)
            self.world.clock.at(now + ROUND_TRIP_S / 2, lambda f=fragment: self.world.send(self.connection, f))
        if now < self.gate_s and not self.woken:
            self.woken = True
            self.world.clock.at(self.gate_s, self._wake)

    def _wake(self) -> None:
        self.woken = False
        self._send()

    def hear(self, event: ServerEvent) -> None:
        now = self.world.clock.now
        match event:
            case Backpressure(action=action, recommended_delay_ms=delay_ms):
                self.paused = action == "pause" or (self.paused and action != "none")
                self.slow_s = delay_ms / 1000 if action == "slow_down" else 0.0
                self.gate_s = now if action == "none" else self.gate_s
            case FragmentProcessed(status=status, error=error):
                self.open.discard(event.fragment_id)
                if status == "failed":
                    self.bad.append((now, error.code if error else ""))
                else:
                    self.good.append(now)
            case ErrorEvent(fragment_id=str() as name):
                self.open.discard(name)
                self.bad.append((now, event.code))
                if self.period_s and event.sequence_number is not None:
                    self.waiting = [(event.sequence_number, name), *self.waiting][-2:]
                delay_ms = (event.details or {}).get("recommended_delay_ms", 1000)
                self.gate_s = max(self.gate_s, now + delay_ms / 1000)
        self._send()


@dataclass
class Run:
    workers: list[Worker]
    models: dict[Stage, Model]

    def good(self, from_s: float) -> int:
        return sum(at_s >= from_s for worker in self.workers for at_s in worker.good)

    def late(self, from_s: float) -> int:
        return sum(at_s >= from_s and code == "TIMEOUT" for worker in self.workers for at_s, code in worker.bad)


def run(
    *,
    service_s: float | Callable[[float], float],
    servers: int = 1,
    streams: int = 1,
    keeps: int = 3,
    period_s: float = 0.0,
    timeout_s: float = 8.0,
    asr_s: float = 0.05,
    jitter: float = 0.0,
    until_s: float = 300.0,
    told: bool = True,
    knows: bool = True,
    bunched: bool = False,
    faster_s: float | None = None,
    admission: Admission | None = None,
    seed: int = 1,
) -> Run:
    dice = random.Random(seed)  # noqa: S311 - dice of a simulation, not a secret
    voice_s = service_s if callable(service_s) else lambda _now: service_s
    models = {
        Stage.ASR: Model(2, lambda _now: asr_s, knows=knows),
        Stage.TRANSLATION: Model(2, lambda _now: 0.002, knows=knows),
        Stage.TTS: Model(servers, voice_s, jitter, knows),
    }
    admission = admission or Admission()
    if told:
        for stage, model in models.items():
            admission.serves(stage, model.servers)
    world = World(StreamLimits(), Models(dice, models, faster_s), admission)
    workers = [
        Worker(
            world,
            f"stream-{n}",
            keeps=keeps,
            period_s=period_s,
            timeout_s=timeout_s,
            faster_voice="" if faster_s is None else "fast",
            start_s=0.0 if bunched else dice.uniform(0, period_s or 0.5),
        )
        for n in range(streams)
    ]
    world.clock.run(until_s)
    return Run(workers, models)
