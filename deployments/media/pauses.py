"""Where to cut speech: finds pauses by loudness and picks the one nearest the wanted length. PURE."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pcm = NDArray[np.int16]
"""int16 (n_samples, n_channels)."""

FRAME_MS = 20
_PAUSE_FRAMES = 7
"""140 ms: shorter dips are stops inside words."""
_EDGE_FRAMES = 5
"""A cut keeps 100 ms of a pause on either side when the pause is long enough."""
_SMOOTH_FRAMES = 5
_SILENCE_DB = -60.0
_THRESHOLD = 0.25
"""Share of the way from the noise floor to the level of speech; below it is a pause."""
_MIN_RANGE_DB = 9.0
"""Between floor and speech; steady noise has no pauses."""
_HISTORY_FRAMES = 1500
_TAIL_S = 0.5


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long pieces are, in seconds. Only the last one may be shorter than `least`."""

    least: float
    wanted: float
    most: float

    @classmethod
    def around(cls, wanted_ms: int) -> "Lengths":
        """From a third of the wanted length to five thirds of it, and never above the protocol's 30 s."""
        wanted = wanted_ms / 1000
        return cls(wanted / 3, wanted, min(wanted * 5 / 3, 30.0))


def split(blocks: Iterable[Pcm], rate_hz: int, lengths: Lengths) -> Iterator[Pcm]:
    """Cut a stream of audio at pauses; the pieces, put together, are the whole. Holds one piece in memory."""
    cutter = _Cutter(rate_hz, lengths)
    held: list[Pcm] = []
    n_held = 0
    for block in blocks:
        held.append(block)
        n_held += len(block)
        while n_held >= cutter.needed:
            audio = np.concatenate(held)
            at = cutter.cut(audio, len(audio))
            yield audio[:at]
            held, n_held = [audio[at:]], n_held - at
    if not n_held:
        return
    audio = np.concatenate(held)
    while len(audio) > cutter.enough:
        at = cutter.cut(audio, len(audio) - cutter.tail)
        yield audio[:at]
        audio = audio[at:]
    yield audio


class _Cutter:
    def __init__(self, rate_hz: int, lengths: Lengths) -> None:
        self._frame = max(1, rate_hz * FRAME_MS // 1000)
        self._lengths = lengths
        self._rate_hz = rate_hz
        self._most = int(lengths.most * rate_hz)
        self._history: deque[float] = deque(maxlen=_HISTORY_FRAMES)
        self.tail = int(_TAIL_S * rate_hz)
        self.needed = self._most + self.tail
        """Samples that must be there before a cut: what is left of it is no scrap."""
        self.enough = min(int((lengths.wanted + lengths.least) * rate_hz), self._most)
        """At the end, this much is left in one piece."""

    def cut(self, audio: Pcm, limit: int) -> int:
        """The sample to cut at: at most `limit`."""
        most = min(self._most, limit)
        loudness_db = _loudness_db(audio[:most], self._frame)
        least = max(1, min(int(self._lengths.least * self._rate_hz) // self._frame, len(loudness_db) - 1))
        wanted = int(self._lengths.wanted * self._rate_hz) // self._frame
        best = _best_pause(loudness_db < self._threshold_db(loudness_db), least, wanted)
        if best is None:
            best = _quietest(loudness_db, least, wanted)
        self._history.extend(loudness_db[:best].tolist())
        return min(best * self._frame, most)

    def _threshold_db(self, loudness_db: NDArray[np.float64]) -> float:
        known = np.concatenate([np.array(self._history, np.float64), loudness_db])
        floor, speech = np.percentile(known, [10, 95])
        if speech - floor < _MIN_RANGE_DB:
            return _SILENCE_DB
        return max(float(floor + _THRESHOLD * (speech - floor)), _SILENCE_DB)


def _loudness_db(audio: Pcm, frame: int) -> NDArray[np.float64]:
    """RMS of each whole frame in dB of full scale, the channels together."""
    n_frames = max(1, len(audio) // frame)
    whole = audio[: n_frames * frame].astype(np.float64) / 32_768
    power = np.square(whole).reshape(n_frames, -1).mean(axis=1)
    return np.asarray(10 * np.log10(np.maximum(power, 1e-10)))


def _best_pause(quiet: NDArray[np.bool_], least: int, wanted: int) -> int | None:
    """The frame to cut at, inside a pause: long and near the wanted length wins."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(np.int8)))
    best, best_score = None, -np.inf
    for start, stop in edges.reshape(-1, 2):
        length = int(stop - start)
        margin = min(length // 2, _EDGE_FRAMES)
        at = int(np.clip(wanted, start + margin, stop - margin))
        at = max(at, least)
        if length < _PAUSE_FRAMES or at >= stop:
            continue
        score = min(length, 30) / 30 - abs(at - wanted) / max(wanted, 1)
        if score > best_score:
            best, best_score = at, score
    return best


def _quietest(loudness_db: NDArray[np.float64], least: int, wanted: int) -> int:
    """Without a pause: the quietest moment, the nearer to the wanted length the better."""
    smooth = np.convolve(loudness_db, np.ones(_SMOOTH_FRAMES) / _SMOOTH_FRAMES, mode="same")
    distance = np.abs(np.arange(len(smooth)) - wanted) / max(wanted, 1)
    return least + int(np.argmin((smooth + 6 * distance)[least:]))
