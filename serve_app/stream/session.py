"""One stream: what happens to it goes in with the time, what has to be done comes out as effects. PURE.

In flight, order, retry, deadline, end and drain are decided here and nowhere else. The session never waits: the shell
calls `tick` when `next_tick` says so. Results come back under the ticket of their `Submit`; a ticket that is no longer
in flight (expired, cancelled) is ignored, so a late result can't be taken for that of a resend.

Protocol: In flight and backpressure; Order; Retry; Timeout; Losing the connection.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from deployments.contracts.values import Outcome, Overhang
from deployments.errors import DeadlineExceeded, GpuOutOfMemory, Stage
from serve_app.protocol import ERROR_TABLE, Capabilities, ErrorCode, StreamReady, error_event
from serve_app.scheduling.admission import Admission
from serve_app.stream import event_builders
from serve_app.stream.attempts import Attempt, Attempts
from serve_app.stream.backpressure import InFlight, Level
from serve_app.stream.foresight import Foresight
from serve_app.stream.lifecycle import REFUSALS, Signal, State, advance
from serve_app.stream.overhang import Overhangs
from serve_app.stream.result_builder import original_duration_ms, present
from serve_app.stream.result_cache import Done, ResultCache, Undone
from serve_app.stream.statistics import Statistics
from serve_app.stream.timeline import StreamTimeline
from serve_app.stream.translation_context import TranslationContext
from serve_app.stream.values import (
    NORMAL_CLOSURE,
    SERVICE_RESTART,
    Cancel,
    Close,
    Effect,
    Emit,
    Fragment,
    StreamLimits,
    StreamSettings,
    Submit,
)


class Session:
    """The core of one stream.

    Args:
        settings: what `stream:init` agreed on.
        limits: thresholds; `limit` replaces them at any time.
        admission: the forecast for all streams that load the same models; None: no other does.
    """

    def __init__(self, settings: StreamSettings, limits: StreamLimits, admission: Admission | None = None) -> None:
        self.settings = settings
        self.state = State.ACTIVE
        self._limits = limits
        self._foresight = Foresight(settings, admission or Admission())
        self._in_flight = InFlight(settings.max_inflight, limits.critical_inflight)
        self._attempts = Attempts(settings.first_sequence_number)
        self._order = self._attempts.order
        self._history = ResultCache()
        self._statistics = Statistics()
        self._timeline = StreamTimeline(settings.chunk_duration_ms)
        self._said = TranslationContext()
        self._overhangs = Overhangs()
        self.limit(limits)

    # --- what can be asked --------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Fragments between acceptance and result."""
        return self._in_flight.count

    @property
    def level(self) -> Level:
        """The backpressure level."""
        return self._in_flight.level

    @property
    def queue_depth(self) -> int:
        """Fragments in flight that have no outcome yet."""
        return len(self._attempts.running())

    @property
    def kept_bytes(self) -> int:
        """Audio kept for resends."""
        return self._history.kept_bytes

    def next_tick(self) -> float | None:
        """When `tick` has something to do; None: not before the next event."""
        return self._attempts.next_tick(self._slack_s, self._start_wait_s)

    # --- what the worker does -----------------------------------------------------------------------------------

    def open(self, capabilities: Capabilities) -> list[Effect]:
        """The stream is accepted."""
        ready = StreamReady(
            stream_id=self.settings.stream_id,
            session_id=self.settings.session_id,
            max_inflight=self.settings.max_inflight,
            capabilities=capabilities,
        )
        return [Emit(ready)]

    def accept(self, fragment: Fragment, now: float) -> list[Effect]:
        """A fragment has arrived: taken, recognised as a resend, or refused."""
        if self.state is State.CLOSED:
            return self._refuse(*REFUSALS[self.state], fragment, now)
        current = self._attempts.find(fragment.fragment_id)
        past = self._history.find(fragment.fragment_id)
        known = current.fragment.digest if current else past.digest if past else None
        if known is not None and known != fragment.digest:
            message = f"fragment_id {fragment.fragment_id!r} was used for other audio before"
            return self._refuse(ErrorCode.INVALID_FRAGMENT, message, fragment, now)
        if current is not None:
            return self._acknowledge_again(fragment, now)
        if isinstance(past, Done):
            return self._send_again(past, fragment, now)
        number = fragment.sequence_number
        if number in self._order:
            message = f"sequence_number {number} belongs to another fragment that is in flight"
            return self._refuse(ErrorCode.INVALID_SEQUENCE, message, fragment, now)
        if number < self._order.next and past is None:
            message = f"sequence_number {number} has passed; the next one is {self._order.next}"
            return self._refuse(ErrorCode.INVALID_SEQUENCE, message, fragment, now)
        if self.state in REFUSALS:
            return self._refuse(*REFUSALS[self.state], fragment, now)
        return self._take(fragment, past, now)

    def refuse(
        self,
        code: ErrorCode,
        message: str,
        now: float,
        *,
        fragment_id: str | None = None,
        sequence_number: int | None = None,
        details: dict[str, Any] | None = None,
    ) -> list[Effect]:
        """A message about a fragment is turned down; its number, if it could be read, holds up nothing."""
        event = error_event(
            code,
            message,
            stream_id=self.settings.stream_id,
            fragment_id=fragment_id,
            sequence_number=sequence_number,
            details=details,
        )
        if sequence_number is None or self.state is State.CLOSED:
            return [Emit(event)]
        self._order.skip(sequence_number)
        if fragment_id is not None and ERROR_TABLE[code].retryable and self._history.find(fragment_id) is None:
            self._history.note_undone(fragment_id, Undone(sequence_number, None, None))
        return [Emit(event), *self._release(now)]

    def pause(self) -> list[Effect]:
        """`stream:pause`: what is in flight finishes, new fragments are refused."""
        return self._signal(Signal.PAUSE)

    def resume(self) -> list[Effect]:
        """`stream:resume`."""
        return self._signal(Signal.RESUME)

    def end(self, now: float) -> list[Effect]:
        """`stream:end`: what is in flight finishes; numbers that are missing now never come."""
        return [*self._signal(Signal.END), *self._finish(now)]

    def disconnect(self, now: float) -> list[Effect]:
        """The worker is gone: nobody wants what is in flight."""
        return [*self._signal(Signal.CLOSE), *self._drop_all(now)]

    # --- what the server does -----------------------------------------------------------------------------------

    def limit(self, limits: StreamLimits) -> None:
        """New thresholds, for what comes from now on."""
        self._limits = limits
        self._in_flight.critical = limits.critical_inflight
        self._foresight.degrade(limits.degrade)

    def make_room(self, max_bytes: int) -> None:
        """Keep no more than this of what could be asked for again: the bytes are needed for what is not read yet."""
        self._history.trim(max_bytes)

    def drain(self, now: float) -> list[Effect]:
        """The server is going: take nothing new, finish what is in flight, send the worker elsewhere."""
        if self.state not in (State.ACTIVE, State.PAUSED):
            return []
        told = event_builders.draining(self.settings, REFUSALS[State.DRAINING][1])
        return [Emit(told), *self._signal(Signal.DRAIN), *self._finish(now)]

    def replace(self, now: float) -> list[Effect]:
        """Another connection has opened a stream of this name."""
        dropped = self.disconnect(now)
        return [*dropped, Emit(event_builders.replaced(self.settings)), Close(0, NORMAL_CLOSURE, "session replaced")]

    def running(self, ticket: int, stage: Stage, so_far: Outcome, now: float) -> bool:
        """The pipeline has come to a stage; `so_far` is what it has done, and stands in the result if time runs out.

        Returns:
            Whether the faster voice is to speak, since the first one would be late, or was lately.

        Raises:
            QueueFull: the fragment can't be done in time any more, so the stage should not begin.
        """
        attempt = self._attempts.get(ticket)
        if attempt is None:
            return False
        attempt.stage, attempt.so_far = stage, so_far
        if so_far.transcript is not None:
            self._said.note(attempt.fragment.sequence_number, so_far.transcript.recognition.text)
        return self._foresight.begin(attempt.passage, stage, so_far, attempt.deadline - now, now)

    def said_before(self, ticket: int) -> str:
        """What the stream said before an attempt's fragment, in the source language."""
        attempt = self._attempts.get(ticket)
        return self._said.before(attempt.fragment.sequence_number) if attempt else ""

    def overhang_due(self, ticket: int, wake: Callable[[], None]) -> bool:
        """Whether the fragment before an attempt's may still leave an overhang; `wake` is called once it has."""
        attempt = self._attempts.get(ticket)
        return attempt is not None and self._overhangs.due(attempt.fragment.sequence_number, wake)

    def overhang(self, ticket: int) -> Overhang | None:
        """What the dub of an attempt's fragment opens with."""
        attempt = self._attempts.get(ticket)
        return self._overhangs.before(attempt.fragment.sequence_number) if attempt else None

    def may_run_over(self, ticket: int) -> bool:
        """Whether the dub of an attempt's fragment, which is about to be spoken, may leave an overhang."""
        attempt = self._attempts.get(ticket)
        return attempt is not None and self._overhangs.begin(attempt.fragment.sequence_number)

    def complete(self, ticket: int, outcome: Outcome, now: float) -> list[Effect]:
        """The pipeline is done with a fragment, well or not. Time that has passed is told before, by `tick`."""
        attempt = self._attempts.get(ticket)
        if attempt is None:
            return []
        effects = self._settle(attempt, outcome, now)
        if isinstance(outcome.failure, GpuOutOfMemory):
            return effects + self._give_up_stream(outcome.failure, now)
        return effects + self._release(now)

    def tick(self, now: float) -> list[Effect]:
        """Time has passed: expire what is late, give up numbers that others can't wait for any longer."""
        effects: list[Effect] = []
        for attempt in self._attempts.late(now, self._slack_s):
            within = f"within {self.settings.timeout_ms} ms"
            if now < attempt.deadline:
                within = "before a later fragment had to leave"
            failure = DeadlineExceeded(attempt.stage, f"no result {within}; the {attempt.stage} stage was running")
            effects += [Cancel(attempt.ticket), *self._settle(attempt, replace(attempt.so_far, failure=failure), now)]
        overdue = self._attempts.overdue(now, self._slack_s, self._start_wait_s)
        if overdue is not None:
            effects += self._give_up_below(overdue)
        return effects + self._release(now)

    # --- accepting ----------------------------------------------------------------------------------------------

    def _acknowledge_again(self, fragment: Fragment, now: float) -> list[Effect]:
        self._order.skip(fragment.sequence_number)
        queued = event_builders.queued(self.settings, fragment, self.in_flight - 1, now)
        return [Emit(queued), *self._release(now)]

    def _send_again(self, past: Done, fragment: Fragment, now: float) -> list[Effect]:
        self._order.skip(fragment.sequence_number)
        queued = event_builders.queued(self.settings, fragment, self.in_flight, now)
        result = past.result.model_copy(update={"sequence_number": fragment.sequence_number})
        return [Emit(queued), Emit(result, again=True), *self._release(now)]

    def _take(self, fragment: Fragment, past: Undone | None, now: float) -> list[Effect]:
        if self._in_flight.full:
            message = f"{self.in_flight} fragments are in flight, the limit is {self._in_flight.critical}"
            return self._refuse(ErrorCode.BACKPRESSURE_EXCEEDED, message, fragment, now)
        delay_ms = self._foresight.refusal_ms(fragment, now)
        if delay_ms is not None:
            message = f"the models can't do it within {self.settings.timeout_ms} ms now; send it again a little later"
            return self._refuse(ErrorCode.QUEUE_FULL, message, fragment, now, {"recommended_delay_ms": delay_ms})
        queued = event_builders.queued(self.settings, fragment, self.in_flight, now)
        failed_before = past is not None and past.digest is not None
        attempt = self._attempts.take(
            fragment,
            now,
            self.settings.timeout_ms / 1000,
            self._foresight.enter(fragment, now),
            ordered=fragment.sequence_number >= self._order.next and not failed_before,
            start_ms=past.start_ms if past else None,
        )
        self._overhangs.accept(fragment.sequence_number)
        told = self._told(self._in_flight.enter(*self._foresight.waits(now)), now)
        return [
            Emit(queued),
            *told,
            Submit(attempt.ticket, fragment, attempt.deadline),
            *self._release(now),
        ]

    def _refuse(
        self, code: ErrorCode, message: str, fragment: Fragment, now: float, details: dict[str, Any] | None = None
    ) -> list[Effect]:
        return self.refuse(
            code,
            message,
            now,
            fragment_id=fragment.fragment_id,
            sequence_number=fragment.sequence_number,
            details=details,
        )

    # --- finishing ----------------------------------------------------------------------------------------------

    def _settle(self, attempt: Attempt, outcome: Outcome, now: float) -> list[Effect]:
        attempt.settled = True
        self._foresight.leave(attempt.passage, outcome, now)
        overhang = outcome.speech.overhang if outcome.speech else None
        self._overhangs.settle(attempt.fragment.sequence_number, overhang, heard=outcome.failure is None)
        if attempt.ordered:
            self._order.fill(attempt.fragment.sequence_number, outcome)
            return []
        settled_ms = self._timeline.position_ms if attempt.start_ms is None else attempt.start_ms
        pts_ms = attempt.fragment.pts_ms
        return self._leave(attempt, outcome, settled_ms if pts_ms is None else pts_ms, now)

    def _release(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        expected = self._order.next
        for number, attempt, outcome in self._order.release():
            passed_ms = self._timeline.pass_over(number - expected)
            if passed_ms is not None:
                self._history.place(expected, number - 1, passed_ms, self.settings.chunk_duration_ms)
            duration_ms = original_duration_ms(attempt.fragment, outcome)
            self._attempts.started = True
            effects += self._leave(attempt, outcome, self._timeline.place(duration_ms, attempt.fragment.pts_ms), now)
            expected = number + 1
        return effects + self._after_last()

    def _leave(self, attempt: Attempt, outcome: Outcome, start_ms: int, now: float) -> list[Effect]:
        """The attempt's one result."""
        fragment = attempt.fragment
        result = present(
            self.settings,
            fragment,
            outcome,
            ticket=attempt.ticket,
            start_ms=start_ms,
            processing_ms=round((now - attempt.accepted_at) * 1000),
        )
        if outcome.failure is None:
            self._history.keep(fragment.digest, result, self._limits.kept_results, self._limits.kept_bytes)
        else:
            undone = Undone(fragment.sequence_number, fragment.digest, start_ms)
            self._history.note_undone(fragment.fragment_id, undone)
        self._statistics.record(result)
        self._attempts.drop(attempt)
        return [Emit(result), *self._told(self._in_flight.leave(*self._foresight.waits(now)), now)]

    def _finish(self, now: float) -> list[Effect]:
        """No new number comes any more."""
        self._overhangs.end()
        highest = max((number for number, _, _ in self._order.slots()), default=None)
        given_up = [] if highest is None else self._give_up_below(highest)
        return given_up + self._release(now)

    def _give_up_below(self, number: int) -> list[Effect]:
        missing = self._order.give_up_below(number)
        return [Emit(event_builders.never_came(self.settings, first, last)) for first, last in missing]

    def _after_last(self) -> list[Effect]:
        if self._attempts or self.state not in (State.ENDING, State.DRAINING):
            return []
        ending = self.state is State.ENDING
        self._signal(Signal.EMPTY)
        if ending:
            complete = self._statistics.complete(self.settings.stream_id)
            return [Emit(complete), Close(self._limits.close_delay_ms, NORMAL_CLOSURE, "stream complete")]
        return [Close(0, SERVICE_RESTART, "server draining")]

    def _give_up_stream(self, failure: GpuOutOfMemory, now: float) -> list[Effect]:
        """The device is full: every fragment in flight fails with it and the stream ends."""
        asked_to_end = self.state is State.ENDING
        effects = self._signal(Signal.CLOSE)
        shared = GpuOutOfMemory(failure.stage, "the stream ended: the device ran out of memory")
        for attempt in self._attempts.running():
            effects += [Cancel(attempt.ticket), *self._settle(attempt, replace(attempt.so_far, failure=shared), now)]
        effects += self._finish(now)
        if asked_to_end:
            effects.append(Emit(self._statistics.complete(self.settings.stream_id)))
        fatal = event_builders.out_of_memory(self.settings, failure.message)
        return [*effects, Emit(fatal), Close(0, NORMAL_CLOSURE, "out of GPU memory")]

    def _drop_all(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for attempt in self._attempts.running():
            self._foresight.leave(attempt.passage, None, now)
            effects.append(Cancel(attempt.ticket))
        for _ in range(self._attempts.drop_all()):
            self._in_flight.leave()
        return effects

    # --- small things -------------------------------------------------------------------------------------------

    @property
    def _slack_s(self) -> float:
        return self._limits.release_slack_ms / 1000

    @property
    def _start_wait_s(self) -> float:
        return self._limits.start_wait_ms / 1000

    def _signal(self, signal: Signal) -> list[Effect]:
        follows = advance(self.state, signal)
        if follows is None:
            code, message = REFUSALS[self.state]
            return [Emit(error_event(code, message, stream_id=self.settings.stream_id))]
        self.state = follows
        return []

    def _told(self, level: Level | None, now: float) -> list[Effect]:
        if level is None:
            return []
        delay_ms = self._foresight.delay_ms(level, self._in_flight.by_count, now)
        return [Emit(event_builders.pressure(self.settings, level, self.in_flight, self.queue_depth, delay_ms))]
