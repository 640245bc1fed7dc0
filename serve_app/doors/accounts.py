"""What each caller has in use: connections, and buckets that fill with what it sends and leak with time. PURE."""

from collections import OrderedDict

from serve_app.doors.options import Rates

BYTES_BURST_S = 10
FORGET_S = 60.0
"""After this much quiet every bucket has leaked empty, so that a new account is the same as the old one."""
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

    def _left(self, rate: float, now: float) -> float:
        return max(0.0, self._used - (now - self._at) * rate)


class Account:
    """One caller's use of one ingress replica."""

    __slots__ = ("_bytes", "_fragments", "connections", "quiet_since")

    def __init__(self) -> None:
        self.connections = 0
        self.quiet_since = 0.0
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


class Accounts:
    """Accounts by caller: those with a connection, and for a while those that had one.

    Args:
        max_quiet: so many without a connection are kept; the longest quiet goes first.
    """

    def __init__(self, max_quiet: int = MAX_QUIET) -> None:
        self._max_quiet = max_quiet
        self._busy: dict[str, Account] = {}
        self._quiet: OrderedDict[str, Account] = OrderedDict()

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
        account = self._busy.get(caller) or self._quiet.pop(caller, None) or Account()
        self._busy[caller] = account
        account.connections += 1

    def leave(self, caller: str, now: float) -> None:
        """It has one connection less."""
        account = self._busy[caller]
        account.connections -= 1
        if not account.connections:
            account.quiet_since = now
            self._quiet[caller] = self._busy.pop(caller)
        while self._quiet:
            oldest = next(iter(self._quiet.values()))
            if len(self._quiet) <= self._max_quiet and now - oldest.quiet_since < FORGET_S:
                break
            self._quiet.popitem(last=False)
