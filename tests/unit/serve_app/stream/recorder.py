"""A session in virtual time that writes down what happens to it, and the values that tests feed it."""

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from deployments.contracts.values import (
    AudioFormat,
    EncodedAudio,
    Outcome,
    Recognition,
    Segment,
    Speech,
    Transcript,
    Translation,
    Word,
)
from deployments.errors import Stage, StageError
from serve_app.protocol import Backpressure, ErrorCode, ErrorEvent, FragmentProcessed, FragmentQueued, ServerEvent
from serve_app.scheduling.admission import Admission
from serve_app.stream.session import Session
from serve_app.stream.values import Effect, Emit, Fragment, StreamLimits, StreamSettings, Submit

M4A = AudioFormat("m4a", 48_000, 1)
E = TypeVar("E", bound=ServerEvent)


def make_settings(**changes: Any) -> StreamSettings:
    settings = StreamSettings(
        stream_id="stream",
        session_id="session",
        worker_id="worker",
        source_language="en",
        target_language="es",
        voice="voice",
        hints=(),
        output=M4A,
        chunk_duration_ms=6000,
        max_inflight=3,
        timeout_ms=8000,
        first_sequence_number=0,
    )
    return dataclasses.replace(settings, **changes)


def make_fragment(number: int, fragment_id: str | None = None, audio: bytes | None = None, **changes: Any) -> Fragment:
    """A fragment whose id and audio follow from its number unless they are given."""
    name = f"f{number}" if fragment_id is None else fragment_id
    data = name.encode() if audio is None else audio
    fragment = Fragment(name, number, EncodedAudio(data, M4A), 6000, hashlib.sha256(data).digest())
    return dataclasses.replace(fragment, **changes)


def make_transcript(text: str = "hello", duration_ms: int = 6000) -> Transcript:
    segment = Segment(text, 100, 900, 0.9, (Word(text, 100, 500, 0.8),))
    return Transcript(Recognition((segment,), "en"), duration_ms, M4A, "ears", 40)


def make_outcome(
    text: str = "hello",
    *,
    partial: bool = False,
    duration_ms: int = 6000,
    audio: bytes = b"dub",
    tts_ms: int = 50,
    **changes: Any,
) -> Outcome:
    """What a pipeline that came to its end made of a fragment."""
    variance, warnings = (15.0, ("duration_variance_high",)) if partial else (0.0, ())
    outcome = Outcome(
        make_transcript(text, duration_ms),
        Translation("hola", "en", "es", "tongue", 30),
        Speech(EncodedAudio(audio, M4A), duration_ms, variance, 1.0, "mouth", tts_ms, partial, warnings),
    )
    return dataclasses.replace(outcome, **changes)


def timed_outcome(*, asr_s: float = 0.0, tts_s: float = 0.0) -> Outcome:
    """The same, of stages that computed for so long."""
    outcome = make_outcome("said")
    assert outcome.transcript is not None
    assert outcome.translation is not None
    assert outcome.speech is not None
    return Outcome(
        dataclasses.replace(outcome.transcript, elapsed_ms=round(asr_s * 1000)),
        dataclasses.replace(outcome.translation, elapsed_ms=0),
        dataclasses.replace(outcome.speech, elapsed_ms=round(tts_s * 1000)),
    )


def heard(outcome: Outcome) -> Outcome:
    """As far as it was done before the voice."""
    return Outcome(outcome.transcript, outcome.translation)


def failed(error: type[StageError], stage: Stage = Stage.ASR, message: str = "broken", **details: float) -> Outcome:
    return Outcome(failure=error(stage, message, details))


@dataclass(frozen=True, slots=True)
class Step:
    """One call of the session, and the session after it."""

    now: float
    call: str
    given: Any
    effects: tuple[Effect, ...]
    in_flight: int
    level: str
    state: str
    next_tick: float | None
    kept_bytes: int

    def events(self, kind: type[E]) -> list[E]:
        return [effect.event for effect in self.effects if isinstance(effect, Emit) and isinstance(effect.event, kind)]

    @property
    def results(self) -> list[FragmentProcessed]:
        return self.events(FragmentProcessed)

    @property
    def numbers(self) -> list[int]:
        """Sequence numbers of the results, as they leave."""
        return [result.sequence_number for result in self.results]

    @property
    def acks(self) -> list[FragmentQueued]:
        return self.events(FragmentQueued)

    @property
    def pressure(self) -> list[Backpressure]:
        return self.events(Backpressure)

    @property
    def errors(self) -> list[ErrorEvent]:
        return self.events(ErrorEvent)

    @property
    def codes(self) -> list[str]:
        return [error.code for error in self.errors]

    def only(self, kind: type[Effect]) -> list[Any]:
        return [effect for effect in self.effects if isinstance(effect, kind)]


class Unforeseen(Admission):
    """A forecast that sees no wait coming, for what doesn't depend on how fast the models are."""

    def refusal(self, *_: object) -> None:
        """Everything may come in."""

    def reach(self, *given: Any) -> float:
        super().reach(*given)
        return 0.0

    def waits(self, *_: object) -> tuple[float, float]:
        return 0.0, 1.0


class Recorder:
    """Calls a session at its own virtual `now` and remembers every call as a Step.

    `ids` of fragments stand for their tickets, so that tests need not know any.
    """

    def __init__(
        self,
        settings: StreamSettings | None = None,
        limits: StreamLimits | None = None,
        *,
        build: Callable[[StreamSettings, StreamLimits], Session] = lambda *given: Session(*given, Unforeseen()),
        observe: Callable[[Step], None] = lambda step: None,
    ) -> None:
        self.settings = settings or make_settings()
        self.limits = limits or StreamLimits()
        self.session = build(self.settings, self.limits)
        self.now = 100.0
        self.steps: list[Step] = []
        self.tickets: dict[str, list[int]] = {}
        self._observe = observe

    @property
    def results(self) -> list[FragmentProcessed]:
        return [result for step in self.steps for result in step.results]

    @property
    def numbers(self) -> list[int]:
        return [result.sequence_number for result in self.results]

    @property
    def levels(self) -> list[str]:
        return [event.severity for step in self.steps for event in step.pressure]

    def send(self, number: int, fragment_id: str | None = None, audio: bytes | None = None, **changes: Any) -> Step:
        fragment = make_fragment(number, fragment_id, audio, **changes)
        return self._record("accept", fragment, self.session.accept(fragment, self.now))

    def refuse(self, code: ErrorCode, number: int | None = None, fragment_id: str | None = None) -> Step:
        effects = self.session.refuse(code, "no", self.now, fragment_id=fragment_id, sequence_number=number)
        return self._record("refuse", (code, fragment_id, number), effects)

    def complete(self, fragment_id: str, outcome: Outcome | None = None) -> Step:
        """Finish the latest attempt on a fragment."""
        return self.complete_ticket(self.tickets[fragment_id][-1], outcome)

    def complete_ticket(self, ticket: int, outcome: Outcome | None = None) -> Step:
        result = make_outcome(f"said in {ticket}") if outcome is None else outcome
        return self._record("complete", (ticket, result), self.session.complete(ticket, result, self.now))

    def running(self, fragment_id: str, stage: Stage, so_far: Outcome | None = None) -> None:
        self.session.running(self.tickets[fragment_id][-1], stage, so_far or Outcome(), self.now)

    def tick(self, now: float | None = None) -> Step:
        """Tick at `now`, which becomes the time."""
        self.now = self.now if now is None else now
        return self._record("tick", None, self.session.tick(self.now))

    def wait(self, seconds: float) -> list[Step]:
        """Let time pass; the session is ticked whenever it asked for it."""
        until = self.now + seconds
        ticks = []
        while (due := self.session.next_tick()) is not None and due <= until:
            ticks.append(self.tick(max(due, self.now)))
        self.now = until
        return ticks

    def settle(self) -> None:
        """Let time pass until nothing is in flight."""
        while (due := self.session.next_tick()) is not None:
            self.tick(max(due, self.now))

    def pause(self) -> Step:
        return self._record("pause", None, self.session.pause())

    def resume(self) -> Step:
        return self._record("resume", None, self.session.resume())

    def end(self) -> Step:
        return self._record("end", None, self.session.end(self.now))

    def drain(self) -> Step:
        return self._record("drain", None, self.session.drain(self.now))

    def disconnect(self) -> Step:
        return self._record("disconnect", None, self.session.disconnect(self.now))

    def replace(self) -> Step:
        return self._record("replace", None, self.session.replace(self.now))

    def _record(self, call: str, given: Any, effects: list[Effect]) -> Step:
        step = Step(
            self.now,
            call,
            given,
            tuple(effects),
            self.session.in_flight,
            self.session.level.value,
            self.session.state.value,
            self.session.next_tick(),
            self.session.kept_bytes,
        )
        for submit in step.only(Submit):
            self.tickets.setdefault(submit.fragment.fragment_id, []).append(submit.ticket)
        self.steps.append(step)
        self._observe(step)
        return step
