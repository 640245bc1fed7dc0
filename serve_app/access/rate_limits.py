"""What each caller has in use: connections, and buckets that fill with what it sends and leak with time. PURE."""

from bisect import bisect_left, bisect_right, insort
from operator import itemgetter

from serve_app.access.options import Rates

BYTES_BURST_S = 10
MAX_QUIET = 10_000
_SLACK = 1e-6
"""Rounding errors of a bucket's filling don't count."""


class Bucket:
    """A leaky bucket whose rate may change at any time."""

    __slots__ = ("_at", "_used")

    def __init__(self) -> None:
        self._used = 0.0
        self._at = 0.0

    def wait_s(self, cost: float, rate: float, capacity: float, now: float) -> float:
        """Until `cost` fits; 0 when it does now. What is larger than the bucket fits into an empty one."""
        over = self._left(rate, now) + min(cost, capacity) - capacity
        return over / rate if over > _SLACK else 0.0

    def pour(self, cost: float, rate: float, now: float) -> None:
        """Put it in, to the brim and above."""
        self._used = self._left(rate, now) + cost
        self._at = now

    def empty_in_s(self, rate: float, now: float) -> float:
        """Until it is as good as a new one."""
        left = self._left(rate, now)
        return left / rate if left > _SLACK else 0.0

    def _left(self, rate: float, now: float) -> float:
        return max(0.0, self._used - (now - self._at) * rate)


class Account:
    """One caller's use of one ingress replica."""

    __slots__ = ("_bytes", "_fragments", "connections")

    def __init__(self) -> None:
        self.connections = 0
        self._bytes = Bucket()
        self._fragments = Bucket()

    def wait_s(self, size_bytes: int, rates: Rates, now: float) -> float:
        """Until a fragment of this size may come; 0: now."""
        waits = [0.0]
        if rates.bytes_per_s is not None:
            capacity = rates.bytes_per_s * BYTES_BURST_S
            waits.append(self._bytes.wait_s(size_bytes, rates.bytes_per_s, capacity, now))
        if rates.fragments_per_minute is not None:
            rate = rates.fragments_per_minute / 60
            waits.append(self._fragments.wait_s(1, rate, rates.fragments_per_minute, now))
        return max(waits)

    def pay(self, size_bytes: int, rates: Rates, now: float) -> None:
        """A fragment of this size has come."""
        if rates.bytes_per_s is not None:
            self._bytes.pour(size_bytes, rates.bytes_per_s, now)
        if rates.fragments_per_minute is not None:
            self._fragments.pour(1, rates.fragments_per_minute / 60, now)

    def owes_s(self, rates: Rates, now: float) -> float:
        """Until a new account would be the same as this one."""
        owed = [0.0]
        if rates.bytes_per_s is not None:
            owed.append(self._bytes.empty_in_s(rates.bytes_per_s, now))
        if rates.fragments_per_minute is not None:
            owed.append(self._fragments.empty_in_s(rates.fragments_per_minute / 60, now))
        return max(owed)


class RateLimiter:
    """RateLimiter by caller: those with a connection, and those that had one and have not paid off what they used.

    Args:
        max_quiet: so many without a connection are kept. Whose debt ends first goes first, so that one is pushed out
            by greater ones only.
    """

    def __init__(self, max_quiet: int = MAX_QUIET) -> None:
        self._max_quiet = max_quiet
        self._busy: dict[str, Account] = {}
        self._quiet: dict[str, tuple[float, Account]] = {}
        """With the time at which it owes nothing, at the rates of when that was worked out."""
        self._due: list[tuple[float, str]] = []
        """The same times in their order."""

    def __len__(self) -> int:
        return len(self._busy) + len(self._quiet)

    def connections(self, caller: str) -> int:
        """How many it has."""
        account = self._busy.get(caller)
        return account.connections if account else 0

    def account(self, caller: str) -> Account:
        """That of a caller with a connection."""
        return self._busy[caller]

    def enter(self, caller: str) -> None:
        """It has one connection more."""
        if caller in self._quiet:
            due, self._busy[caller] = self._quiet.pop(caller)
            del self._due[bisect_left(self._due, (due, caller))]
        account = self._busy.setdefault(caller, Account())
        account.connections += 1

    def leave(self, caller: str, rates: Rates, now: float) -> None:
        """It has one connection less."""
        account = self._busy[caller]
        account.connections -= 1
        if not account.connections:
            self._keep(caller, self._busy.pop(caller), rates, now)
        for name, settled in self._first(bisect_right(self._due, now, key=itemgetter(0))):
            self._keep(name, settled, rates, now)  # rates that were lowered meanwhile make it last longer
        self._first(len(self._due) - self._max_quiet)

    def _keep(self, caller: str, account: Account, rates: Rates, now: float) -> None:
        owes_s = account.owes_s(rates, now)
        if owes_s:
            self._quiet[caller] = (now + owes_s, account)
            insort(self._due, (now + owes_s, caller))

    def _first(self, count: int) -> list[tuple[str, Account]]:
        """Take out those whose debts end first."""
        taken, self._due = self._due[: max(0, count)], self._due[max(0, count) :]
        return [(name, self._quiet.pop(name)[1]) for _, name in taken]
