"""Which calls of one stage may go to the models while these have more than they can do, fair between streams. PURE.

A call within its stream's equal share goes at once, and so does any call of a stream that is alone. A call beyond the
share takes only what the others leave, counted by the most that they have used at once lately: a call that runs can't
be stopped, so a stream that keeps its pace finds a slot free only if nobody was let into it before.

Calls in the background, such as those of whole files, start only where no live call waits, in slots that live calls
leave in the same way. They are in nobody's share, and fair among themselves. So a live call never waits behind more
than what runs already; and where live calls keep every slot, one in the background may start now and then in one that
is idle.

A stage says how many calls it computes at once, at most. That others load it too, such as other ingress replicas, is
learnt from calls that took longer than they computed.
"""

import math
import statistics
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from enum import IntEnum

RECENT_S = 10.0
"""How long a stream keeps its share after its last call, and what was used at once counts; longer than most chunks.
And how long calls in the background wait before one of them starts in a slot that is kept free and idle."""
WAITED_S, WAITED_SHARE = 0.05, 0.1
"""A call has waited for a slot when it took longer than it computed, by more than this time and this share of it."""
GIVEN_UP_AFTER = 2
"""A call that came to no good end has waited too if it took this many times longer than the last good one computed."""
WITNESSES = 3
"""Calls that waited before the room shrinks below what has proved right; one is enough while more is tried."""
PROOFS = 8
"""Calls in a row that fill the room without waiting before more is tried."""
GROW = 0.1
"""Of the room that a try adds, if this is more than one."""
PATIENCE_S, MOST_PATIENCE_S = 2.0, 128.0
"""How long after a try of more room the next one comes, at least; doubled each time that it proved too much."""


class Priority(IntEnum):
    """Which calls go before which; the lowest first."""

    LIVE = 0
    """Somebody hears the stream while it lasts."""
    BACKGROUND = 1
    """Nobody waits for it from one fragment to the next."""


@dataclass(eq=False, slots=True)
class Turn:
    """One call, from its coming until it is over."""

    stream: str
    came_at: float
    priority: Priority = Priority.LIVE
    started_at: float | None = None
    """None while it waits."""
    beside: int = 0
    """Calls with the models when it started, itself included."""


@dataclass(eq=False, slots=True)
class _Stream:
    seen_at: float
    held: int = 0
    """Its calls with the models."""
    within: int = 0
    """As many of them as started within its share; which ones doesn't matter."""
    waiting: deque[Turn] = field(default_factory=deque)


class FairQueue:
    """The turns of one stage. Times are in seconds of one clock."""

    def __init__(self) -> None:
        self.room = math.inf
        """Calls that the stage computes at once, as far as is known; infinite until some have waited."""
        self._streams: OrderedDict[str, _Stream] = OrderedDict()
        """That had a live call lately; the one whose last is longest ago comes first."""
        self._waiting: dict[str, _Stream] = {}
        """Those of them that have calls waiting."""
        self._background: list[Turn] = []
        """That wait, in order of their coming."""
        self._background_held: Counter[str] = Counter()
        """Calls with the models, by stream."""
        self._background_since = -math.inf
        """They have waited since then, and none has started."""
        self._busy = 0
        """Calls with the models."""
        self._within = 0
        """Those of them that are within their streams' shares."""
        self._most = self._most_before = 0
        """The largest `_within` of this period of RECENT_S and of the one before."""
        self._period = -math.inf
        self._computed_s = math.inf
        """Of the last call that ended well."""
        self._witnesses: list[tuple[int, float]] = []
        """Of calls that waited: `beside`, and the room that they speak for."""
        self._patience_s = PATIENCE_S
        self._try_at = -math.inf
        self._proofs = 0
        """Calls in a row that filled the room and didn't wait."""
        self._before: float | None = None
        """The room before the last try; None once the try has failed."""
        self._most_room = math.inf

    def __len__(self) -> int:
        return len(self._streams)

    def serves(self, at_once: float) -> None:
        """The stage computes so many calls at once, at most."""
        if self.room >= self._most_room or at_once < self.room:
            self.room = at_once
        self._most_room = at_once

    def come(self, turn: Turn) -> list[Turn]:
        """A call wants to start. Gives the turns that start now; if it isn't among them, it will be after a `leave`."""
        if turn.priority is Priority.BACKGROUND:
            if not self._background:
                self._background_since = turn.came_at
            self._background.append(turn)
        else:
            stream = self._see(turn.stream, turn.came_at)
            stream.waiting.append(turn)
            self._waiting[turn.stream] = stream
        return self._start(turn.came_at)

    def look(self, now: float) -> list[Turn]:
        """Time has passed. Gives the turns that start now: calls in the background may have waited for no other."""
        return self._start(now)

    def leave(self, turn: Turn, now: float, computed_s: float | None = None) -> list[Turn]:
        """A call is over, or was given up, running or not. Gives the turns that start now.

        Args:
            turn: the call's.
            now: the time.
            computed_s: by the stage's own account; None when the call came to no good end.
        """
        if turn.priority is Priority.BACKGROUND:
            self._leave_background(turn)
        else:
            self._leave_live(turn, self._see(turn.stream, now))
        if turn.started_at is None:
            return self._start(now)
        self._busy -= 1
        took_s = now - turn.started_at
        if computed_s is not None:
            self._computed_s = computed_s
        elif took_s > GIVEN_UP_AFTER * self._computed_s:
            computed_s = self._computed_s
        if computed_s is not None:
            self._learn(turn.beside, took_s, computed_s, now)
        return self._start(now)

    def _leave_live(self, turn: Turn, stream: _Stream) -> None:
        if turn.started_at is None:
            stream.waiting.remove(turn)
            if not stream.waiting:
                del self._waiting[turn.stream]
            return
        stream.held -= 1
        if stream.within > stream.held:
            stream.within -= 1
            self._within -= 1

    def _leave_background(self, turn: Turn) -> None:
        if turn.started_at is None:
            self._background.remove(turn)
        else:
            self._background_held -= Counter([turn.stream])

    def _see(self, name: str, now: float) -> _Stream:
        """The stream, which has a call now; those that had none for long are forgotten."""
        stream = self._streams.setdefault(name, _Stream(now))
        stream.seen_at = now
        self._streams.move_to_end(name)
        while (oldest := next(iter(self._streams.items())))[1].seen_at < now - RECENT_S:
            name, stale = oldest
            if stale.held or stale.waiting:
                stale.seen_at = now
                self._streams.move_to_end(name)
            else:
                del self._streams[name]
        return stream

    def _start(self, now: float) -> list[Turn]:
        """Start what may start: live calls first, of the stream that holds least first, then what came first."""
        if now - self._period >= RECENT_S:
            self._most_before = self._most if now - self._period < 2 * RECENT_S else self._within
            self._most, self._period = self._within, now
        started: list[Turn] = []
        while self._waiting:
            name, stream = min(self._waiting.items(), key=lambda item: (item[1].held, item[1].waiting[0].came_at))
            beyond = stream.held >= self._share()
            if beyond and self._fill_room(self._busy + self._kept_free()):
                break
            turn = stream.waiting.popleft()
            if not stream.waiting:
                del self._waiting[name]
            stream.held += 1
            stream.within += not beyond
            self._within += not beyond
            self._most = max(self._most, self._within)
            started.append(self._started(turn, now))
        while self._background and not self._waiting and self._leaves_room(now):
            turn = min(self._background, key=lambda turn: self._background_held[turn.stream])
            self._background.remove(turn)
            self._background_held[turn.stream] += 1
            self._background_since = now
            started.append(self._started(turn, now))
        return started

    def _started(self, turn: Turn, now: float) -> Turn:
        self._busy += 1
        turn.started_at, turn.beside = now, self._busy
        return turn

    def _leaves_room(self, now: float) -> bool:
        """Whether a call in the background may start where no live one waits."""
        overdue = not self._background_held and now - self._background_since >= RECENT_S
        return not self._fill_room(self._busy + (0 if overdue else self._kept_free()))

    def _share(self) -> float:
        """Live calls that each stream may have with the models whatever the others do."""
        return math.inf if math.isinf(self.room) or len(self) == 1 else max(1, round(self.room) // len(self))

    def _fill_room(self, calls: int) -> bool:
        return calls > self.room - 0.5

    def _kept_free(self) -> int:
        """Slots that live calls within their share are likely to need soon."""
        return max(self._most, self._most_before) - self._within

    def _learn(self, beside: int, took_s: float, computed_s: float, now: float) -> None:
        """Take what a call tells that was one of so many when it started."""
        if took_s - computed_s > max(WAITED_S, WAITED_SHARE * computed_s):
            self._waited(beside, beside * computed_s / took_s, now)
            return
        refuted = min(self._witnesses, default=None)
        if refuted is not None and refuted[0] <= beside:
            self._witnesses.remove(refuted)
        self._proofs += self._fill_room(beside)
        wanted = self._waiting or self._background
        if self._proofs >= PROOFS and wanted and now >= self._try_at and self.room < self._most_room:
            if self._before is not None:
                self._patience_s = PATIENCE_S
            more = min(self._most_room, self.room + max(1.0, GROW * self.room))
            self._before, self.room, self._proofs = self.room, more, 0
            self._try_at = now + PATIENCE_S

    def _waited(self, beside: int, fits: float, now: float) -> None:
        self._proofs = 0
        if self._before is not None and beside > self._before + 0.5:
            self._shrink(self._before, now)
            return
        if fits < self.room:
            self._witnesses.append((beside, fits))
        if len(self._witnesses) == WITNESSES:
            self._shrink(max(1.0, statistics.median(fits for _, fits in self._witnesses)), now)

    def _shrink(self, room: float, now: float) -> None:
        self.room, self._before = room, None
        self._witnesses.clear()
        self._patience_s = min(2 * self._patience_s, MOST_PATIENCE_S)
        self._try_at = now + self._patience_s
