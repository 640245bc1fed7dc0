"""Makes what a voice said as long as its original, or says that it can't be.

The rule is `audio.timing`'s and the stretching `audio.stretch`'s; here they meet the samples, the rate that the engine
spoke at and the container that the dub goes into.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from deployments.audio import codec, pcm, timing
from deployments.audio.stretch import stretch
from deployments.audio.timing import FitLimits
from deployments.contracts import AudioFormat, Samples, Spoken


@dataclass(frozen=True, slots=True)
class Fitted:
    """Speech at its final length."""

    samples: Samples
    """float32, shaped as it was spoken."""
    speed_ratio: float
    """Spoken over stretched duration."""
    verdict: timing.Verdict


def fit(
    spoken: Spoken,
    target_ms: int,
    output: AudioFormat,
    limits: FitLimits,
    *,
    deadline_s: float,
    clock: Callable[[], float],
) -> Fitted:
    """Stretch speech to its target, pad it where stretching would drawl it, and fade its ends.

    It is judged first: what can't fit is not stretched. `deadline_s` is a point in time on `clock`.

    Raises:
        DurationMismatch: even the highest speed leaves it too long.
        DeadlineExceeded: no time was left to stretch it.
    """
    rate_hz = spoken.sample_rate_hz
    spoken_ms = max(1, pcm.samples_to_ms(spoken.samples.shape[0], rate_hz))
    plan = timing.plan_fit(spoken_ms, room_ms(target_ms, output), _left_after(spoken.rate, limits))
    n_fitted = pcm.ms_to_samples(plan.fitted_ms, rate_hz)
    dubbed_ms = codec.decoded_duration_ms(n_fitted, rate_hz, output)
    verdict = timing.judge(target_ms, dubbed_ms, limits, speed_ratio=plan.speed_ratio)
    voice = stretch(spoken.samples, rate_hz, plan.speed_ratio, deadline_s=deadline_s, clock=clock)
    voice = pcm.fit_length(voice, pcm.ms_to_samples(plan.stretched_ms, rate_hz))
    return Fitted(pcm.fit_length(pcm.fade(voice, rate_hz), n_fitted), plan.speed_ratio, verdict)


def room_ms(target_ms: int, output: AudioFormat) -> int:
    """How long the samples may be for a decoder to find target_ms: some containers add frames of their own."""
    rate_hz = output.sample_rate_hz
    found_ms = codec.decoded_duration_ms(pcm.ms_to_samples(target_ms, rate_hz), rate_hz, output)
    return max(target_ms // 2, 1, 2 * target_ms - found_ms)


def _left_after(rate: float, limits: FitLimits) -> FitLimits:
    """What the limits leave to a stretch once the voice itself spoke faster or slower: they bound the two together."""
    return replace(
        limits,
        min_speed=min(1.0, limits.min_speed / rate),
        max_speed=max(1.0, limits.max_speed / rate),
        natural_speed=min(1.0, limits.natural_speed / rate),
    )
