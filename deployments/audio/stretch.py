"""Changes how long a voice takes and not how high it sounds: Rubber Band R3, in this process.

In process, because the rubberband command hangs for ever on an empty file and knows no deadline; here the clock is
looked at between blocks. Which ratio is wanted, `timing` decides.
"""

import math
import time
from collections.abc import Callable, Iterator

import numpy as np
from pylibrb import Option, RubberBandStretcher

from deployments.audio import pcm
from deployments.contracts.engines import Samples
from deployments.errors import DeadlineExceeded, Stage

_BLOCK_SAMPLES = 8_192
"""What is stretched between two looks at the clock: some 10 to 30 ms of work."""
_SHORTEST_SAMPLES = 1_024
"""Rubber Band returns too little, or nothing, for less than one of its windows."""
_UNCHANGED = 0.001
"""A ratio this near to 1 is left alone: nobody hears it, and every stretch costs quality."""
_OPTIONS = (
    Option.PROCESS_OFFLINE | Option.ENGINE_FINER | Option.THREADING_NEVER | Option.CHANNELS_TOGETHER
)  # offline: Rubber Band sees all input first, keeps onsets in place and has no start delay


def stretch(
    samples: Samples,
    sample_rate_hz: int,
    speed_ratio: float,
    *,
    deadline_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> Samples:
    """Samples (n,) or (n, n_channels) spoken speed_ratio times as fast, exactly round(n / speed_ratio) long.

    Within .1 % of ratio 1 they come back as they are; less than some 20 ms of audio is cut or padded instead.
    `deadline_s` is a point in time on `clock`; past it: DeadlineExceeded.
    """
    if not 0 < speed_ratio < math.inf:
        raise ValueError(f"speed_ratio must be positive, is {speed_ratio}")
    n_samples = samples.shape[0]
    if abs(speed_ratio - 1) <= _UNCHANGED:
        return samples
    n_wanted = round(n_samples / speed_ratio)
    if n_samples < _SHORTEST_SAMPLES:
        return pcm.fit_length(samples, n_wanted)

    def check_deadline() -> None:
        if clock() >= deadline_s:
            raise DeadlineExceeded(Stage.TTS, "no time was left to stretch the voice")

    channels_first = np.ascontiguousarray(pcm.with_channel_axis(samples).T, dtype=np.float32)
    stretcher = RubberBandStretcher(sample_rate_hz, channels_first.shape[0], _OPTIONS, 1 / speed_ratio, 1.0)
    stretcher.set_expected_input_duration(n_samples)
    stretcher.set_max_process_size(_BLOCK_SAMPLES)
    for block, final in _blocks(channels_first):
        check_deadline()
        stretcher.study(block, final)
    stretched: list[Samples] = []
    for block, final in _blocks(channels_first):
        check_deadline()
        stretcher.process(block, final)
        stretched.append(stretcher.retrieve_available())
    result = np.concatenate(stretched, axis=1).T.reshape(-1, *samples.shape[1:])
    return pcm.fit_length(result, n_wanted)


def _blocks(channels_first: Samples) -> Iterator[tuple[Samples, bool]]:
    """Blocks (n_channels, ≤ _BLOCK_SAMPLES), each with whether it is the last."""
    n_samples = channels_first.shape[1]
    for start in range(0, n_samples, _BLOCK_SAMPLES):
        end = start + _BLOCK_SAMPLES
        yield np.ascontiguousarray(channels_first[:, start:end]), end >= n_samples
