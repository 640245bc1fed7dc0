"""Where an utterance begins and ends, by how likely a voice is in each stretch of 32 ms. PURE."""

from collections.abc import Sequence
from dataclasses import dataclass, field

VOICE, NO_VOICE = 0.5, 0.35
"""A voice begins above the one and ends below the other: in between, what was goes on."""
LEAST_RUN_MS = 64
"""A shorter sound begins no utterance."""
LEAST_VOICE_MS = 200
"""An utterance with less voice in it holds no word, unless its end was asked for."""
BEFORE_MS = 300
"""Kept before the first voice: soft beginnings."""
AFTER_MS = 200
"""Kept behind the last."""
CUT_WITHIN_MS = 5000
"""Of the end of an utterance that is too long, in which the quietest place is looked for."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A stretch of audio that was listened to."""

    start_ms: int
    end_ms: int
    probability: float
    """Of a voice in it."""


@dataclass(slots=True)
class Utterance:
    """What is being said, from its first voice on."""

    start_ms: int
    """With what is kept before the first voice."""
    voice_start_ms: int
    frames: list[Frame] = field(default_factory=list)
    voice_ms: int = 0
    voice_end_ms: int = 0
    """Of the last voice."""

    @classmethod
    def of(cls, frames: Sequence[Frame], start_ms: int) -> "Utterance":
        """One whose voice begins in the first of these frames that has one."""
        first = next(frame for frame in frames if frame.probability >= VOICE)
        found = cls(start_ms, first.start_ms, voice_end_ms=first.start_ms)
        for frame in frames:
            found.add(frame)
        return found

    def add(self, frame: Frame) -> None:
        """Listened to the next stretch."""
        goes_on = frame.start_ms <= self.voice_end_ms
        self.frames.append(frame)
        if frame.probability >= (NO_VOICE if goes_on else VOICE):
            self.voice_ms += frame.end_ms - frame.start_ms
            self.voice_end_ms = frame.end_ms

    def quietest(self) -> int:
        """Where to cut it, in ms: within its last seconds, where a voice is least likely for the longest."""
        end_ms = self.frames[-1].end_ms
        candidates = [frame for frame in self.frames if frame.end_ms > end_ms - CUT_WITHIN_MS]

        def noise(at: int) -> float:
            return sum(one.probability for one in candidates[max(0, at - 2) : at + 3])

        latest_first = reversed(range(len(candidates) - 1))
        quietest = min(latest_first, key=noise, default=None)
        return end_ms if quietest is None else candidates[quietest].start_ms

    def rest(self, cut_ms: int) -> "Utterance | None":
        """What goes on behind a cut; None: no voice."""
        frames = [frame for frame in self.frames if frame.start_ms >= cut_ms]
        voiced = any(frame.probability >= VOICE for frame in frames)
        return Utterance.of(frames, cut_ms) if voiced else None


class Beginning:
    """Waits for a voice."""

    def __init__(self) -> None:
        self._run: list[Frame] = []

    def add(self, frame: Frame, not_before_ms: int) -> Utterance | None:
        """Listened to the next stretch; gives the utterance once a voice has lasted long enough."""
        if frame.probability < VOICE:
            self._run.clear()
            return None
        self._run.append(frame)
        start_ms = self._run[0].start_ms
        if frame.end_ms - start_ms < LEAST_RUN_MS:
            return None
        found = Utterance.of(self._run, max(not_before_ms, start_ms - BEFORE_MS))
        self._run.clear()
        return found

    @property
    def since_ms(self) -> int | None:
        """Where a sound begins that may become a voice."""
        return self._run[0].start_ms if self._run else None

    def reset(self) -> None:
        """Begin anew."""
        self._run.clear()
