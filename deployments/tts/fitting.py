"""Makes what a voice said as long as its original, and speak when it does, or says that it can't be.

Where phrases go is `audio.placing`'s, the rule `audio.timing`'s and the stretching `audio.stretch`'s; here they meet
the samples, the rate that the engine spoke at and the container that the dub goes into.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from deployments.audio import codec, pcm, timing
from deployments.audio.placing import Placed, joined, place, with_edges
from deployments.audio.stretch import stretch
from deployments.audio.timing import FitLimits
from deployments.contracts import AudioFormat, Samples, Span, Spoken

LEAST_PAUSE_MS = 250
"""Shorter pauses of the original are part of its speech: between words, and where its recogniser is not sure."""
_EDGE_MS = 50
"""Of the quiet around a phrase, kept with it: final consonants are in there."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Speech at its final length."""

    samples: Samples
    """float32, shaped as it was spoken."""
    speed_ratio: float
    """Spoken over stretched duration."""
    verdict: timing.Verdict


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
) -> Fitted:
    """Stretch speech to its target, pad it where stretching would drawl it, and fade its ends.

    With `speech`, when the original speaks, each group of phrases is put where the original says its own; without it,
    or where that can't be done within the limits, the dub begins at once. It is judged first: what can't fit is not
    stretched. `deadline_s` is a point in time on `clock`.

    Raises:
        DurationMismatch: even the highest speed leaves it too long.
        DeadlineExceeded: no time was left to stretch it.
    """
    rate_hz = spoken.sample_rate_hz
    room = room_ms(target_ms, output)
    spoken_ms = max(1, pcm.samples_to_ms(spoken.samples.shape[0], rate_hz))
    left = _left_after(spoken.rate, limits)
    stretching = Stretching(deadline_s, clock)
    phrases = place(pcm.loud_spans(spoken.samples, rate_hz), joined(speech, LEAST_PAUSE_MS), room, left)
    if phrases:
        n_fitted = pcm.ms_to_samples(room, rate_hz)
        verdict = timing.judge(target_ms, codec.decoded_duration_ms(n_fitted, rate_hz, output), limits)
        whole = with_edges(phrases, spoken_ms, room, _EDGE_MS)
        return Fitted(_placed(spoken, whole, n_fitted, stretching), _overall(phrases), verdict)
    plan = timing.plan_fit(spoken_ms, room, left)
    n_fitted = pcm.ms_to_samples(plan.fitted_ms, rate_hz)
    dubbed_ms = codec.decoded_duration_ms(n_fitted, rate_hz, output)
    verdict = timing.judge(target_ms, dubbed_ms, limits, speed_ratio=plan.speed_ratio)
    n_stretched = pcm.ms_to_samples(plan.stretched_ms, rate_hz)
    voice = stretching.stretch(spoken.samples, rate_hz, plan.speed_ratio, n_stretched)
    return Fitted(pcm.fit_length(voice, n_fitted), plan.speed_ratio, verdict)


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


def speech_ms(speech: Sequence[Span]) -> int | None:
    """How long an original speaks, its short pauses included; None: nobody knows when it does."""
    return sum(span.duration_ms for span in joined(speech, LEAST_PAUSE_MS)) or None


def room_ms(target_ms: int, output: AudioFormat) -> int:
    """How long the samples may be for a decoder to find target_ms: some containers add frames of their own."""
    rate_hz = output.sample_rate_hz
    found_ms = codec.decoded_duration_ms(pcm.ms_to_samples(target_ms, rate_hz), rate_hz, output)
    return max(target_ms // 2, 1, 2 * target_ms - found_ms)


def _left_after(rate: float, limits: FitLimits) -> FitLimits:
    """What the limits leave to a stretch once the voice itself spoke faster or slower: they bound the two together."""
    max_speed = max(1.0, limits.max_speed / rate)
    return replace(
        limits,
        min_speed=min(1.0, limits.min_speed / rate),
        max_speed=max_speed,
        natural_speed=min(1.0, limits.natural_speed / rate),
        comfortable_speed=min(max_speed, max(1.0, limits.comfortable_speed / rate)),
    )
