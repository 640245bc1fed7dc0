"""How good a dub is, as numbers. No model is run here: what was heard and when comes in."""

import itertools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import jiwer
import numpy as np
import sacrebleu
from numpy.typing import NDArray

from deployments.audio.alignment import overlap_ms
from deployments.contracts.values import Span

NATURAL = (0.8, 1.25)
"""Speaking rates, the voice's own being 1, that nobody takes for slowed down or hurried."""
_ROUNDING = 0.005
RESAMPLES = 2000
_BORDER_MS = 5


def plain(text: str) -> str:
    """Lower case letters, digits and single spaces: what a word error rate should look at."""
    text = unicodedata.normalize("NFKC", text).lower().replace("mr.", "mister")
    return " ".join(re.sub(r"[^\w\s]", " ", text).split())


def wer(said: Sequence[str], heard: Sequence[str]) -> float:
    """Word error rate over all pairs together, in percent."""
    return 100 * float(jiwer.wer([plain(text) for text in said], [plain(text) for text in heard]))


def word_errors(said: str, heard: str) -> tuple[int, int]:
    """How many words of a text are heard wrong, missing or added; and how many it has."""
    found = jiwer.process_words(plain(said) or " ", plain(heard))
    return found.substitutions + found.deletions + found.insertions, len(plain(said).split())


def error_rate(counts: Sequence[tuple[int, int]]) -> dict[str, float]:
    """Errors over words in percent, of all parts together: n words, the median and its 95 % interval by resampling.

    Whole parts are drawn, since the words of one are misheard together.
    """
    errors, words = _drawn(counts)
    return _interval(100 * errors / words, sum(n for _, n in counts))


def error_rate_difference(one: Sequence[tuple[int, int]], other: Sequence[tuple[int, int]]) -> dict[str, float]:
    """How many percent points more of `one` is misheard, with its interval; both are of the same parts, in order."""
    (errors, words), (other_errors, other_words) = _drawn(one), _drawn(other)
    return _interval(100 * (errors / words - other_errors / other_words), sum(n for _, n in one))


def _drawn(counts: Sequence[tuple[int, int]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    table = np.asarray(counts, dtype=float)
    chosen = np.random.default_rng(0).integers(0, len(counts), (RESAMPLES, len(counts)))
    found = table[chosen].sum(axis=1)
    return found[:, 0], found[:, 1]


def _interval(values: NDArray[np.float64], n: int) -> dict[str, float]:
    low, median, high = (round(float(value), 1) for value in np.percentile(values, [2.5, 50, 97.5]))
    return {"n": n, "median": median, "low": low, "high": high}


def translation(references: Sequence[str], found: Sequence[str]) -> dict[str, float]:
    """chrF2 and BLEU of a corpus with one reference each, 0 to 100."""
    return {
        "chrf": round(sacrebleu.corpus_chrf(list(found), [list(references)]).score, 1),
        "bleu": round(sacrebleu.corpus_bleu(list(found), [list(references)]).score, 1),
    }


@dataclass(frozen=True, slots=True)
class Dubbed:
    """One fragment and its dub, as their speech was found."""

    original: tuple[Span, ...]
    """When the original speaks."""
    dub: tuple[Span, ...]
    """When the dub does."""
    original_ms: int
    dub_ms: int
    speed: float
    """How much faster than its voice's natural rate the dub is: the rate asked for times the stretch."""


def isochrony(dubs: Sequence[Dubbed]) -> dict[str, float]:
    """How far dubs speak when their originals do, over all fragments together.

    `overlap` is the time when both speak over the time when either does; `covered` is the share of the original's
    speech, `inside` that of the dub's, in it. All in percent. `unnatural` is the share of fragments faster or slower
    than `NATURAL`.
    """
    both = sum(overlap_ms(one.original, one.dub) for one in dubs)
    original = sum(span.duration_ms for one in dubs for span in one.original)
    dub = sum(span.duration_ms for one in dubs for span in one.dub)
    speeds = [one.speed for one in dubs]
    slowest, fastest = NATURAL[0] - _ROUNDING, NATURAL[1] + _ROUNDING
    variances = [abs(one.dub_ms - one.original_ms) * 100 / one.original_ms for one in dubs]
    return {
        "fragments": len(dubs),
        "overlap_percent": _percent(both, original + dub - both),
        "covered_percent": _percent(both, original),
        "inside_percent": _percent(both, dub),
        "unnatural_percent": _percent(sum(not slowest <= speed <= fastest for speed in speeds), len(speeds)),
        "speed_p5": round(float(np.percentile(speeds, 5)), 3),
        "speed_p50": round(float(np.median(speeds)), 3),
        "speed_p95": round(float(np.percentile(speeds, 95)), 3),
        "speed_max": round(max(speeds), 3),
        "variance_p95_percent": round(float(np.percentile(variances, 95)), 2),
    }


def border_step(pieces: Sequence[NDArray[np.float32]], rate_hz: int) -> float:
    """The largest step between two samples around the borders of pieces, over the largest one inside them.

    Pieces are (n_samples,). A click at a border is a step that speech itself doesn't have: well above 1.
    """
    n_border = max(1, rate_hz * _BORDER_MS // 1000)
    around = [np.concatenate([a[-n_border:], b[:n_border]]) for a, b in itertools.pairwise(pieces)]
    steps = [float(np.abs(np.diff(piece)).max(initial=0.0)) for piece in around]
    inside = max(float(np.abs(np.diff(piece)).max(initial=0.0)) for piece in pieces)
    return round(max(steps, default=0.0) / inside, 3) if inside else 0.0


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 1) if whole else 0.0
