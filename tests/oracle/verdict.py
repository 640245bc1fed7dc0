"""The verdict on one connection of a history: a picture of its stream from the protocol's rules alone."""

from dataclasses import dataclass, field
from typing import Any

from tests.oracle.records import Record, Rules, Violation

LEVELS = ("low", "medium", "high")
EPSILON_S = 1e-6
RETRYABLE = frozenset(
    {
        "TIMEOUT",
        "MODEL_ERROR",
        "WORKER_CRASHED",
        "GPU_OOM",
        "QUEUE_FULL",
        "TRANSLATION_API_UNAVAILABLE",
        "RATE_LIMIT_EXCEEDED",
        "STREAM_PAUSED",
        "BACKPRESSURE_EXCEEDED",
        "RATE_LIMITED",
        "SERVER_DRAINING",
        "INTERNAL",
    }
)


@dataclass(slots=True)
class _Sent:
    time_s: float
    number: int
    digest: str | None


@dataclass(slots=True)
class _Flight:
    sent: _Sent
    acked_s: float
    in_order: bool


@dataclass(slots=True)
class _Stream:
    """The picture of one session, from the rules alone."""

    timeout_s: float
    max_inflight: int
    next: int
    flights: dict[str, _Flight] = field(default_factory=dict)
    kept: dict[str, tuple[str | None, str, int]] = field(default_factory=dict)
    """Digest, status and size of usable results."""
    failed: set[str] = field(default_factory=set)
    rejected: set[str] = field(default_factory=set)
    again: list[tuple[str, int, str]] = field(default_factory=list)
    """Fragment, number and status of kept results that are to come once more."""
    settled: set[int] = field(default_factory=set)
    """Numbers that were rejected, resent or given up: nobody waits for them."""
    given_up: list[tuple[int, int]] = field(default_factory=list)
    first_sent_s: float | None = None
    level: str = "low"
    """By count."""
    told: str | None = None
    """The level that the worker was told last."""
    pressure: tuple[str, int] | None = None
    """Level and count of the `backpressure` that has to come next."""
    statuses: list[str] = field(default_factory=list)
    early: list[Violation] = field(default_factory=list)
    ending: bool = False
    over: bool = False

    def marks(self, critical: int) -> tuple[int, int]:
        """Counts above which the level is medium, and high."""
        return min(self.max_inflight, critical), min(2 * self.max_inflight, critical)


class ConnectionJudge:
    """Judges one connection, record after record."""

    def __init__(self, name: str, rules: Rules) -> None:
        self.name, self.rules = name, rules
        self.violations: list[Violation] = []
        self.sent: dict[str, list[_Sent]] = {}
        self.init: dict[str, Any] = {}
        self.stream: _Stream | None = None
        self.gone_s: float | None = None
        self.ended = False
        self.work: dict[int, str] = {}
        self.now = 0.0

    def broken(self, check: str, message: str) -> None:
        """Note a violation."""
        self.violations.append(Violation(check, self.now, self.name, message))

    def see(self, entry: Record) -> None:
        """Judge the next record."""
        self.now = entry.time_s
        fields = entry.fields
        if entry.direction == "work":
            self._works(entry.event, fields)
        elif entry.direction == "state":
            self._sizes(fields)
        elif entry.event == "disconnect":
            self._disconnected()
        elif self.gone_s is not None:
            if entry.direction == "received":
                self.broken("answer", f"{entry.event} after the connection had ended")
        elif entry.direction == "sent":
            self._sent(entry.event, fields)
        else:
            self._received(entry.event, fields)

    def finish(self, end_s: float) -> None:
        """Judge what is left when the history ends."""
        self.now = end_s
        stream = self.stream
        self._settle_early()
        if self.gone_s is None:
            for name, unanswered in self.sent.items():
                if unanswered:
                    self.broken("answer", f"{name} was neither accepted nor refused")
            if stream is not None and stream.flights:
                self.broken("result", f"no result for {', '.join(sorted(stream.flights))}")
            if stream is not None and stream.ending and not stream.over:
                self.broken("end", "stream:end was never answered with stream:complete")
        if self.gone_s is not None or (stream is not None and stream.over):
            for ticket, name in self.work.items():
                self.broken("work", f"ticket {ticket} of {name} runs on though nobody waits for it")

    # --- what the worker does -----------------------------------------------------------------------------------

    def _sent(self, event: str, fields: dict[str, Any]) -> None:
        if event == "stream:init":
            self.init = fields
        elif event == "stream:end" and self.stream is not None:
            self.stream.ending = True
        elif event == "fragment:data":
            name, number = fields.get("fragment_id"), fields.get("sequence_number")
            if isinstance(name, str) and type(number) is int:
                self.sent.setdefault(name, []).append(_Sent(self.now, number, fields.get("digest")))

    def _disconnected(self) -> None:
        if self.gone_s is None and self.stream is not None:
            self._past_deadline(self.stream)
            self.stream.flights.clear()
        self.gone_s = self.now if self.gone_s is None else self.gone_s

    def _past_deadline(self, stream: _Stream) -> None:
        for name, flight in stream.flights.items():
            late_s = self.now - flight.acked_s - stream.timeout_s - self.rules.tolerance_s
            if late_s > EPSILON_S:
                self.broken("deadline", f"{name} has no result {late_s:.3f} s after its deadline")

    # --- what the server does -----------------------------------------------------------------------------------

    def _received(self, event: str, fields: dict[str, Any]) -> None:
        if event == "stream:ready":
            timeout_ms = self.init.get("timeout_ms") or self.rules.timeout_ms
            first = self.init.get("first_sequence_number") or 0
            self._settle_early()
            self.stream = _Stream(timeout_ms / 1000, fields["max_inflight"], first)
            return
        stream = self.stream
        if event == "error":
            self._error(stream, fields)
        if stream is None:
            return
        self._owed(stream, event)
        if event == "fragment:ack":
            self._accepted(stream, fields)
        elif event == "fragment:processed":
            self._result(stream, fields)
        elif event == "backpressure":
            self._told(stream, fields["severity"], fields["current_inflight"])
        elif event == "stream:complete":
            self._complete(stream, fields)

    def _told(self, stream: _Stream, level: str, count: int) -> None:
        """A level: that of the count, or a higher one where the server foresees waits and something is in flight."""
        expected = stream.pressure
        if expected is None and not self.rules.levels_by_count and level != stream.told:
            expected = (stream.level, len(stream.flights))
        higher = not self.rules.levels_by_count and count > 0
        if (
            expected is None
            or count != expected[1]
            or LEVELS.index(level) < LEVELS.index(expected[0])
            or (level != expected[0] and not higher)
        ):
            self.broken("backpressure", f"told {(level, count)}, expected {expected}")
        stream.told, stream.pressure = level, None

    def _owed(self, stream: _Stream, event: str) -> None:
        """What had to come right now, if it isn't this event."""
        if stream.pressure is not None and event != "backpressure":
            self.broken("backpressure", f"{stream.pressure} was not told")
            stream.pressure = None
        if stream.again and event != "fragment:processed":
            self.broken("retry", f"the kept result of {stream.again[0][0]} was not sent again")
            stream.again.clear()

    def _take_sent(self, name: str) -> _Sent | None:
        waiting = self.sent.get(name)
        if not waiting:
            self.broken("answer", f"{name} was answered but not sent, or answered twice")
            return None
        return waiting.pop(0)

    def _accepted(self, stream: _Stream, fields: dict[str, Any]) -> None:
        name, count = fields["fragment_id"], len(stream.flights)
        sent = self._take_sent(name)
        if sent is None:
            return
        flight, kept = stream.flights.get(name), stream.kept.get(name)
        known = flight.sent.digest if flight else kept[0] if kept else sent.digest
        if known != sent.digest:
            self.broken("retry", f"{name} was accepted with other audio")
        position = count - 1 if flight else count
        if fields["queue_position"] != position:
            self.broken("in_flight", f"{name}: queue_position {fields['queue_position']}, expected {position}")
        if flight is not None:
            stream.settled.add(sent.number)
            return
        if kept is not None:
            stream.settled.add(sent.number)
            stream.again.append((name, sent.number, kept[1]))
            return
        failed = name in stream.failed
        in_order = sent.number >= stream.next and not failed
        if sent.number < stream.next and not failed and name not in stream.rejected:
            self.broken("order", f"{name}: {sent.number} was accepted though it has passed")
        stream.flights[name] = _Flight(sent, self.now, in_order)
        (stream.settled.discard if in_order else stream.settled.add)(sent.number)
        stream.first_sent_s = sent.time_s if stream.first_sent_s is None else stream.first_sent_s
        self._entered(stream)

    def _entered(self, stream: _Stream) -> None:
        count, (low, medium) = len(stream.flights), stream.marks(self.rules.critical_inflight)
        if count > self.rules.critical_inflight:
            self.broken("in_flight", f"{count} in flight, the limit is {self.rules.critical_inflight}")
        reached = LEVELS[0] if count <= low else LEVELS[1] if count <= medium else LEVELS[2]
        if LEVELS.index(reached) > LEVELS.index(stream.level):
            stream.level = reached
        if stream.told is None or LEVELS.index(stream.level) > LEVELS.index(stream.told):
            stream.pressure = (stream.level, count)

    def _left(self, stream: _Stream) -> None:
        count, (low, medium) = len(stream.flights), stream.marks(self.rules.critical_inflight)
        fallen = LEVELS[0] if count < low else LEVELS[1] if count < medium else LEVELS[2]
        if LEVELS.index(fallen) < LEVELS.index(stream.level):
            stream.level = fallen
        if stream.told not in (None, stream.level) and (self.rules.levels_by_count or count == 0):
            stream.pressure = (stream.level, count)

    def _result(self, stream: _Stream, fields: dict[str, Any]) -> None:
        name, number, status = fields["fragment_id"], fields["sequence_number"], fields["status"]
        self._content(name, fields)
        if (name, number, status) in stream.again:
            stream.again.remove((name, number, status))
            return
        flight = stream.flights.get(name)
        if flight is None:
            self.broken("result", f"{name} has a result though it is not in flight: a second one")
            return
        if number != flight.sent.number:
            self.broken("order", f"{name} was accepted as {flight.sent.number} and left as {number}")
        late_s = self.now - flight.acked_s - stream.timeout_s - self.rules.tolerance_s
        if late_s > EPSILON_S:
            self.broken("deadline", f"{name} left {late_s:.3f} s after its deadline")
        if (fields.get("error") or {}).get("code") == "TIMEOUT" and self._early(stream, flight.sent.number, flight):
            self.broken("deadline", f"{name} timed out before its time")
        if flight.in_order:
            self._in_its_turn(stream, flight.sent.number)
        del stream.flights[name]
        stream.statuses.append(status)
        self._remember(stream, name, flight, fields)
        self._left(stream)

    def _content(self, name: str, fields: dict[str, Any]) -> None:
        error = fields.get("error")
        if (fields["status"] == "failed") != bool(error):
            self.broken("audio", f"{name}: {fields['status']} with error {error}")
        if fields["status"] != "failed" and not fields.get("audio_bytes"):
            self.broken("audio", f"{name}: {fields['status']} without audio")
        if error and error["retryable"] != (error["code"] in RETRYABLE):
            self.broken("retryable", f"{name}: {error['code']} with retryable {error['retryable']}")

    def _in_its_turn(self, stream: _Stream, number: int) -> None:
        lower = [f.sent.number for f in stream.flights.values() if f.in_order and f.sent.number < number]
        if number < stream.next:
            self.broken("order", f"{number} left after {stream.next - 1}")
        if lower:
            self.broken("order", f"{number} overtook {min(lower)}")
        missing = self._unaccounted(stream, number, lower)
        if missing is not None:
            self.broken("order", f"{number} left before {missing}, that nobody gave up")
        stream.next = max(stream.next, number + 1)

    def _unaccounted(self, stream: _Stream, number: int, lower: list[int]) -> int | None:
        """The first number below `number` that was neither refused nor given up nor is in flight."""
        known = [(n, n) for n in (*lower, *stream.settled) if stream.next <= n < number]
        expected = stream.next
        for first, last in sorted([*known, *stream.given_up]):
            if first > expected:
                break
            expected = max(expected, last + 1)
        return expected if expected < number else None

    def _remember(self, stream: _Stream, name: str, flight: _Flight, fields: dict[str, Any]) -> None:
        stream.rejected.discard(name)
        if fields["status"] == "failed":
            stream.failed.add(name)
            return
        stream.failed.discard(name)
        size = fields.get("audio_bytes", 0)
        if size > self.rules.kept_bytes:
            return
        stream.kept[name] = (flight.sent.digest, fields["status"], size)
        while len(stream.kept) > self.rules.kept_results or self._kept_bytes(stream) > self.rules.kept_bytes:
            del stream.kept[next(iter(stream.kept))]

    def _kept_bytes(self, stream: _Stream) -> int:
        return sum(size for _, _, size in stream.kept.values())

    def _early(self, stream: _Stream, number: int, flight: _Flight | None = None) -> bool:
        """Whether nothing at `number` or above is close to its deadline yet."""
        slack_s = self.rules.release_slack_ms / 1000
        due = [
            f.sent.time_s + stream.timeout_s - slack_s
            for f in stream.flights.values()
            if f.in_order and f.sent.number > number
        ]
        if flight is not None:
            due.append(flight.sent.time_s + stream.timeout_s)
        elif not stream.statuses and stream.first_sent_s is not None:
            due.append(stream.first_sent_s + self.rules.start_wait_ms / 1000)
        return self.now < min(due, default=self.now) - EPSILON_S

    def _error(self, stream: _Stream | None, fields: dict[str, Any]) -> None:
        code, name, number = fields["code"], fields.get("fragment_id"), fields.get("sequence_number")
        if fields["retryable"] != (code in RETRYABLE):
            self.broken("retryable", f"{code} with retryable {fields['retryable']}")
        if isinstance(name, str) and self.sent.get(name):
            self.sent[name].pop(0)
        if stream is not None and fields["severity"] == "warning":
            self._warned(stream, code, fields)
        elif stream is not None and fields["severity"] == "fatal":
            self._over(stream, code)
        elif stream is not None and number is not None:
            self._refused(stream, code, name, number)

    def _refused(self, stream: _Stream, code: str, name: str | None, number: int) -> None:
        if code == "BACKPRESSURE_EXCEEDED" and len(stream.flights) < self.rules.critical_inflight:
            self.broken("in_flight", f"{name} was refused with {len(stream.flights)} in flight")
        if code == "QUEUE_FULL" and (name in stream.flights or name in stream.kept):
            self.broken("retry", f"{name} was refused though it had been accepted before")
        taken = any(flight.sent.number == number for flight in stream.flights.values())
        if code == "INVALID_SEQUENCE" and name in stream.failed and not taken:
            self.broken("retry", f"{name} failed and was refused when it was sent again")
        stream.settled.add(number)
        if code in RETRYABLE and name is not None:
            stream.rejected.add(name)

    def _warned(self, stream: _Stream, code: str, fields: dict[str, Any]) -> None:
        if code == "SERVER_DRAINING":
            stream.ending = stream.over = True
        elif code == "INVALID_SEQUENCE":
            first, last = fields["details"]["first_missing"], fields["details"]["last_missing"]
            if not stream.ending and self._early(stream, last):
                stream.early.append(Violation("order", self.now, self.name, f"{first} to {last} given up too early"))
            refused = sorted(number for number in stream.settled if first <= number <= last)
            if refused:
                self.broken("order", f"{refused} were waited for, though they had been refused")
            stream.given_up.append((first, last))

    def _over(self, stream: _Stream, code: str) -> None:
        """A fatal error."""
        if code == "GPU_OOM" and stream.flights:
            self.broken("result", f"no result for {', '.join(sorted(stream.flights))} when the device was full")
        # A full device ends all waiting: what was given up in the same breath was not given up too early.
        stream.early = [v for v in stream.early if v.time_s < self.now - self.rules.tolerance_s]
        self._past_deadline(stream)
        stream.flights.clear()
        stream.over = True

    def _complete(self, stream: _Stream, fields: dict[str, Any]) -> None:
        stream.over = True
        counts = {f"{status}_count": stream.statuses.count(status) for status in ("success", "partial", "failed")}
        told = {name: fields[name] for name in counts}
        if stream.flights:
            self.broken("result", f"stream:complete before {', '.join(sorted(stream.flights))}")
        if told != counts:
            self.broken("end", f"stream:complete counts {told}, {counts} were seen")

    def _settle_early(self) -> None:
        if self.stream is not None:
            self.violations += self.stream.early
            self.stream.early.clear()

    # --- what only the simulation knows -------------------------------------------------------------------------

    def _works(self, event: str, fields: dict[str, Any]) -> None:
        if event == "started":
            self.work[fields["ticket"]] = fields["fragment_id"]
        elif self.work.pop(fields["ticket"], None) is None:
            self.broken("work", f"ticket {fields['ticket']} is {event} but does not run")

    def _sizes(self, fields: dict[str, Any]) -> None:
        flights = len(self.stream.flights) if self.stream is not None else 0
        if fields["in_flight"] != flights:
            self.broken("in_flight", f"the server counts {fields['in_flight']} in flight, {flights} are")
        if fields["kept_bytes"] > self.rules.kept_bytes:
            self.broken("bounds", f"{fields['kept_bytes']} bytes of audio are kept")
        failures = min(self.rules.undone, len(self.stream.failed | self.stream.rejected)) if self.stream else 0
        if fields["remembered"] > self.rules.kept_results + failures:
            self.broken("bounds", f"{fields['remembered']} fragments are remembered")
        ahead = sum(number >= self.stream.next for number in self.stream.settled) if self.stream else 0
        if fields.get("skipped", 0) > ahead:
            self.broken("bounds", f"{fields['skipped']} numbers are held as refused, {ahead} lie ahead")
