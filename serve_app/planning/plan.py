"""The arithmetic of a plan. PURE: numbers in, numbers out.

A replica carries

    utilisation × fragment × side by side × share of its card ÷ time of one fragment

streams, since each stream brings one fragment every `fragment_s`. The share is the deployment's `num_gpus` where that
is below 1: replicas on one card are taken to share its time, which is the careful guess, since nobody has measured it.
Replicas are what the streams need, rounded up, and no fewer than the configuration keeps. Cards are packed as Ray packs
fractions of them; CPUs are what Ray reserves or what the engines compute, whichever is more.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from serve_app.planning.figures import Card, Figure, How

_SLICES = 10_000
"""Of a GPU; Ray's resolution."""
LATE = 0.65
"""Share of its time that a fragment may take alone; above it, two at once are too many."""
_ROUNDING = 1e-12
"""What floating-point arithmetic may add to a whole number, as a part of it."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What is planned for."""

    streams: int
    fragment_s: float = 6.0
    """How often a stream brings a fragment, and how long that is."""
    utilisation: float = 0.6
    """How busy a replica may be; the rest is head-room for bursts and for a replica that died."""
    least_streams: int = 0
    """At the quietest time."""


@dataclass(frozen=True, slots=True)
class Work:
    """One deployment as it is configured, and what one fragment costs it."""

    name: str
    ms: Figure
    """Of the replica, or of the whole card, for one fragment."""
    memory_mib: Figure
    """Main memory of one replica."""
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    cpu_ms: float = 0.0
    """CPU time of one fragment, all threads together; 0: it hardly computes there."""
    side_by_side: int = 1
    """Fragments at once that don't slow each other down, as calls of an outside service."""
    most_streams: float = math.inf
    """What else bounds a replica, such as its sockets."""
    gpu_memory_gib: Figure | None = None
    gpu_memory_fraction: float | None = None
    """Of its card, that the configuration lets a replica take."""
    autoscaled: bool = True
    fewest_replicas: int = 1
    """That the configuration keeps whatever the load is, so that one may be lost."""

    @property
    def share(self) -> float:
        """Of a card's time."""
        return self.num_gpus if 0 < self.num_gpus < 1 else 1.0

    @property
    def alone_ms(self) -> float:
        """One fragment, while the replica's neighbours on the card are busy and nothing else waits."""
        return self.ms.value / self.share


@dataclass(frozen=True, slots=True)
class Planned:
    """One deployment's part of the plan."""

    work: Work
    streams_a_replica: float
    replicas: int
    """For all streams: the upper bound of its scaling."""
    least_replicas: int
    """For the quietest time: the lower bound."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to have, and what is wrong with it."""

    load: Demand
    card: Card | None
    """None: no deployment computes on a GPU."""
    deployments: tuple[Planned, ...]
    gpus: int
    least_gpus: int
    gpu_memory_gib: float
    """That the replicas on the fullest card need."""
    cpus: int
    """For the replicas; Ray and its proxy on each node are not in it."""
    memory_mib: int
    """Likewise."""
    alone_ms: float
    """One fragment through all stages while nothing waits; of an outside service only what is known of it."""
    problems: tuple[str, ...]


def streams_a_replica(work: Work, load: Demand) -> float:
    """How many streams one replica carries; a fraction where it takes several replicas to carry one."""
    by_time = load.utilisation * load.fragment_s * 1000 * work.side_by_side / work.alone_ms
    return min(by_time, work.most_streams)


def carried(deployments: Sequence[tuple[Work, int]], cores: float, load: Demand) -> float:
    """Live streams that deployments carry: as many as the narrowest, and as the cores compute for all together.

    Args:
        deployments: each with how many replicas of it run.
        cores: that all of them share.
        load: length of a fragment and utilisation count.
    """
    by_time = min(streams_a_replica(work, load) * running for work, running in deployments)
    cpu_ms = sum(work.cpu_ms for work, _running in deployments)
    return min(by_time, load.utilisation * load.fragment_s * 1000 * cores / cpu_ms) if cpu_ms else by_time


def replicas(streams: int, carried: float) -> int:
    """Enough for the streams, and never none: a service without streams still waits for the first one."""
    return max(1, _up(streams / carried))


def _up(value: float) -> int:
    return math.ceil(value * (1 - _ROUNDING))


def cards(shares: Sequence[tuple[float, int]]) -> tuple[int, list[tuple[float, ...]]]:
    """Cards that replicas need, and which shares lie together on the kinds of card that come out of it.

    Args:
        shares: `num_gpus` of one replica and how many replicas there are. Above 1 it is a whole number, as Ray has it.

    Returns:
        How many cards; one entry a kind of card: the shares on it, largest first.
    """
    whole = sum(_up(share) * count for share, count in shares if share >= 1)
    kinds = {(share,) for share, count in shares if share >= 1 and count}
    bins: Counter[tuple[int, ...]] = Counter()
    share_of: dict[int, float] = {}
    for share, count in sorted((pair for pair in shares if 0 < pair[0] < 1), reverse=True):
        size = max(1, round(share * _SLICES))
        share_of[size] = share
        bins = _packed(bins, size, count)
    shared = (tuple(share_of[size] for size in content) for content in bins)
    return whole + bins.total(), sorted({*kinds, *shared}, reverse=True)


def _packed(bins: Counter[tuple[int, ...]], size: int, count: int) -> Counter[tuple[int, ...]]:
    """The cards once `count` more pieces are in: where there is room first, then on new ones; alike cards at once."""
    packed: Counter[tuple[int, ...]] = Counter()
    fullest_first = sorted(bins.items(), key=lambda item: sum(item[0]), reverse=True)
    for content, alike in (*fullest_first, ((), count)):
        room = (_SLICES - sum(content)) // size
        full, rest = divmod(min(count, alike * room), room) if room else (0, 0)
        packed[content + (size,) * room] += full
        packed[content + (size,) * rest] += 1 if rest else 0
        packed[content] += alike - full - (1 if rest else 0)
        count -= full * room + rest
    del packed[()]
    return +packed


def plan(load: Demand, works: Sequence[Work], card: Card | None, timeout_ms: int) -> Plan:
    """What the load needs.

    Args:
        load: how many streams of what.
        works: all deployments.
        card: what GPUs there are; None where no work asks for any.
        timeout_ms: what a fragment has from its acceptance to its result.
    """
    planned = []
    for work in works:
        carried = streams_a_replica(work, load)
        most = max(work.fewest_replicas, replicas(load.streams, carried))
        quiet = max(work.fewest_replicas, replicas(load.least_streams, carried))
        least = min(most, quiet) if work.autoscaled else most
        planned.append(Planned(work, carried, most, least))
    gpus, together = cards([(p.work.num_gpus, p.replicas) for p in planned])
    least_gpus, _ = cards([(p.work.num_gpus, p.least_replicas) for p in planned])
    needed_gib = max((_needed_gib(works, shares) for shares in together), default=0.0)
    busy_cpus = load.streams * sum(work.cpu_ms for work in works) / (load.fragment_s * 1000 * load.utilisation)
    reserved_cpus = sum(p.work.num_cpus * p.replicas for p in planned)
    alone_ms = sum(work.alone_ms for work in works if work.ms.how is not How.CONFIGURED)
    return Plan(
        load,
        card if gpus else None,
        tuple(planned),
        gpus,
        least_gpus,
        needed_gib,
        _up(max(busy_cpus, reserved_cpus)),
        _up(sum(p.work.memory_mib.value * p.replicas for p in planned)),
        alone_ms,
        tuple(_problems(works, card if gpus else None, needed_gib, alone_ms, timeout_ms)),
    )


def _needed_gib(works: Sequence[Work], shares: Sequence[float]) -> float:
    """What replicas with these shares need on one card at most: which of several works get together is Ray's choice."""
    needs = {work.num_gpus: 0.0 for work in works}
    for work in works:
        if work.gpu_memory_gib is not None:
            needs[work.num_gpus] = max(needs[work.num_gpus], work.gpu_memory_gib.value)
    return sum(needs[share] for share in shares)


def _problems(
    works: Sequence[Work], card: Card | None, needed_gib: float, alone_ms: float, timeout_ms: int
) -> list[str]:
    found = []
    if alone_ms > LATE * timeout_ms:
        found.append(
            f"a fragment takes {alone_ms:.0f} ms even when nothing waits, and has {timeout_ms} ms; where most use more "
            f"than {LATE:.0%} of theirs, some are refused with QUEUE_FULL"
        )
    if card is None or card.memory_gib is None:
        return found
    if needed_gib > card.memory_gib:
        found.append(f"{needed_gib:.1f} GiB are needed on one card, and {card.name} has {card.memory_gib:g}")
    for work in works:
        if work.gpu_memory_gib is None or work.gpu_memory_fraction is None:
            continue
        share_gib = work.gpu_memory_fraction * card.memory_gib
        if work.gpu_memory_gib.value > share_gib:
            found.append(
                f"{work.name} needs {work.gpu_memory_gib.value:.1f} GiB, and gpu_memory_fraction "
                f"{work.gpu_memory_fraction:g} leaves it {share_gib:.1f} of a {card.name}"
            )
    return found
