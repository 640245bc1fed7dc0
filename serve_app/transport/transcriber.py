"""The shell around transcription sessions: asks the models, keeps the time, holds the audio. Every door uses it.

What is said on a door's socket is not known here.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, BinaryIO, Protocol, TypeVar

from deployments.contracts.values import (
    RAW_BYTES,
    A,
    AsrCapabilities,
    AudioFormat,
    FragmentRef,
    ListenRequest,
    Request,
    TranscribeRequest,
)
from deployments.errors import InternalFault, StageError
from deployments.logs import get_logger
from deployments.media.stream_decoder import SOUND
from serve_app.access import Access, AccessDenied, Caller, Credentials, Principal, Reason
from serve_app.protocol import ErrorCode, WireError
from serve_app.scheduling.fair_queue import Priority
from serve_app.transcription import (
    AudioFailed,
    Cancel,
    Completed,
    Effect,
    Event,
    Listen,
    Recognise,
    Tell,
    TranscriptionLimits,
    TranscriptionSession,
    TranscriptionSettings,
)
from serve_app.transport.decoding import Decoding
from serve_app.transport.raw_audio import RawAudio
from serve_app.transport.registry import now_s

log = get_logger(__name__)
T = TypeVar("T")


class Ask(Protocol):
    """The models."""

    def __call__(self, request: Request[A]) -> Awaitable[A]:
        """Ask a stage. Stops its work when it is cancelled; raises StageError."""


class AskInTurn(Protocol):
    """The models, where live calls come before others."""

    def __call__(self, request: Request[A], priority: Priority = ...) -> Awaitable[A]:
        """As `Ask`."""


class SessionObserver(Protocol):
    """Counts what happens."""

    def refused(self, reason: Reason) -> None:
        """A connection was turned down."""

    def sessions(self, door: str, count: int) -> None:
        """Transcription sessions that are open."""

    def told(self, door: str, event: Event) -> None:
        """A session has told something."""


class Transcriber:
    """One session at work.

    Args:
        session: its rules, fresh.
        session_id: names it in logs and to the models.
        source: the format of what is fed; or a file, which needs no feeding.
        ask: the models.
        tell: is called with each event, on the loop.
    """

    def __init__(
        self,
        session: TranscriptionSession,
        session_id: str,
        source: AudioFormat | BinaryIO,
        ask: Ask,
        tell: Callable[[Event], None],
    ) -> None:
        self.session_id = session_id
        self._session = session
        self._ask = ask
        self._tell = tell
        self._decoding: Decoding | None = None
        if isinstance(source, AudioFormat) and source.container in RAW_BYTES:
            self._audio = RawAudio(source)
        else:
            self._audio = RawAudio(SOUND)
            self._decoding = Decoding.of(source, self._take, self._decoded)
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._tick: asyncio.TimerHandle | None = None
        self._room = asyncio.Event()
        self._room.set()
        self.ended = False
        """Whether no more audio is taken."""
        self._perform([])

    @property
    def received_ms(self) -> int:
        """Audio that has come."""
        return self._audio.received_ms

    async def feed(self, data: bytes) -> None:
        """More audio, of which none is kept after the end; returns once more may come, which slows a client down."""
        if self.ended:
            return
        if self._decoding is None:
            await self._take(data)
        else:
            self._session.message(now_s())
            await self._decoding.feed(data)

    async def _take(self, data: bytes) -> None:
        """Sound that can be cut between any two samples."""
        self._audio.add(data)
        self._perform(self._session.audio(self._audio.received_ms, now_s()))
        await self._room.wait()
        self._session.message(now_s())

    def message(self) -> None:
        """The client has said that it is still there."""
        self._session.message(now_s())
        self._perform([])

    def flush(self) -> None:
        """Finals for all that has come."""
        self._perform(self._session.flush(now_s()))

    def end(self) -> None:
        """No more audio comes: `Completed` follows the last final."""
        self.ended = True
        if self._decoding is None:
            self._perform(self._session.end(now_s()))
        else:
            self._decoding.end()

    def _decoded(self, failure: StageError | None) -> None:
        """All sound has come, or no more can."""
        self.ended = True
        if failure is not None:
            self._tell(AudioFailed(failure))
        self._perform(self._session.end(now_s()))

    def disconnect(self) -> None:
        """The client is gone."""
        if self._decoding is not None:
            self._decoding.close()
        self._perform(self._session.disconnect())

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Listen(ticket):
                    self._call(ticket, self._listen(effect))
                case Recognise(ticket):
                    self._call(ticket, self._recognise(effect))
                case Cancel(ticket):
                    call = self._calls.pop(ticket, None)
                    if call is not None:
                        call.cancel()
                case Tell(event):
                    self._tell(event)
        session = self._session
        self._audio.drop(session.needed_from_ms)
        if session.full and not session.over:
            self._room.clear()
        else:
            self._room.set()
        if self._tick is not None:
            self._tick.cancel()
        due = session.next_tick()
        self._tick = None if due is None else asyncio.get_running_loop().call_at(due, self._on_tick)

    def _on_tick(self) -> None:
        self._perform(self._session.tick(now_s()))

    def _call(self, ticket: int, asking: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(asking, name=f"transcription {self.session_id} {ticket}")
        self._calls[ticket] = task
        task.add_done_callback(lambda _: self._calls.pop(ticket, None))

    async def _listen(self, call: Listen) -> None:
        audio = self._audio.cut(call.start_ms - call.context_ms, call.end_ms)
        request = ListenRequest(self._ref(call.ticket), audio, call.context_ms, call.budget_ms)
        answer = await answered(self._ask, request, self.session_id)
        found = answer if isinstance(answer, StageError) else answer.probabilities
        self._perform(self._session.listened(call.ticket, found, now_s()))

    async def _recognise(self, call: Recognise) -> None:
        settings = self._session.settings
        request = TranscribeRequest(
            ref=self._ref(call.ticket),
            audio=self._audio.cut(call.start_ms, call.end_ms),
            language=settings.language,
            hints=settings.hints,
            budget_ms=call.budget_ms,
            interim=call.interim,
        )
        answer = await answered(self._ask, request, self.session_id)
        self._perform(self._session.recognised(call.ticket, answer, now_s()))

    def _ref(self, ticket: int) -> FragmentRef:
        return FragmentRef(self.session_id, str(ticket), ticket)


async def answered(ask: Ask, request: Request[A], session_id: str) -> A | StageError:
    """What a stage answers within the budget, or why it has no answer; a bug is logged, and is one too."""
    try:
        async with asyncio.timeout(request.budget_ms / 1000):
            return await ask(request)
    except StageError as error:
        return error
    except TimeoutError:
        return InternalFault(request.STAGE, f"no answer within {request.budget_ms} ms")
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return InternalFault(request.STAGE, "the call was cancelled on its way")
    except Exception:
        log.exception("transcription_failed", stream_id=session_id, stage=str(request.STAGE))
        return InternalFault(request.STAGE, "the server hit a bug on this audio")


class Transcribers:
    """The sessions of one ingress replica, whichever door they came by.

    Args:
        ask: the models.
        abilities: what recognition can do; waits for it to come up.
        limits: in force right now.
        observer: metrics.
        access: who may come in, and how much may be open.
        others: the principals of the streams that are open besides.
    """

    def __init__(
        self,
        ask: AskInTurn,
        abilities: Callable[[], Awaitable[AsrCapabilities]],
        limits: Callable[[], TranscriptionLimits],
        observer: SessionObserver,
        access: Access,
        others: Callable[[], list[Principal]] = list,
    ) -> None:
        self._ask = ask
        self.abilities = abilities
        self._limits = limits
        self._observer = observer
        self._access = access
        self._others = others
        self._open: dict[str, tuple[str, Principal, Transcriber]] = {}
        self.draining = False

    def __len__(self) -> int:
        return len(self._open)

    @property
    def limits(self) -> TranscriptionLimits:
        """In force right now."""
        return self._limits()

    def enter(self, door: str, caller: Caller, found: Credentials) -> Principal:
        """Let a connection in.

        Raises:
            AccessDenied: for its origin, its key or token, or because it has too many connections.
        """
        try:
            return self._access.enter(caller, found.auth, time.time())
        except AccessDenied as refused:
            self._observer.refused(refused.reason)
            log.warning("connection_refused", reason=refused.reason, code=refused.error.code, door=door)
            raise

    def leave(self, principal: Principal) -> None:
        """A connection that was let in is gone."""
        self._access.leave(principal, now_s())

    async def admitted(self, principal: Principal, session_id: str, wait: Callable[[], Awaitable[T]]) -> T:
        """What `wait` gives, such as what the models can do, where a session may be opened before and after it.

        Raises:
            WireError: as `check`.
        """
        self.check(principal, session_id)
        found = await wait()
        self.check(principal, session_id)
        return found

    def check(self, principal: Principal, session_id: str) -> None:
        """Whether a session may be opened.

        Raises:
            WireError: SERVER_DRAINING, QUEUE_FULL where as many are open as may be, AUTH_FAILED or RATE_LIMITED.
        """
        if self.draining:
            raise WireError(ErrorCode.SERVER_DRAINING, "this server is shutting down; connect again")
        most = self.limits.max_sessions
        if len(self._open) >= most:
            raise WireError(ErrorCode.QUEUE_FULL, f"{most} sessions are open, which is this server's limit")
        others = [*self._others(), *(principal for _, principal, _ in self._open.values())]
        self._access.check_stream(principal, session_id, others, time.time())

    def open(
        self,
        door: str,
        session_id: str,
        principal: Principal,
        settings: TranscriptionSettings,
        source: AudioFormat | BinaryIO,
        tell: Callable[[Event], None],
        *,
        idle_timeout_s: float | None = None,
        ask: Ask | None = None,
        max_utterance_ms: int | None = None,
    ) -> Transcriber:
        """A new session; `close` ends its place here.

        Args:
            door: by which it came, for metrics.
            session_id: names it; never used before.
            principal: whose it is.
            settings: what it was asked for.
            source: the format of what will be fed, raw or not; or a whole file, which live sessions come before.
            tell: is called with each event.
            idle_timeout_s: instead of the configured one.
            ask: instead of the models.
            max_utterance_ms: instead of the configured one.
        """
        live = isinstance(source, AudioFormat)
        limits = self.limits if live else self.limits.of_recordings()
        if idle_timeout_s is not None:
            limits = limits.model_copy(update={"idle_timeout_s": idle_timeout_s})
        if max_utterance_ms is not None:
            limits = limits.model_copy(update={"max_utterance_ms": max_utterance_ms})

        def observed(event: Event) -> None:
            tell(event)
            if live or isinstance(event, Completed):  # how late finals come says something of live speech alone
                self._observer.told(door, event)
            if isinstance(event, Completed):
                counts = event.statistics
                log.info(
                    "transcription_completed",
                    stream_id=session_id,
                    door=door,
                    audio_ms=counts.audio_ms,
                    finals=counts.finals,
                    interims=counts.interims,
                    interims_dropped=counts.interims_dropped,
                    errors=counts.errors,
                )

        session = TranscriptionSession(settings, limits, now_s())
        models: Ask = self._ask if live else partial(self._ask, priority=Priority.BACKGROUND)
        transcriber = Transcriber(session, session_id, source, ask or models, observed)
        self._open[session_id] = (door, principal, transcriber)
        self._count(door)
        log.info("transcription_opened", stream_id=session_id, door=door, language=settings.language)
        return transcriber

    def close(self, session_id: str) -> None:
        """The session's connection is over."""
        with suppress(KeyError):
            door, _, transcriber = self._open.pop(session_id)
            transcriber.disconnect()
            self._count(door)

    def drain(self) -> None:
        """Take no new session; each one gets the finals of what it has sent, and ends."""
        self.draining = True
        for _, _, transcriber in list(self._open.values()):
            transcriber.end()

    def _count(self, door: str) -> None:
        self._observer.sessions(door, sum(name == door for name, _, _ in self._open.values()))
