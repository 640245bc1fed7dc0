"""Where the phrases of a dub go, so that it speaks when its original does. PURE: numbers in, numbers out.

A dub that is only as long as its original talks through the original's pauses and is silent while the original talks.
Here the dub is cut at its own pauses, and each group of phrases is laid onto a stretch of the original's speech. What
doesn't fit runs into the pause behind it before it is squeezed. How samples are cut and stretched is not known here.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from deployments.audio.timing import FitLimits
from deployments.contracts.values import Span

LEAST_GAP_MS = 80
"""What stays quiet between two groups, so that they are heard as two."""
MOST_PIECES = 8
"""Of the dub and of the original each; more are joined at their shortest gaps first. It bounds the search."""
_STRAIN = 2.0
"""What a millisecond of speech at twice the comfortable speed costs, in milliseconds of missed overlap."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A part of what was spoken, and when it is heard."""

    spoken: Span
    """On the timeline of what the voice said."""
    start_ms: int
    """On the timeline of the original."""
    speed_ratio: float
    """Above 1 it is sped up."""

    @property
    def heard(self) -> Span:
        """On the timeline of the original."""
        return Span(self.start_ms, self.start_ms + max(1, round(self.spoken.duration_ms / self.speed_ratio)))


@dataclass(frozen=True, slots=True)
class _Bounds:
    """When a group may be heard."""

    earliest_ms: int
    latest_ms: int
    beyond_ms: int
    """How far it may run over `latest_ms` before it is hurried."""


@dataclass(frozen=True, slots=True)
class _Way:
    """Some phrases on some stretches of speech, and what it costs."""

    cost: float
    placed: tuple[Placed, ...]


def overlap_ms(one: Sequence[Span], other: Sequence[Span]) -> int:
    """How long two sets of spans last at the same time. Both are ordered, and neither overlaps itself."""
    found = i = j = 0
    while i < len(one) and j < len(other):
        a, b = one[i], other[j]
        found += max(0, min(a.end_ms, b.end_ms) - max(a.start_ms, b.start_ms))
        if a.end_ms < b.end_ms:
            i += 1
        else:
            j += 1
    return found


def joined(spans: Iterable[Span], least_gap_ms: int) -> tuple[Span, ...]:
    """Spans in order of time, those with a gap shorter than `least_gap_ms` between them as one."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda span: span.start_ms):
        if found and span.start_ms - found[-1].end_ms < least_gap_ms:
            found[-1] = Span(found[-1].start_ms, max(found[-1].end_ms, span.end_ms))
        else:
            found.append(span)
    return tuple(found)


def place(
    phrases: Sequence[Span],
    speech: Sequence[Span],
    room_ms: int,
    limits: FitLimits,
    *,
    free_from_ms: int = 0,
    beyond_ms: int = 0,
) -> tuple[Placed, ...]:
    """Lay all phrases of a dub onto its original's speech, in order.

    Args:
        phrases: when the voice speaks, on its own timeline; ordered, with gaps between.
        speech: when the original speaks, on its own; ordered, with gaps between.
        room_ms: the original's duration; nothing is heard after it but what `beyond_ms` allows.
        limits: how fast a voice may become.
        free_from_ms: nothing is heard before it.
        beyond_ms: how far the last phrases may run over what they can't fit into at a comfortable speed.

    Returns:
        Each phrase in its order, phrases of different groups at least `LEAST_GAP_MS` apart; none: there is no way
        within the limits.
    """
    sources = _at_most(phrases, MOST_PIECES)
    targets = _at_most(
        [Span(span.start_ms, min(span.end_ms, room_ms)) for span in speech if span.start_ms < room_ms], MOST_PIECES
    )
    if not sources or not targets:
        return ()
    # best[i][j]: the cheapest way to lay the first i phrases onto the first j stretches of speech.
    best: list[list[_Way | None]] = [[None] * (len(targets) + 1) for _ in range(len(sources) + 1)]
    best[0][0] = _Way(0.0, ())
    for n_laid in range(1, len(sources) + 1):
        for n_used in range(1, len(targets) + 1):
            behind = targets[n_used].start_ms - LEAST_GAP_MS if n_used < len(targets) else room_ms
            bounds = _Bounds(free_from_ms, behind, 0 if n_used < len(targets) else beyond_ms)
            best[n_laid][n_used] = _cheapest(best, sources[:n_laid], targets[:n_used], bounds, limits)
    found = best[-1][-1]
    return found.placed if found else ()


def with_edges(
    placed: Sequence[Placed], spoken_ms: int, room_ms: int, edge_ms: int, free_from_ms: int = 0
) -> tuple[Placed, ...]:
    """Phrases with some of the quiet around them, which soft consonants are in; those stay where they are.

    A phrase gets `edge_ms` on each side, and no more than half of the gap to its neighbour, spoken or heard. Edges stay
    between `free_from_ms` and `room_ms`.
    """
    found: list[Placed] = []
    for number, one in enumerate(placed):
        before = placed[number - 1] if number else None
        after = placed[number + 1] if number + 1 < len(placed) else None
        room_before_ms = (one.start_ms - before.heard.end_ms) / 2 if before else one.start_ms - free_from_ms
        room_after_ms = ((after.start_ms if after else room_ms) - one.heard.end_ms) / (2 if after else 1)
        quiet_before_ms = (one.spoken.start_ms - before.spoken.end_ms) / 2 if before else one.spoken.start_ms
        quiet_after_ms = ((after.spoken.start_ms if after else spoken_ms) - one.spoken.end_ms) / (2 if after else 1)
        more_before_ms = max(0, int(min(edge_ms, quiet_before_ms, room_before_ms * one.speed_ratio)))
        more_after_ms = max(0, int(min(edge_ms, quiet_after_ms, room_after_ms * one.speed_ratio)))
        spoken = Span(one.spoken.start_ms - more_before_ms, one.spoken.end_ms + more_after_ms)
        found.append(Placed(spoken, one.start_ms - int(more_before_ms / one.speed_ratio), one.speed_ratio))
    return tuple(found)


def _cheapest(
    best: Sequence[Sequence[_Way | None]],
    sources: Sequence[Span],
    targets: Sequence[Span],
    bounds: _Bounds,
    limits: FitLimits,
) -> _Way | None:
    """The cheapest way that ends with one group of the last of `sources` on the last of `targets`."""
    ways: list[_Way] = []
    for first in range(len(sources)):
        for start in range(len(targets)):
            before = best[first][start]
            if before is None:
                continue
            earliest_ms = before.placed[-1].heard.end_ms + LEAST_GAP_MS if before.placed else bounds.earliest_ms
            window = targets[start:]
            group = _group(sources[first:], window, replace(bounds, earliest_ms=earliest_ms), limits)
            if group:
                ways.append(_Way(before.cost + _cost(group, window, limits), before.placed + group))
    return min(ways, key=lambda way: way.cost, default=None)


def _group(phrases: Sequence[Span], window: Sequence[Span], bounds: _Bounds, limits: FitLimits) -> tuple[Placed, ...]:
    """Phrases from where the window begins; none: it is too short even at the highest speed.

    What is too long for the window at a comfortable speed has its own pauses shortened, then runs into the pause
    behind, then begins in the pause before, then runs over where it may, then is squeezed.
    """
    earliest_ms, latest_ms = bounds.earliest_ms, bounds.latest_ms
    start_ms = max(window[0].start_ms, earliest_ms)
    wanted_ms, behind_ms, most_ms = window[-1].end_ms - start_ms, latest_ms - start_ms, latest_ms - earliest_ms
    voice_ms = sum(phrase.duration_ms for phrase in phrases)
    whole_ms = phrases[-1].end_ms - phrases[0].start_ms
    gaps = [after.start_ms - before.end_ms for before, after in itertools.pairwise(phrases)]
    short = [min(gap, LEAST_GAP_MS) for gap in gaps]
    comfortable = limits.comfortable_speed
    if whole_ms <= comfortable * wanted_ms:
        speed = max(whole_ms / wanted_ms, limits.slowest_speed)
        return _laid(phrases, [gap / speed for gap in gaps], start_ms, speed)
    pauses_ms = sum(short)
    needed_ms = voice_ms / comfortable + pauses_ms
    if needed_ms <= wanted_ms:
        kept = (wanted_ms - needed_ms) / (whole_ms / comfortable - needed_ms)
        some = [least + kept * (gap / comfortable - least) for gap, least in zip(gaps, short, strict=True)]
        return _laid(phrases, some, start_ms, comfortable)
    if needed_ms <= behind_ms:
        return _laid(phrases, short, start_ms, comfortable)
    if needed_ms <= most_ms:
        return _laid(phrases, short, math.floor(latest_ms - needed_ms), comfortable)
    most_ms += bounds.beyond_ms
    if needed_ms <= most_ms:
        return _laid(phrases, short, earliest_ms, comfortable)
    if most_ms <= pauses_ms or voice_ms > limits.max_speed * (most_ms - pauses_ms):
        return ()
    return _laid(phrases, short, earliest_ms, voice_ms / (most_ms - pauses_ms))


def _laid(phrases: Sequence[Span], gaps_ms: Sequence[float], start_ms: int, speed: float) -> tuple[Placed, ...]:
    """Phrases one after the other from start_ms, with such gaps between them."""
    starts_ms = itertools.accumulate(
        (phrase.duration_ms / speed + gap_ms for phrase, gap_ms in zip(phrases, gaps_ms, strict=False)),
        initial=float(start_ms),
    )
    return tuple(Placed(phrase, round(at_ms), speed) for phrase, at_ms in zip(phrases, starts_ms, strict=True))


def _cost(group: Sequence[Placed], window: Sequence[Span], limits: FitLimits) -> float:
    """Milliseconds that only one of the two speaks, and what speed beyond comfort is worth in them."""
    heard = [placed.heard for placed in group]
    alone_ms = sum(span.duration_ms for span in (*heard, *window)) - 2 * overlap_ms(heard, window)
    strain = max(0.0, math.log2(group[0].speed_ratio / limits.comfortable_speed))
    return alone_ms + _STRAIN * strain * sum(span.duration_ms for span in heard)


def _at_most(spans: Sequence[Span], most: int) -> list[Span]:
    """The same spans, joined at their shortest gaps until there are few enough."""
    found = [span for span in spans if span.duration_ms > 0]
    while len(found) > most:
        at = min(range(len(found) - 1), key=lambda i: found[i + 1].start_ms - found[i].end_ms)
        found[at : at + 2] = [Span(found[at].start_ms, found[at + 1].end_ms)]
    return found
