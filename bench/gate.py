"""What a dub has to reach, and what fails a build. The figures of bench.quality go in, judgements come out."""

from collections.abc import Callable
from typing import Any

from bench.dubbing import CUTS, FITS
from bench.report import Target

TINY = "The recogniser is Whisper tiny.en, the smallest one."
RULES = "Apertium translates by rules and leaves words that it doesn't know as they are."
LONGER = "A translation that is much longer than its original has no pause left to run into."


def targets(found: dict[str, Any]) -> list[Target]:
    """What a dub has to reach."""
    best = found["pauses"]
    chrf, overlap = best["translation"]["chrf"], best["carried"]["overlap_percent"]
    human = "Speech overlap of original and dub, cut at pauses (human dubs: about 70 %)"
    rows = [
        Target("Words that the recogniser gets wrong, cut at pauses", best["wer_percent"], 10, "%", because=TINY),
        Target("chrF of the translation, cut at pauses", chrf, 40, at_least=True, because=RULES),
        Target(human, overlap, 70, "%", at_least=True, because=LONGER, headline=True),
    ]
    for cut, cutting in (("hard", "cut every 6 s"), ("pauses", "cut at pauses")):
        ways = found[cut]
        for fit in FITS[1:]:
            gained, hurried = (
                round(ways[fit][key] - ways["total"][key], 1) for key in ("overlap_percent", "unnatural_percent")
            )
            rows += [
                Target(f"Overlap above total length: {fit}, {cutting}", gained, 0.1, "points", True, LONGER),
                Target(
                    f"Fragments outside 0.8–1.25 above total length: {fit}, {cutting}",
                    hurried,
                    0,
                    "points",
                    because=LONGER,
                ),
            ]
        steps = max(ways[fit]["border_step"] for fit in FITS)
        rows.append(Target(f"Largest step at a border over the largest inside, {cutting}", steps, 1))
    for fit, more in found.get("misheard_more_than_total_points", {}).items():
        told = f"With {more['n']} words the interval goes from {more['low']} to {more['high']} points."
        rows.append(Target(f"Words misheard above total length: {fit}", more["median"], 3, "points", because=told))
    return rows


def _of_each_cut(holds: Callable[[dict[str, Any]], bool]) -> Callable[[dict[str, Any]], bool]:
    return lambda found: all(holds(found[cut]) for cut in CUTS if cut in found)


GATE: dict[str, Callable[[dict[str, Any]], bool]] = {
    "at most 15 % of the words misheard by the recogniser": _of_each_cut(lambda cut: cut["wer_percent"] <= 15),
    "chrF of at least 40": _of_each_cut(lambda cut: cut["translation"]["chrf"] >= 40),
    "placing overlaps more than length alone": _of_each_cut(
        lambda cut: all(cut[fit]["overlap_percent"] > cut["total"]["overlap_percent"] for fit in FITS[1:])
    ),
    "at least 70 % overlap": _of_each_cut(lambda cut: cut["carried"]["overlap_percent"] >= 70),
    "placing hurries no more fragments": _of_each_cut(
        lambda cut: all(cut[fit]["unnatural_percent"] <= cut["total"]["unnatural_percent"] for fit in FITS[1:])
    ),
    "no dub too long": _of_each_cut(lambda cut: all(cut[fit]["too_long"] == 0 for fit in FITS)),
    "no click at a border": _of_each_cut(lambda cut: all(cut[fit]["border_step"] <= 1 for fit in FITS)),
    "no less understood, chance aside, by more than 3 points": lambda found: all(
        more["low"] <= 3 for more in found.get("misheard_more_than_total_points", {}).values()
    ),
}
"""Generous bounds: they catch a regression, not a bad day. What was not measured misses none."""
