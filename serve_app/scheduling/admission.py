"""Whether a fragment would be done in time, told before anything is computed for it. PURE.

Nobody tells how fast the models are; it is learnt from results. For each stage it is known which fragments compute
there, which wait and which are still to come, so the time at which a new one would be done can be told. One that would
be late is refused while its worker can still do something else, with the time after which it would fit. A stream with
much in flight waits behind those that have little, as `turns` has it, so a hog is refused before its neighbours.

Protocol: In time or not at all.
"""

from dataclasses import dataclass
from itertools import islice

from deployments.contracts.values import FASTER_VOICE, Outcome
from deployments.errors import DeadlineExceeded, QueueFull, Stage
from deployments.forecast import EXPECTED_MS, Expectation, Lane

STAGES = tuple(Stage)
VOICE = STAGES.index(Stage.TTS)
START = 1000
"""What `limit` says until a result has been seen: far above what one ingress replica carries."""
SPARE = 0.03
"""Share of a fragment's time that a forecast leaves for what it can't know."""
NEWEST_SHARE = 0.1
"""How much the latest result counts in how far forecasts were off."""
LIKELY = 3.0
"""Mean deviations by which a forecast may be off once more."""
SHORTEST_DELAY_S = 0.1
"""The least that a refused worker is asked to wait."""


@dataclass(eq=False, slots=True)
class Passage:
    """A fragment's way through the stages."""

    stream: "StreamAdmission"
    seconds: float
    """Of sound."""
    entered_at: float
    waits_s: float | None
    """How long it was expected to wait; where a faster voice can come in, as far as the voice. None: nobody knew."""
    trial: bool
    """It seems too long and is tried all the same, since what is known is old."""
    at: int = 0
    """The stage that it has come to, as an index of STAGES."""
    aside: bool = False
    """The faster voice speaks it, or nobody does, so it takes no place with the first one."""


class Admission:
    """The forecast for all streams of one ingress replica. Times are in seconds of one clock."""

    def __init__(self) -> None:
        self._lanes = [Lane() for _ in STAGES]
        self._takes = [Expectation() for _ in STAGES]
        self._at = [0] * len(STAGES)
        """Fragments in flight by the stage that they have come to."""
        self._busy_streams = 0
        """Streams that have something in flight."""
        self._time_s = 8.0
        """That the latest fragment had."""

    @property
    def limit(self) -> float:
        """Fragments in flight that would all be done within the time that the latest one had, as far as is known."""
        per_s = [
            lane.servers / takes.mean_s for lane, takes in zip(self._lanes, self._takes, strict=True) if takes.mean_s
        ]
        return min([START, *(rate * self._time_s for rate in per_s)])

    def serves(self, stage: Stage, at_once: float) -> None:
        """So many fragments compute at once in a stage, at most."""
        self._lanes[STAGES.index(stage)].servers = at_once

    def forecast_s(self, stream: "StreamAdmission", seconds: float, now: float, first: int = 0) -> float:
        """Seconds until a fragment of so many seconds of sound is done that comes to the stage `first` now.

        Where a faster voice can come in, until it comes to the voice; from there, what the first one would take.
        """
        last = VOICE if stream.faster_voice and first < VOICE else len(STAGES)
        own, others = stream.in_flight, self._busy_streams - (stream.in_flight > 0)
        before = own + others * (own + 1)
        done_s = 0.0
        for index in range(first, last):
            takes, to_come = self._takes[index], sum(self._at[first:index])
            starts_s = self._lanes[index].starts_in_s(now, before, to_come, takes.of(seconds))
            done_s = max(done_s, starts_s) + takes.at_best(seconds)
        return done_s

    def refusal(self, stream: "StreamAdmission", seconds: float, time_s: float, now: float) -> float | None:
        """Seconds after which a fragment that would be late now would be in time; None when it may come in."""
        self._time_s = time_s
        off_s = stream.off_s if stream.in_flight else 0.0  # else nobody would learn that it is less by now
        done_s = max(self.forecast_s(stream, seconds, now) + off_s, self._in_its_share_s(stream, seconds))
        late_s = done_s - (1 - SPARE) * time_s
        if late_s <= 0 or self._worth_a_try(now) or self._first(stream, seconds, time_s):
            return None
        if self._alone_s(stream, seconds) > (1 - SPARE) * time_s:
            late_s = min(takes.worth_a_try_in_s(now) for takes in self._takes if takes.known)
        else:
            late_s += SPARE * time_s  # so that it fits then, though what is before it may end a little later
        return max(late_s, SHORTEST_DELAY_S)

    def waits(self, stream: "StreamAdmission", seconds: float, time_s: float, now: float) -> tuple[float, float]:
        """Seconds that one more fragment would wait, and that it could wait and still be in time."""
        alone_s = self._alone_s(stream, seconds)
        return self.forecast_s(stream, seconds, now) + stream.off_s - alone_s, (1 - SPARE) * time_s - alone_s

    def enter(self, stream: "StreamAdmission", seconds: float, time_s: float, now: float) -> Passage:
        """A fragment comes in."""
        waits_s = self.forecast_s(stream, seconds, now) - self._alone_s(stream, seconds)
        known = self._takes[VOICE].known or stream.faster_voice
        trial = self._worth_a_try(now) or self._first(stream, seconds, time_s)
        passage = Passage(stream, seconds, now, waits_s if known else None, trial=trial)
        stream.tried = True
        self._busy_streams += stream.in_flight == 0
        stream.in_flight += 1
        self._come(passage, now)
        return passage

    def reach(self, passage: Passage, stage: Stage, so_far: Outcome, now: float) -> float:
        """A fragment has come to a stage, with what was done before; seconds from now to its end."""
        index = STAGES.index(stage)
        if index > passage.at:
            self._leave(passage, now)
            self._learn(passage, so_far, now)
            passage.at = index
            passage.stream.in_flight -= 1  # it doesn't wait for itself
            left_s = self.forecast_s(passage.stream, passage.seconds, now, index)
            passage.stream.in_flight += 1
            if passage.stream.faster_voice and self._worth_a_try_at(index, now):
                left_s = 0.0
            self._come(passage, now)
            if index == VOICE and passage.stream.faster_voice:
                passage.stream.learn(passage, now - passage.entered_at - _computed_s(so_far))
            return left_s
        return 0.0

    def step_aside(self, passage: Passage, now: float) -> None:
        """A fragment that has come to the voice is spoken by the faster one."""
        passage.aside = True
        self._lanes[VOICE].leave(passage, now)

    def leave(self, passage: Passage, outcome: Outcome | None, now: float) -> None:
        """A fragment has its outcome; None: nobody wants one any more."""
        failure = (outcome.failure or outcome.replaced) if outcome else None
        late = isinstance(failure, DeadlineExceeded) or (outcome is not None and _rescued(passage, outcome))
        computed_s = 0.0
        if outcome is None or late:
            computed_s = self._lanes[passage.at].abandon(passage, now)
        self._leave(passage, now)
        stream = passage.stream
        stream.in_flight -= 1
        self._busy_streams -= stream.in_flight == 0
        if outcome is None:
            return
        if late:
            self._takes[passage.at].learn_at_least(passage.seconds, computed_s, now)
        elif failure is None:
            self._learn(passage, outcome, now)
        elif EXPECTED_MS in failure.details:
            self._takes[passage.at].learn(passage.seconds, float(failure.details[EXPECTED_MS]) / 1000, now)
        if not stream.faster_voice and (late or failure is None or isinstance(failure, QueueFull)):
            stream.learn(passage, now - passage.entered_at - _computed_s(outcome) - computed_s)

    def _alone_s(self, stream: "StreamAdmission", seconds: float) -> float:
        """Seconds that a fragment takes if it waits for nobody."""
        return sum(takes.at_best(seconds) for takes in self._takes[: VOICE if stream.faster_voice else None])

    def _in_its_share_s(self, stream: "StreamAdmission", seconds: float) -> float:
        """Seconds until all that a stream has in flight is done, one more included, if all busy streams go on sending.

        What comes later from streams that have less in flight goes first; a stream that has nothing in flight waits for
        nobody's later fragments, nor does one that is alone.
        """
        if not stream.in_flight or self._busy_streams == 1:
            return 0.0
        stages = zip(self._lanes, self._takes, strict=True)
        slowest_s = max(
            takes.of(seconds) / lane.servers for lane, takes in islice(stages, VOICE if stream.faster_voice else None)
        )
        return (stream.in_flight + 1) * self._busy_streams * slowest_s

    def _first(self, stream: "StreamAdmission", seconds: float, time_s: float) -> bool:
        """Whether it is a stream's first, that others' would not be in time even alone: its own may be quicker."""
        return not stream.tried and self._alone_s(stream, seconds) > (1 - SPARE) * time_s

    def _come(self, passage: Passage, now: float) -> None:
        self._at[passage.at] += 1
        self._lanes[passage.at].come(passage, self._takes[passage.at].of(passage.seconds), now)

    def _leave(self, passage: Passage, now: float) -> None:
        self._at[passage.at] -= 1
        self._lanes[passage.at].leave(passage, now)

    def _learn(self, passage: Passage, outcome: Outcome, now: float) -> None:
        """Take what the stage says that it computed which the fragment is at."""
        done = (outcome.transcript, outcome.translation, None if passage.aside else outcome.speech)[passage.at]
        if done is not None:
            self._takes[passage.at].learn(passage.seconds, done.elapsed_ms / 1000, now)

    def _worth_a_try(self, now: float) -> bool:
        """Whether nothing is in flight, and how long a stage takes has not been seen for long."""
        return not any(self._at) and any(t.known and t.worth_a_try_in_s(now) == 0 for t in self._takes)

    def _worth_a_try_at(self, index: int, now: float) -> bool:
        """The same of one stage, where nothing is lost by it."""
        return not len(self._lanes[index]) and self._takes[index].worth_a_try_in_s(now) == 0


def _rescued(passage: Passage, outcome: Outcome) -> bool:
    """Whether the faster voice spoke in place of the first one, which had begun and would have been late."""
    return not passage.aside and outcome.speech is not None and FASTER_VOICE in outcome.speech.warnings


def _computed_s(outcome: Outcome) -> float:
    """Seconds that stages have computed for a fragment, by their own account."""
    done = (outcome.transcript, outcome.translation, outcome.speech)
    return sum(part.elapsed_ms for part in done if part is not None) / 1000


class StreamAdmission:
    """One stream's part in it.

    Args:
        shared: the forecast for all streams.
    """

    def __init__(self, shared: Admission) -> None:
        self.shared = shared
        self.faster_voice = False
        """Whether a voice comes in that takes no time to speak of, where the first one would be late."""
        self.tried = False
        """Whether a fragment has come in."""
        self.in_flight = 0
        """Fragments between acceptance and outcome."""
        self._off_s = self._off_by_s = 0.0
        """How much longer fragments have waited than was forecast, on the average, and how much that varied."""

    @property
    def off_s(self) -> float:
        """How much longer than forecast this stream's fragments may wait, for what can't be seen from here."""
        return max(0.0, self._off_s + LIKELY * self._off_by_s)

    def learn(self, passage: Passage, waited_s: float) -> None:
        """A fragment has waited so long for others."""
        if passage.waits_s is not None and not passage.trial:
            off_s = waited_s - passage.waits_s
            self._off_by_s += NEWEST_SHARE * (abs(off_s - self._off_s) - self._off_by_s)
            self._off_s += NEWEST_SHARE * (off_s - self._off_s)

    def refusal(self, seconds: float, time_s: float, now: float) -> float | None:
        """Seconds after which a fragment that would be late now would be in time; None when it may come in."""
        return self.shared.refusal(self, seconds, time_s, now)

    def enter(self, seconds: float, time_s: float, now: float) -> Passage:
        """A fragment comes in."""
        return self.shared.enter(self, seconds, time_s, now)

    def reach(self, passage: Passage, stage: Stage, so_far: Outcome, now: float) -> float:
        """A fragment has come to a stage, with what was done before; seconds from now to its end."""
        return self.shared.reach(passage, stage, so_far, now)

    def leave(self, passage: Passage, outcome: Outcome | None, now: float) -> None:
        """A fragment has its outcome; None: nobody wants one any more."""
        self.shared.leave(passage, outcome, now)

    def step_aside(self, passage: Passage, now: float) -> None:
        """A fragment that has come to the voice is spoken by the faster one."""
        self.shared.step_aside(passage, now)

    def waits(self, seconds: float, time_s: float, now: float) -> tuple[float, float]:
        """Seconds that one more fragment would wait, and that it could wait and still be in time."""
        return self.shared.waits(self, seconds, time_s, now)
