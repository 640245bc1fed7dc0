"""A transcription session in virtual time: speech by its times, models that take theirs, a client that sends."""

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from deployments.contracts.values import VOICE_FRAME_MS, AudioFormat, Recognition, Segment, Transcript, Word
from deployments.errors import StageError
from serve_app.transcription import (
    Cancel,
    Completed,
    Effect,
    Event,
    Final,
    Interim,
    Listen,
    Overdue,
    Recognise,
    Tell,
    TranscriptionLimits,
    TranscriptionSession,
    TranscriptionSettings,
)

ENGLISH = TranscriptionSettings("en")
FORMAT = AudioFormat("pcm_s16le", 16_000, 1)


@dataclass(frozen=True)
class Spoken:
    """A word and when it is said."""

    text: str
    start_ms: int
    end_ms: int


def words(*spans: tuple[int, int], each_ms: int = 250) -> tuple[Spoken, ...]:
    """Words said one after the other in each stretch of time."""
    said = []
    for start_ms, end_ms in spans:
        for at_ms in range(start_ms, end_ms - each_ms // 2, each_ms):
            said.append(Spoken(f"word{len(said)}", at_ms, min(at_ms + each_ms, end_ms)))
    return tuple(said)


@dataclass
class Models:
    """What listens and recognises, and how long it takes. A reply that is an error fails its call."""

    speech: Sequence[Spoken]
    listen_s: Callable[[int], float] = lambda _: 0.01
    interim_s: Callable[[int], float] = lambda _: 0.1
    final_s: Callable[[int], float] = lambda _: 0.3
    fails: Callable[[int, Effect], StageError | None] = lambda _ticket, _call: None

    def answer(self, call: Listen | Recognise) -> tuple[float, object]:
        """How long it takes, and what comes of it."""
        error = self.fails(call.ticket, call)
        if isinstance(call, Listen):
            frames = range(call.start_ms, call.end_ms, VOICE_FRAME_MS)
            found = tuple(self._voice(at, min(at + VOICE_FRAME_MS, call.end_ms)) for at in frames)
            return self.listen_s(call.ticket), error or found
        took_s = (self.interim_s if call.interim else self.final_s)(call.ticket)
        return took_s, error or self._heard(call)

    def _voice(self, start_ms: int, end_ms: int) -> float:
        return 0.9 if any(one.start_ms < end_ms and one.end_ms > start_ms for one in self.speech) else 0.02

    def _heard(self, call: Recognise) -> Transcript:
        """The words whose middle lies in what was asked about."""
        inside = [one for one in self.speech if call.start_ms <= (one.start_ms + one.end_ms) / 2 < call.end_ms]
        told = tuple(
            Word(one.text, max(0, one.start_ms - call.start_ms), max(0, one.end_ms - call.start_ms), 0.9)
            for one in inside
        )
        text = " ".join(one.text for one in inside)
        segments = (Segment(text, told[0].start_ms, told[-1].end_ms, 0.9, told),) if told else ()
        return Transcript(Recognition(segments, "en"), call.end_ms - call.start_ms, FORMAT, "simulated", 0)


@dataclass
class Simulation:
    """Runs one session."""

    models: Models
    settings: TranscriptionSettings = ENGLISH
    limits: TranscriptionLimits = field(default_factory=TranscriptionLimits)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.session = TranscriptionSession(self.settings, self.limits, self.now)
        self.told: list[tuple[float, Event]] = []
        self.calls: list[tuple[float, Listen | Recognise]] = []
        self.cancelled: set[int] = set()
        self.in_flight: dict[int, Listen | Recognise] = {}
        self.kept_ms = 0
        """The most audio that was needed at once."""
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    @property
    def events(self) -> list[Event]:
        """All that was told."""
        return [event for _, event in self.told]

    @property
    def finals(self) -> list[Final]:
        """In their order."""
        return [event for event in self.events if isinstance(event, Final)]

    @property
    def interims(self) -> list[Interim]:
        """In their order."""
        return [event for event in self.events if isinstance(event, Interim)]

    @property
    def text(self) -> str:
        """Of all finals."""
        return " ".join(final.text for final in self.finals if final.text)

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do something at a time."""
        heapq.heappush(self._due, (when, next(self._order), action))

    def send(self, duration_ms: int, chunk_ms: int = 100, start_s: float = 0.0) -> float:
        """A client that sends audio as it is spoken; returns when it has sent all."""
        sent = self.session.statistics.audio_ms
        for end_ms in [*range(chunk_ms, duration_ms, chunk_ms), duration_ms]:
            self.at(start_s + end_ms / 1000, lambda got=sent + end_ms: self.perform(self.session.audio(got, self.now)))
        return start_s + duration_ms / 1000

    def end_at(self, when: float) -> None:
        """The client has sent all."""
        self.at(when, lambda: self.perform(self.session.end(self.now)))

    def perform(self, effects: list[Effect]) -> None:
        """What the shell does."""
        for effect in effects:
            match effect:
                case Listen() | Recognise():
                    assert effect.start_ms >= self.session.needed_from_ms, "audio that was dropped is asked for"
                    took_s, answer = self.models.answer(effect)
                    self.calls.append((self.now, effect))
                    self.in_flight[effect.ticket] = effect
                    self.at(self.now + took_s, lambda call=effect, found=answer: self._answered(call, found))
                case Cancel(ticket):
                    self.cancelled.add(ticket)
                    self.in_flight.pop(ticket, None)
                case Tell(event):
                    assert not any(isinstance(one, Completed) for one in self.events), "told after the end"
                    self.told.append((self.now, event))
                    if isinstance(event, Overdue):
                        self.perform(self.session.end(self.now))
        self.kept_ms = max(self.kept_ms, self.session.statistics.audio_ms - self.session.needed_from_ms)

    def run(self, until_s: float = 10_000.0) -> "Simulation":
        """Go on until nothing is due any more."""
        while True:
            tick = self.session.next_tick()
            when = min([self._due[0][0]] if self._due else [until_s], default=until_s)
            if tick is not None and tick <= when and tick < until_s:
                self.now = max(self.now, tick)
                self.perform(self.session.tick(self.now))
            elif self._due:
                self.now, _, action = heapq.heappop(self._due)
                action()
            else:
                return self

    def _answered(self, call: Listen | Recognise, answer: object) -> None:
        if call.ticket in self.cancelled:
            return
        self.in_flight.pop(call.ticket, None)
        take = self.session.listened if isinstance(call, Listen) else self.session.recognised
        self.perform(take(call.ticket, answer, self.now))  # type: ignore[operator]
