"""Makes what a voice said as long as its original, and speak when it does, or says that it can't be.

Where phrases go is `audio.placing`'s, the rule `audio.timing`'s and the stretching `audio.stretch`'s; here they meet
the samples, the rate that the engine spoke at and the container that the dub goes into.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from deployments.audio import codec, pcm, timing
from deployments.audio.alignment import LEAST_GAP_MS, Placed, joined, place, with_edges
from deployments.audio.stretch import stretch
from deployments.audio.timing import FitLimits
from deployments.contracts.engines import Samples, Spoken
from deployments.contracts.values import AudioFormat, Span

LEAST_PAUSE_MS = 250
"""Shorter pauses of the original are part of its speech: between words, and where its recogniser is not sure."""
_EDGE_MS = 120
"""Of the quiet around a phrase, kept with it: final consonants are in there."""
_SEAM_MS = 3.0
"""Faded on both sides of a border that a word runs over: no click where they are coded apart, or one is missing."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Speech at its final length."""

    samples: Samples
    """float32, shaped as it was spoken."""
    speed_ratio: float
    """Spoken over stretched duration."""
    verdict: timing.Verdict
    lead_ms: int = 0
    """What is left free at its start."""
    over: Samples | None = None
    """What runs over the original's end and has to open the next dub."""


@dataclass(frozen=True, slots=True)
class Stretching:
    """How long stretching may go on: `deadline_s` is a point in time on `clock`."""

    deadline_s: float
    clock: Callable[[], float]

    def stretch(self, samples: Samples, rate_hz: int, speed_ratio: float, n_samples: int) -> Samples:
        """Stretched to n_samples, and faded at both ends. DeadlineExceeded: no time was left."""
        voice = stretch(samples, rate_hz, speed_ratio, deadline_s=self.deadline_s, clock=self.clock)
        return pcm.fade(pcm.fit_length(voice, n_samples), rate_hz)


def fit(
    spoken: Spoken,
    target_ms: int,
    output: AudioFormat,
    limits: FitLimits,
    *,
    deadline_s: float,
    clock: Callable[[], float],
    speech: Sequence[Span] = (),
    lead_ms: int = 0,
    overhang_ms: int = 0,
) -> Fitted:
    """Stretch speech to its target, pad it where stretching would drawl it, and fade its ends.

    With `speech`, when the original speaks, each group of phrases is put where the original says its own, and the last
    one may run over the end by `overhang_ms`; without it, or where that can't be done within the limits, the dub begins
    at once. Either way it leaves `lead_ms` free at its start, unless it would be too long then. It is judged first:
    what can't fit is not stretched. `deadline_s` is a point in time on `clock`.

    Raises:
        DurationMismatch: even the highest speed leaves it too long.
        DeadlineExceeded: no time was left to stretch it.
    """
    room = room_ms(target_ms, output)
    task = _Task(spoken, target_ms, room, output, limits, Stretching(deadline_s, clock))
    if lead_ms and free_from_ms(lead_ms) < room:
        free_ms = free_from_ms(lead_ms)
        fitted = _by_phrases(task, speech, free_ms, overhang_ms) or (
            _as_a_whole(task, free_ms) if _holds(task, free_ms) else None
        )
        if fitted is not None:
            return replace(fitted, lead_ms=lead_ms)
    return _by_phrases(task, speech, 0, overhang_ms) or _as_a_whole(task, 0)


@dataclass(frozen=True, slots=True)
class _Task:
    """What is to be fitted, and into what."""

    spoken: Spoken
    target_ms: int
    room_ms: int
    output: AudioFormat
    limits: FitLimits
    stretching: Stretching

    @property
    def spoken_ms(self) -> int:
        return max(1, pcm.samples_to_ms(self.spoken.samples.shape[0], self.spoken.sample_rate_hz))

    @property
    def left(self) -> FitLimits:
        return _left_after(self.spoken.rate, self.limits)

    def judged(self, n_samples: int, speed_ratio: float) -> timing.Verdict:
        dubbed_ms = codec.decoded_duration_ms(n_samples, self.spoken.sample_rate_hz, self.output)
        return timing.judge(self.target_ms, dubbed_ms, self.limits, speed_ratio=speed_ratio)


def _by_phrases(task: _Task, speech: Sequence[Span], free_ms: int, overhang_ms: int) -> Fitted | None:
    """Phrases where the original speaks; None: nobody knows when it does, or there is no such way."""
    spoken, room, rate_hz = task.spoken, task.room_ms, task.spoken.sample_rate_hz
    sources = pcm.loud_spans(spoken.samples, rate_hz)
    if not sources:
        return None
    head_ms = min(_EDGE_MS, sources[0].start_ms)
    tail_ms = min(_EDGE_MS, task.spoken_ms - sources[-1].end_ms)
    inner_ms = room - tail_ms
    phrases = place(
        sources,
        joined(speech, LEAST_PAUSE_MS),
        inner_ms,
        task.left,
        free_from_ms=free_ms + head_ms,
        beyond_ms=overhang_ms,
    )
    if not phrases:
        return None
    n_fitted, speed_ratio = pcm.ms_to_samples(room, rate_hz), _overall(phrases)
    verdict = task.judged(n_fitted, speed_ratio)
    runs_over = phrases[-1].heard.end_ms > inner_ms + len(phrases)  # not by rounding alone
    whole = with_edges(phrases, task.spoken_ms, room + overhang_ms if runs_over else room, _EDGE_MS, free_ms)
    n_over = pcm.ms_to_samples(overhang_ms, rate_hz) if runs_over else 0
    dub = _placed(spoken, whole, n_fitted + n_over, task.stretching)
    if not runs_over:
        return Fitted(dub, speed_ratio, verdict)
    n_heard = pcm.ms_to_samples(whole[-1].heard.end_ms, rate_hz)
    head = pcm.fade(dub[:n_fitted], rate_hz, _SEAM_MS, start=False)
    return Fitted(head, speed_ratio, verdict, over=pcm.fade(dub[n_fitted:n_heard], rate_hz, _SEAM_MS, end=False))


def _holds(task: _Task, free_ms: int) -> bool:
    """Whether the whole dub fits behind what is left free."""
    room = task.room_ms - free_ms
    return timing.plan_fit(task.spoken_ms, room, task.left).fitted_ms <= room


def _as_a_whole(task: _Task, free_ms: int) -> Fitted:
    """The dub in one piece, after what is left free."""
    rate_hz = task.spoken.sample_rate_hz
    plan = timing.plan_fit(task.spoken_ms, task.room_ms - free_ms, task.left)
    n_fitted = pcm.ms_to_samples(free_ms + plan.fitted_ms, rate_hz)
    verdict = task.judged(n_fitted, plan.speed_ratio)
    n_stretched = pcm.ms_to_samples(plan.stretched_ms, rate_hz)
    voice = task.stretching.stretch(task.spoken.samples, rate_hz, plan.speed_ratio, n_stretched)
    quiet = pcm.fit_length(task.spoken.samples[:0], pcm.ms_to_samples(free_ms, rate_hz))
    return Fitted(pcm.fit_length(np.concatenate([quiet, voice]), n_fitted), plan.speed_ratio, verdict)


def _placed(spoken: Spoken, phrases: Sequence[Placed], n_fitted: int, stretching: Stretching) -> Samples:
    """All phrases where they are heard, silence between them."""
    rate_hz = spoken.sample_rate_hz
    dub = pcm.fit_length(spoken.samples[:0], n_fitted)
    for phrase in phrases:
        start, end = (pcm.ms_to_samples(ms, rate_hz) for ms in (phrase.spoken.start_ms, phrase.spoken.end_ms))
        at = pcm.ms_to_samples(phrase.start_ms, rate_hz)
        n_heard = max(0, min(pcm.ms_to_samples(phrase.heard.duration_ms, rate_hz), n_fitted - at))
        dub[at : at + n_heard] = stretching.stretch(spoken.samples[start:end], rate_hz, phrase.speed_ratio, n_heard)
    return dub


def _overall(phrases: Sequence[Placed]) -> float:
    """Spoken over heard duration, of all phrases."""
    return sum(phrase.spoken.duration_ms for phrase in phrases) / sum(phrase.heard.duration_ms for phrase in phrases)


def free_from_ms(lead_ms: int) -> int:
    """When a dub may begin that opens with so much of the one before."""
    return lead_ms + LEAST_GAP_MS if lead_ms else 0


def speech_ms(speech: Sequence[Span], free_ms: int = 0) -> int | None:
    """How long an original speaks from free_ms on, its short pauses included; None: nobody knows, or not at all."""
    spans = joined(speech, LEAST_PAUSE_MS)
    return sum(max(0, span.end_ms - max(span.start_ms, free_ms)) for span in spans) or None


def room_ms(target_ms: int, output: AudioFormat) -> int:
    """How long the samples may be for a decoder to find target_ms: some containers add frames of their own."""
    rate_hz = output.sample_rate_hz
    found_ms = codec.decoded_duration_ms(pcm.ms_to_samples(target_ms, rate_hz), rate_hz, output)
    return max(target_ms // 2, 1, 2 * target_ms - found_ms)


def _left_after(rate: float, limits: FitLimits) -> FitLimits:
    """What the limits leave to a stretch once the voice itself spoke faster or slower: they bound the two together."""
    max_speed = max(1.0, limits.max_speed / rate)
    left = {
        "min_speed": min(1.0, limits.min_speed / rate),
        "max_speed": max_speed,
        "natural_speed": min(1.0, limits.natural_speed / rate),
        "comfortable_speed": min(max_speed, max(1.0, limits.comfortable_speed / rate)),
    }
    return limits.model_copy(update=left)
