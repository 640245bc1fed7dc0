"""The core of one live transcription: audio time and answers of models in, calls and events out. PURE.

Audio is listened to in order, once, for a voice. Of an utterance that goes on, one interim at a time is recognised from
its beginning; once it is over, it is recognised anew for its final. Finals leave in order and cover all audio. Interims
give way: one that no model has time for is dropped, and the next one comes later. A final is tried again until its time
is over.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from deployments.contracts.values import VOICE_FRAME_MS, Transcript
from deployments.errors import DeadlineExceeded, Stage, StageError
from serve_app.transcription.effects import Cancel, Effect, Listen, Recognise, Tell
from serve_app.transcription.events import (
    Completed,
    Event,
    Final,
    Interim,
    Overdue,
    SpeechEnded,
    SpeechStarted,
    Statistics,
    UtteranceEnd,
)
from serve_app.transcription.finals import Finals
from serve_app.transcription.interims import InterimCall, Interims
from serve_app.transcription.settings import TranscriptionLimits, TranscriptionSettings
from serve_app.transcription.tries import Tries
from serve_app.transcription.voice import AFTER_MS, BEFORE_MS, LEAST_VOICE_MS, Beginning, Frame, Utterance

CONTEXT_MS = 640
"""Heard before what is listened to, since a voice is told by what came before; at least BEFORE_MS."""
MAX_LISTEN_MS = 20_000
SILENCE_MS = 5000
"""After so much of it a final says that nothing was said, so that what covers the audio keeps up."""
LISTEN_TRIES = 3
"""After these a stretch is taken for a voice: better a call of the model for nothing than a lost word."""
SILENT_CLIENT_S = 1.0
"""Without audio for so long, or twice the pause that ends an utterance, what is being said is over."""
LISTEN_TIMEOUT_MS, INTERIM_TIMEOUT_MS = 5000, 2000


@dataclass(frozen=True, slots=True)
class _Flush:
    """Finals are due for all audio up to here."""

    at_ms: int
    told: bool


@dataclass(frozen=True, slots=True)
class _Listening:
    start_ms: int
    end_ms: int
    tries: Tries


class TranscriptionSession:
    """One session.

    Args:
        settings: what it was opened with.
        limits: may be replaced while it runs.
        now: its beginning.
    """

    def __init__(self, settings: TranscriptionSettings, limits: TranscriptionLimits, now: float) -> None:
        self.settings = settings
        self.limits = limits
        self.statistics = Statistics()
        self.over = False
        """Whether nothing will come any more."""
        self._effects: list[Effect] = []
        self._tickets = 0
        self._began = self._heard_at = self._audio_at = now
        self._overdue = False
        self._received_ms = 0
        self._arrivals: deque[tuple[int, float]] = deque()
        """When audio came, by where it ends; of what is not covered by finals."""
        self._listened_ms = 0
        self._listening: _Listening | None = None
        self._beginning = Beginning()
        self._utterance: Utterance | None = None
        self._finals = Finals()
        self._interims = Interims()
        self._flushes: deque[_Flush] = deque()
        self._ending = False
        self._last_word_ms: int | None = None

    # --- what comes from the client -----------------------------------------------------------------------------

    def audio(self, received_ms: int, now: float) -> list[Effect]:
        """More audio has come: this much in all. What comes after the end counts for nothing."""
        if self.over or self._ending:
            return []
        self._heard_at = self._audio_at = now
        self.statistics.chunks += 1
        self.statistics.audio_ms = self._received_ms = received_ms
        self._arrivals.append((received_ms, now))
        return self._advanced(now)

    def message(self, now: float) -> None:
        """The client has said something else, such as that it is still there."""
        self._heard_at = now

    def flush(self, now: float, *, told: bool = True) -> list[Effect]:
        """Finals for all that has come so far; the session goes on.

        Args:
            now: the time.
            told: whether the last of them says that it was flushed.
        """
        if self.over:
            return []
        self._heard_at = now
        last = self._flushes[-1] if self._flushes else None
        if last is None or last.at_ms < self._received_ms:
            self._flushes.append(_Flush(self._received_ms, told))
        else:  # one is enough for a place
            self._flushes[-1] = _Flush(self._received_ms, told or last.told)
        return self._advanced(now)

    def end(self, now: float) -> list[Effect]:
        """No more audio comes: finals for all, then `Completed`."""
        if self.over:
            return []
        self._ending = True
        return self.flush(now, told=False)

    def disconnect(self) -> list[Effect]:
        """The client is gone: nothing is wanted any more."""
        self.over = True
        tickets = [tries.ticket for tries in self._tries()]
        if self._interims.call is not None:
            tickets.append(self._interims.call.ticket)
        return [Cancel(ticket) for ticket in tickets if ticket is not None]

    # --- what the models answer ---------------------------------------------------------------------------------

    def listened(self, ticket: int, answer: Sequence[float] | StageError, now: float) -> list[Effect]:
        """How likely a voice is in each frame of a `Listen`, or why nobody knows."""
        listening = self._listening
        if self.over or listening is None or listening.tries.ticket != ticket:
            return []
        if isinstance(answer, StageError):
            self._failed(answer)
            if listening.tries.count < LISTEN_TRIES:
                listening.tries.again_at(listening.tries.next_at(now))
                return self._advanced(now)
            answer = ()
        self._listening = None
        self.statistics.listened += 1
        for at, start_ms in enumerate(range(listening.start_ms, listening.end_ms, VOICE_FRAME_MS)):
            probability = answer[at] if at < len(answer) else 1.0
            self._frame(Frame(start_ms, min(start_ms + VOICE_FRAME_MS, listening.end_ms), probability), now)
        self._listened_ms = listening.end_ms
        return self._advanced(now)

    def recognised(self, ticket: int, answer: Transcript | StageError, now: float) -> list[Effect]:
        """What a `Recognise` found, or why it found nothing."""
        if self.over:
            return []
        call = self._interims.call
        if call is not None and call.ticket == ticket:
            self._take_interim(call, answer, now)
            return self._advanced(now)
        stretch = self._finals.asked_by(ticket)
        if stretch is None:
            return []
        if isinstance(answer, Transcript):
            stretch.settle(stretch.heard(answer))
            return self._advanced(now)
        self._failed(answer)
        next_at = stretch.tries.next_at(now)
        if answer.retryable and next_at < stretch.deadline:
            stretch.tries.again_at(next_at)
        else:
            stretch.settle(replace(stretch.final, failure=answer))
        return self._advanced(now)

    # --- time ---------------------------------------------------------------------------------------------------

    def next_tick(self) -> float | None:
        """When `tick` is due; None: never."""
        if self.over:
            return None
        times = [tries.due_at for tries in self._tries() if tries.due_at is not None]
        times += [one.deadline for one in self._finals.unsettled]
        if self._may_be_overdue():
            times += [self._heard_at + self.limits.idle_timeout_s, self._began + self.limits.max_session_s]
        if self._talking():
            times.append(self._audio_at + self._silent_client_s())
        return min(times, default=None)

    def tick(self, now: float) -> list[Effect]:
        """The time is `now`."""
        if self.over:
            return []
        if self._talking() and now >= self._audio_at + self._silent_client_s():
            self._flushes.append(_Flush(self._received_ms, told=False))
        if self._may_be_overdue():
            self._look_at_the_clock(now)
        for stretch in self._finals.unsettled:
            if now >= stretch.deadline:
                if stretch.tries.ticket is not None:
                    self._effects.append(Cancel(stretch.tries.ticket))
                late = DeadlineExceeded(Stage.ASR, f"no final within {self.limits.final_timeout_ms} ms")
                self._failed(late)
                stretch.settle(replace(stretch.final, failure=late))
        return self._advanced(now)

    # --- for the shell ------------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether no more audio is to be taken for now."""
        return self._received_ms - self._listened_ms > self.limits.max_backlog_ms

    @property
    def needed_from_ms(self) -> int:
        """Audio before this will not be asked for any more."""
        places = [self._listened_ms - CONTEXT_MS]
        places += [one.from_ms for one in self._finals.unsettled]
        if self._utterance is not None:
            places.append(self._utterance.start_ms)
        if self._beginning.since_ms is not None:
            places.append(self._beginning.since_ms - BEFORE_MS)
        return max(0, min(places))

    # --- within -------------------------------------------------------------------------------------------------

    def _advanced(self, now: float) -> list[Effect]:
        self._listen(now)
        self._flush_what_is_due(now)
        self._listen(now)
        self._recognise(now)
        self._show(now)
        self._release(now)
        effects, self._effects = self._effects, []
        return effects

    def _listen(self, now: float) -> None:
        """Ask where a voice is in what comes next; one such question at a time."""
        if self._listening is None:
            waiting_ms = self._to_listen_to_ms()
            if not waiting_ms:
                return
            self._listening = _Listening(self._listened_ms, self._listened_ms + waiting_ms, Tries(now))
        listening = self._listening
        if listening.tries.due(now):
            listening.tries.asked(self._ticket())
            context_ms = min(CONTEXT_MS, listening.start_ms)
            self._effects.append(
                Listen(self._tickets, listening.start_ms, listening.end_ms, context_ms, LISTEN_TIMEOUT_MS)
            )

    def _to_listen_to_ms(self) -> int:
        """How much is listened to next; 0: there is too little yet, or too much waits for its final."""
        if len(self._finals.unsettled) >= self.limits.max_pending:
            return 0
        if self._flushes:
            return min(self._flushes[0].at_ms - self._listened_ms, MAX_LISTEN_MS)
        waiting_ms = min(self._received_ms - self._listened_ms, MAX_LISTEN_MS)
        return 0 if waiting_ms < self.limits.listen_ms else waiting_ms - waiting_ms % VOICE_FRAME_MS

    def _frame(self, frame: Frame, now: float) -> None:
        """Listened to one more stretch."""
        utterance = self._utterance
        if utterance is None:
            begun = self._beginning.add(frame, self._finals.covered_ms)
            if begun is not None:
                self._begin(begun)
                self._tell(SpeechStarted(begun.voice_start_ms))
            else:
                self._note_silence(frame, now)
            return
        utterance.add(frame)
        if self._ends(utterance, frame):
            self._close(min(frame.end_ms, utterance.voice_end_ms + AFTER_MS), now)
        elif frame.end_ms - utterance.start_ms >= self.limits.max_utterance_ms:
            cut_ms = utterance.quietest()
            rest = utterance.rest(cut_ms)
            self._close(cut_ms, now, over=rest is None)
            if rest is not None:
                self._begin(rest)

    def _ends(self, utterance: Utterance, frame: Frame) -> bool:
        """Whether the pause up to here ends the utterance."""
        needed_ms = self.settings.endpointing_ms
        lasted_ms = utterance.voice_end_ms - utterance.start_ms
        return (
            needed_ms is not None
            and frame.end_ms - utterance.voice_end_ms >= needed_ms
            and lasted_ms >= self.settings.least_utterance_ms
        )

    def _begin(self, utterance: Utterance) -> None:
        self._utterance = utterance
        self._interims.begin(utterance.start_ms, self.limits.interim_step_ms)

    def _note_silence(self, frame: Frame, now: float) -> None:
        self._tell_quiet(frame.end_ms)
        quiet_until_ms = (self._beginning.since_ms or frame.end_ms) - BEFORE_MS
        if quiet_until_ms - self._finals.covered_ms >= SILENCE_MS:
            self._cover(quiet_until_ms, now)

    def _tell_quiet(self, until_ms: int) -> None:
        """Tell that no word has followed the last one, once it is certain for as long as was asked for."""
        since_ms, needed_ms = self._last_word_ms, self.settings.utterance_end_ms
        if since_ms is None or needed_ms is None or self._finals or self._utterance is not None:
            return
        if until_ms - since_ms >= needed_ms:
            self._last_word_ms = None
            self._tell(UtteranceEnd(since_ms))

    def _close(self, cut_ms: int, now: float, *, over: bool = True, flushed: bool = False) -> None:
        """What is being said, if anything, ends here: its final is due."""
        utterance, self._utterance = self._utterance, None
        if self._interims.call is not None:
            self._effects.append(Cancel(self._interims.call.ticket))
            self._interims.call = None
        self._beginning.reset()
        if utterance is None:
            self._cover(cut_ms, now, flushed=flushed)
            return
        if over:
            self._tell(SpeechEnded(utterance.voice_end_ms))
        spoken = utterance.voice_ms >= LEAST_VOICE_MS or flushed or self._ending or not over
        self._cover(cut_ms, now, utterance if spoken else None, over=over, flushed=flushed)

    def _cover(
        self, end_ms: int, now: float, spoken: Utterance | None = None, *, over: bool = True, flushed: bool = False
    ) -> None:
        final = Final(self._finals.covered_ms, end_ms, "", utterance_over=over, flushed=flushed)
        self._finals.cover(final, now + self.limits.final_timeout_ms / 1000, now, spoken)

    def _flush_what_is_due(self, now: float) -> None:
        if not self._flushes or self._listened_ms < self._flushes[0].at_ms:
            return
        told = self._flushes.popleft().told
        all_covered = self._finals.covered_ms >= self._listened_ms
        if not all_covered or (told and self._utterance is None and not self._finals.flush_last()):
            self._close(self._listened_ms, now, flushed=told)

    def _recognise(self, now: float) -> None:
        """Ask for the finals that are due."""
        for stretch in self._finals:
            if stretch.tries.due(now):
                stretch.tries.asked(self._ticket())
                self._ask(stretch.from_ms, stretch.final.end_ms, max(1, round((stretch.deadline - now) * 1000)))

    def _show(self, now: float) -> None:
        """Ask for the next interim, where one is due and nothing more urgent is under way."""
        utterance = self._utterance
        if not self.settings.interims or utterance is None or self._flushes or self._finals.unsettled:
            return
        if self._interims.due(self._received_ms):
            end_ms = min(self._received_ms, utterance.start_ms + self.limits.max_utterance_ms)
            self._interims.asked(self._ticket(), end_ms, now)
            self._ask(utterance.start_ms, end_ms, INTERIM_TIMEOUT_MS, interim=True)

    def _ask(self, start_ms: int, end_ms: int, budget_ms: int, *, interim: bool = False) -> None:
        """Under the ticket that was given last."""
        self._effects.append(Recognise(self._tickets, start_ms, end_ms, interim=interim, budget_ms=budget_ms))

    def _take_interim(self, call: InterimCall, answer: Transcript | StageError, now: float) -> None:
        if isinstance(answer, StageError):
            self.statistics.interims_dropped += 1
            self._interims.dropped(call, now)
            return
        text, least_step_ms = answer.recognition.text, self.limits.interim_step_ms
        self.statistics.revised_words += self._interims.answered(call, text, now, least_step_ms)
        committed, tentative = self._interims.agreement.committed, self._interims.agreement.tentative
        if not (committed or tentative) or self._utterance is None:
            return
        latency_s = None if self._interims.shown else self._since(self._utterance.voice_start_ms, now)
        self._interims.shown = True
        self.statistics.interims += 1
        self._tell(Interim(self._finals.covered_ms, call.end_ms, committed, tentative, answer.model, latency_s))

    def _release(self, now: float) -> None:
        """Finals leave in order; after the last one the session is complete."""
        for stretch in self._finals.released():
            final = stretch.final
            if final.text:
                self.statistics.finals += 1
                self._last_word_ms = final.words[-1].end_ms if final.words else stretch.voice_end_ms
            if stretch.tries.count:
                final = replace(final, latency_s=self._since(stretch.voice_end_ms, now))
            self._tell(final)
        self._tell_quiet(self._listened_ms)
        self._forget_arrivals()
        if self._ending and not self._finals and not self._flushes:
            self.over = True
            self._tell(Completed(self.statistics))

    def _forget_arrivals(self) -> None:
        places = [self._listened_ms - BEFORE_MS, *(one.voice_end_ms for one in self._finals)]
        if self._utterance is not None:
            places.append(self._utterance.voice_start_ms)
        needed_ms = min(places)
        while self._arrivals and self._arrivals[0][0] < needed_ms:
            self._arrivals.popleft()

    def _since(self, at_ms: int, now: float) -> float:
        """Seconds since the audio came that holds this place."""
        came = next((time for end_ms, time in self._arrivals if end_ms >= at_ms), now)
        return max(0.0, now - came)

    def _tries(self) -> list[Tries]:
        """All that is asked again where it fails."""
        return [one.tries for one in (self._listening, *self._finals) if one is not None]

    def _talking(self) -> bool:
        """Whether an utterance waits for audio that doesn't come."""
        return self._utterance is not None and not self._flushes and not self._ending

    def _may_be_overdue(self) -> bool:
        """Not while the client waits for this side: to be read again, or for its last finals."""
        return not self._overdue and not self._ending and not self.full

    def _look_at_the_clock(self, now: float) -> None:
        """Tell, once, that the session has to end."""
        limits = self.limits
        if now >= self._began + limits.max_session_s:
            overdue = Overdue("lasted", limits.max_session_s)
        elif now >= self._heard_at + limits.idle_timeout_s:
            overdue = Overdue("idle", limits.idle_timeout_s)
        else:
            return
        self._overdue = True
        self._tell(overdue)

    def _silent_client_s(self) -> float:
        return max(SILENT_CLIENT_S, 2 * (self.settings.endpointing_ms or 0) / 1000)

    def _failed(self, error: StageError) -> None:
        self.statistics.errors += 1
        self.statistics.codes[error.code] = self.statistics.codes.get(error.code, 0) + 1

    def _tell(self, event: Event) -> None:
        self._effects.append(Tell(event))

    def _ticket(self) -> int:
        self._tickets += 1
        return self._tickets
