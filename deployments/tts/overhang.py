"""What is left over of one dub and opens the next: packed for the way between the two, and put where it is heard.

How much may be left over, `fitting` decides; which dub is the next one, the caller does.
"""

import numpy as np

from deployments.audio import codec, pcm
from deployments.audio.timing import MAX_OVERHANG_MS
from deployments.contracts.engines import Samples
from deployments.contracts.values import Overhang


def packed(over: Samples, sample_rate_hz: int) -> Overhang:
    """Samples (n,) or (n, n_channels) as they travel."""
    mono = pcm.map_channels(pcm.with_channel_axis(over), 1)
    return Overhang(pcm.to_bytes(mono, "pcm_s16le"), sample_rate_hz)


def opened(dub: Samples, overhang: Overhang, sample_rate_hz: int) -> Samples:
    """A dub (n,) or (n, n_channels) with what was left over heard over its start.

    At most `MAX_OVERHANG_MS` are; what is longer than the dub is faded out with it.
    """
    lead = codec.resample(pcm.from_bytes(overhang.data, "pcm_s16le", 1)[:, 0], overhang.sample_rate_hz, sample_rate_hz)
    n_lead = min(lead.shape[0], dub.shape[0], pcm.ms_to_samples(MAX_OVERHANG_MS, sample_rate_hz))
    if n_lead < lead.shape[0]:
        lead = pcm.fade(lead[:n_lead], sample_rate_hz, start=False)
    heard = dub.copy()
    heard[:n_lead] += lead.reshape(-1, *[1] * (dub.ndim - 1))
    return np.clip(heard, -1.0, 1.0)
