"""Content that makes replicas die: who is suspected, who is convicted. PURE; one for each ingress replica.

A death says only that something in the replica's company caused it. Each content that had an attempt at the stage then
gets a mark. At two marks it is a suspect, and convicted if at one of them no other content was at the stage for as
long as the attempt lasted. A suspect's next attempts run with no second suspect beside them; a death then convicts it.
A success clears everything but a conviction.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from deployments.errors import Stage

DEATHS = 2
"""Marks that make a suspect, or convict it."""
MAX_CONTENTS = 256
EXPIRY_S = 3600.0


@dataclass(slots=True)
class _Record:
    at_s: float
    replicas: tuple[str, ...] = ()
    """That died with it, DEATHS at most: a call handed to a replica that is dead already is no second death."""
    was_alone: bool = False
    convicted: bool = False


@dataclass(slots=True, eq=False)
class Trial:
    """One call that is under way. Compared by identity: two calls with the same content are each other's company."""

    stage: Stage
    alone: bool
    """Whether nothing else has been at the stage since it began."""
    suspect: bool
    """Whether it was a suspect when it began; then no other suspect may run beside it."""


class Quarantine:
    """What is known of contents by their digests.

    Args:
        clock: seconds, monotonic.
        max_contents: marked contents to remember; those marked longest ago are forgotten first.
        expiry_s: how long a mark or a conviction is remembered.
    """

    def __init__(
        self, clock: Callable[[], float], max_contents: int = MAX_CONTENTS, expiry_s: float = EXPIRY_S
    ) -> None:
        self._clock = clock
        self._max_contents = max_contents
        self._expiry_s = expiry_s
        self._records: OrderedDict[tuple[Stage, str], _Record] = OrderedDict()
        self._under_way: dict[Stage, set[Trial]] = {stage: set() for stage in Stage}

    @property
    def empty(self) -> bool:
        """Whether no content is remembered, so that nobody needs a digest."""
        self._forget()
        return not self._records

    def convicted(self, stage: Stage, digest: str) -> bool:
        """Whether this content must not reach a replica."""
        record = self._record(stage, digest)
        return record is not None and record.convicted

    def suspected(self, stage: Stage, digest: str) -> bool:
        """Whether this content may run only while no other suspect does."""
        record = self._record(stage, digest)
        return record is not None and not record.convicted and len(record.replicas) >= DEATHS

    def begin(self, stage: Stage, *, suspect: bool = False) -> Trial:
        """Note that a call leaves for a replica. Each needs its `end`."""
        company = self._under_way[stage]
        for other in company:
            other.alone = False
        attempt = Trial(stage, alone=not company, suspect=suspect)
        company.add(attempt)
        return attempt

    def end(self, attempt: Trial) -> None:
        """Note that a call is over, however it went."""
        self._under_way[attempt.stage].discard(attempt)

    def died(self, attempt: Trial, digest: str, replica: str) -> bool:
        """Mark the content of a call whose replica died. True: this death convicts it."""
        key = (attempt.stage, digest)
        record = self._record(*key) or _Record(0.0)
        if record.convicted or (replica in record.replicas):
            return False
        record.at_s = self._clock()
        record.replicas = (*record.replicas, replica)[-DEATHS:]
        record.was_alone = record.was_alone or attempt.alone
        record.convicted = len(record.replicas) >= DEATHS and (record.was_alone or attempt.suspect)
        self._records[key] = record
        self._records.move_to_end(key)
        if len(self._records) > self._max_contents:
            self._records.popitem(last=False)
        return record.convicted

    def survived(self, stage: Stage, digest: str) -> None:
        """Clear a content that a replica worked on and lived."""
        record = self._record(stage, digest)
        if record is not None and not record.convicted:
            del self._records[stage, digest]

    def _record(self, stage: Stage, digest: str) -> _Record | None:
        self._forget()
        return self._records.get((stage, digest))

    def _forget(self) -> None:
        """Drop what has expired; the records stand in the order of their times."""
        expired_s = self._clock() - self._expiry_s
        while self._records and next(iter(self._records.values())).at_s <= expired_s:
            self._records.popitem(last=False)
