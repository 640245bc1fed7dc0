"""A stage of the models in virtual time, whose calls come through FairQueue: paced streams and hogs."""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from deployments.contracts.values import Outcome
from deployments.errors import DeadlineExceeded, QueueFull
from deployments.errors import Stage as Name
from serve_app.scheduling.admission import Admission, Passage, StreamAdmission
from serve_app.scheduling.fair_queue import FairQueue, Priority, Turn
from serve_app.stages.fair_stages import LOOK_AGAIN_S
from tests.unit.serve_app.stream.recorder import failed, heard, timed_outcome

TIMEOUT_S = 8.0
CRITICAL = 10
FILE_TIMEOUT_S = 60.0
OVERHEAD_S = 0.02
"""What a call takes beside waiting and computing, on the average."""


@dataclass
class Call:
    stream: int
    turn: Turn
    service_s: float
    passage: Passage
    over: bool = False

    @property
    def end_by(self) -> float:
        timeout_s = FILE_TIMEOUT_S if self.turn.priority is Priority.BACKGROUND else TIMEOUT_S
        return self.turn.came_at + timeout_s

    @property
    def spoken(self) -> Outcome:
        return timed_outcome(tts_s=self.service_s)


@dataclass
class Seen:
    """What came of one stream's calls."""

    took_s: list[float] = field(default_factory=list)
    late: int = 0
    refused: int = 0

    def percentile_s(self, share: float = 0.95) -> float:
        return sorted(self.took_s)[int(share * len(self.took_s))]


class Stage:
    """Servers that take what came first, for streams that send every so often, whatever comes back.

    Args:
        periods_s: of the streams.
        servers: calls computed at once.
        service_s: how long the next call computes.
        turns: who may come to the servers.
        background: so many of the streams, the last ones, are in the background, and forecast apart.
        seed: of the streams' phases and of all that varies.
    """

    def __init__(
        self,
        periods_s: list[float],
        *,
        servers: int,
        service_s: Callable[[random.Random], float],
        turns: FairQueue | None = None,
        background: int = 0,
        seed: int = 1,
    ) -> None:
        self.turns = turns or FairQueue()
        self.seen = [Seen() for _ in periods_s]
        self.computing_s = 0.0
        self._dice = random.Random(seed)  # noqa: S311 - dice of a simulation, not a secret
        self._periods_s, self._servers, self._service_s = periods_s, servers, service_s
        self._first_background = len(periods_s) - background
        live, apart = Admission(), Admission()
        for shared in (live, apart):
            shared.serves(Name.TTS, servers)
        self._doors = [StreamAdmission(live if n < self._first_background else apart) for n in range(len(periods_s))]
        self._in_flight = [0] * len(periods_s)
        self._calls: dict[Turn, Call] = {}
        self._queue: list[Call] = []
        self._busy = 0
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = itertools.count()
        for stream, period_s in enumerate(periods_s):
            self._at(period_s * self._dice.random(), lambda now, stream=stream: self._send(stream, now))
        if background:
            self._at(0.0, self._look)

    def run(self, until_s: float) -> None:
        """Go on until then; `seen` begins anew."""
        self.seen = [Seen() for _ in self._periods_s]
        self.computing_s = 0.0
        while self._events[0][0] < until_s:
            now, _, act = heapq.heappop(self._events)
            act(now)

    def _at(self, time_s: float, act: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (time_s, next(self._order), act))

    def _look(self, now: float) -> None:
        self._at(now + LOOK_AGAIN_S, self._look)
        self._start(self.turns.look(now), now)

    def _send(self, stream: int, now: float) -> None:
        jitter = self._dice.uniform(0.99, 1.01)
        self._at(now + jitter * self._periods_s[stream], lambda later: self._send(stream, later))
        door = self._doors[stream]
        if self._in_flight[stream] >= CRITICAL or door.refusal(1.0, TIMEOUT_S, now) is not None:
            self.seen[stream].refused += 1
            return
        self._in_flight[stream] += 1
        passage = door.enter(1.0, TIMEOUT_S, now)
        door.reach(passage, Name.TTS, heard(timed_outcome()), now)
        priority = Priority.BACKGROUND if stream >= self._first_background else Priority.LIVE
        call = Call(stream, Turn(f"stream-{stream}", now, priority), self._service_s(self._dice), passage)
        self._calls[call.turn] = call
        self._at(call.end_by, lambda later: self._over(call, later, failed(DeadlineExceeded)))
        self._start(self.turns.come(call.turn), now)

    def _start(self, turns: list[Turn], now: float) -> None:
        self._queue += [self._calls[turn] for turn in turns]
        while self._queue and self._busy < self._servers:
            call = self._queue.pop(0)
            if call.over:
                continue
            if now + call.service_s > call.end_by:  # replicas begin nothing that can't end in time
                self._over(call, now, failed(QueueFull))
                continue
            self._busy += 1
            self.computing_s += call.service_s
            self._at(now + call.service_s, self._free)
            told_s = now + call.service_s + self._dice.uniform(0, 2 * OVERHEAD_S)
            self._at(told_s, lambda later, call=call: self._over(call, later, call.spoken))

    def _free(self, now: float) -> None:
        self._busy -= 1
        self._start([], now)

    def _over(self, call: Call, now: float, outcome: Outcome) -> None:
        if call.over:
            return
        call.over = True
        self._in_flight[call.stream] -= 1
        self._doors[call.stream].leave(call.passage, outcome, now)
        seen = self.seen[call.stream]
        if outcome.failure is None:
            seen.took_s.append(now - call.turn.came_at)
        elif isinstance(outcome.failure, QueueFull):
            seen.refused += 1
        else:
            seen.late += 1
        del self._calls[call.turn]
        self._start(self.turns.leave(call.turn, now, None if outcome.failure else call.service_s), now)
