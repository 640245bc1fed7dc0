"""When streams send, what came of each fragment, and the figures of it. Nothing is sent here, see bench.generator.

Latency counts from when a fragment was due, so a generator that is late shows in it and hides nothing.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from bench.report import percentiles

FRAGMENT_MS = 6000
LATE_MS = 8000.0
"""Workers throw away what comes later."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Live streams: each sends 6 s of speech every `cadence_s`, whatever comes back."""

    phases_s: tuple[float, ...]
    """When each stream first sends, from the start."""
    cadence_s: float
    warm_s: float
    """From the start; what is due in it is not counted."""
    seconds: float
    """That count."""

    @property
    def ends_s(self) -> float:
        """From the start to the end of what counts."""
        return self.warm_s + self.seconds

    def due_s(self, stream: int) -> list[float]:
        """When a stream's fragments are due, from the start."""
        phase_s = self.phases_s[stream]
        count = math.ceil((self.ends_s - phase_s) / self.cadence_s)
        return [phase_s + number * self.cadence_s for number in range(max(0, count))]


@dataclass(frozen=True, slots=True)
class Saturation:
    """So many fragments always in flight, each on a stream of its own."""

    in_flight: int
    warm_s: float
    seconds: float

    @property
    def ends_s(self) -> float:
        """From the start to the end of what counts."""
        return self.warm_s + self.seconds


def evenly(streams: int, cadence_s: float) -> tuple[float, ...]:
    """Phases that spread all sends evenly over the cadence."""
    return tuple(cadence_s * stream / streams for stream in range(streams))


def scattered(streams: int, cadence_s: float) -> tuple[float, ...]:
    """Phases as unrelated streams have them, some close together; the same ones each time (golden ratio)."""
    return tuple(round(cadence_s * (stream * 0.6180339887 % 1), 3) for stream in range(streams))


@dataclass(slots=True)
class Sent:
    """One fragment of a phase, and what came of it."""

    due_s: float
    """From the phase's start."""
    ack_ms: float | None = None
    """From the send."""
    result_ms: float | None = None
    """From when it was due."""
    code: str = ""
    """Why it failed or was refused."""

    @property
    def latency_ms(self) -> float:
        """From when it was due; a failure is worth no less than a result that comes too late."""
        if self.result_ms is None:
            return LATE_MS
        return max(LATE_MS, self.result_ms) if self.code else self.result_ms

    @property
    def done_s(self) -> float:
        """From the phase's start to its result; infinite without one."""
        return math.inf if self.result_ms is None else self.due_s + self.result_ms / 1000


@dataclass(frozen=True, slots=True)
class Used:
    """CPU seconds while a phase counted."""

    server_s: float
    """Of the server and all processes below it."""
    generator_s: float
    bystanders_s: float
    """Of servers that were up and not asked."""
    idle_s: float
    """Of all cores, while nobody computed."""
    foreign_percent: float
    """Of all cores, what none of these used."""


@dataclass(frozen=True, slots=True)
class Phase:
    """What one plan gave."""

    plan: Plan | Saturation
    sent: list[Sent]
    used: Used

    @property
    def counted(self) -> list[Sent]:
        """Fragments that were due while the phase counted."""
        return [one for one in self.sent if one.due_s >= self.plan.warm_s]

    @property
    def done(self) -> int:
        """Good results that came while the phase counted."""
        return sum(not one.code and self.plan.warm_s <= one.done_s < self.plan.ends_s for one in self.sent)

    @property
    def late(self) -> int:
        """Results after 8 s, or never."""
        return sum(not one.code and (one.result_ms or math.inf) > LATE_MS for one in self.counted)


def latencies_ms(phases: Sequence[Phase]) -> list[float]:
    """Of all fragments that count, from when they were due; what failed or never came counts as late."""
    return [one.latency_ms for one in _counted(phases)]


def acks_ms(phases: Sequence[Phase]) -> list[float]:
    """From the send to the acknowledgement, of fragments that count."""
    return [one.ack_ms for one in _counted(phases) if one.ack_ms is not None]


def cpu_s_a_fragment(phases: Sequence[Phase]) -> float:
    """CPU seconds of the server for each good result; not a number where there was none."""
    done = sum(phase.done for phase in phases)
    return sum(phase.used.server_s for phase in phases) / done if done else math.nan


def efficiency(phases: Sequence[Phase]) -> float:
    """η: throughput over what the cores would give if the server never let one idle.

    That is throughput ÷ (cores ÷ CPU seconds a fragment), the cores being those that nobody else computed on. Only
    where there is always something to do does it say anything.
    """
    server_s = sum(phase.used.server_s for phase in phases)
    idle = sum(phase.used.idle_s for phase in phases)
    return server_s / (server_s + idle)


def summary(phases: Sequence[Phase]) -> dict[str, float]:
    """Phases of one plan as one row of figures."""
    sent = _counted(phases)
    seconds = sum(phase.plan.seconds for phase in phases)
    latency, ack = percentiles(latencies_ms(phases)), percentiles(acks_ms(phases))
    return {
        "fragments": len(sent),
        **{f"{name}_ms": latency.get(name, math.nan) for name in ("p50", "p95", "p99")},
        **{f"ack_{name}_ms": ack.get(name, math.nan) for name in ("p50", "p99")},
        "sent_per_s": round(len(sent) / seconds, 3),
        "done_per_s": round(sum(phase.done for phase in phases) / seconds, 3),
        "failed": sum(bool(one.code) for one in sent),
        "late": sum(phase.late for phase in phases),
        "cpu_s_a_fragment": round(cpu_s_a_fragment(phases), 3),
        "efficiency": round(efficiency(phases), 3),
        "foreign_percent": round(statistics.fmean(phase.used.foreign_percent for phase in phases), 1),
    }


def show(title: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Print summaries as a table."""
    columns = [name.removesuffix("_percent") for name in next(iter(rows.values()))]
    table = Table("", *(name.replace("_", " ") for name in columns), title=title)
    for name, row in rows.items():
        table.add_row(name, *(f"{figure:.5g}" for figure in row.values()))
    Console(width=190).print(table)


def _counted(phases: Sequence[Phase]) -> list[Sent]:
    return [one for phase in phases for one in phase.counted]
