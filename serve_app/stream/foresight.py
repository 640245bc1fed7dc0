"""What of one stream will be in time: what is refused, shed or spoken by the faster voice, and what its worker is told.

PURE. `admission` foretells for all streams; this is one stream's use of it.

Protocol: In time or not at all.
"""

import math

from deployments.contracts.values import FASTER_VOICE, Outcome
from deployments.errors import QueueFull, Stage
from serve_app.scheduling.admission import Admission, Passage, StreamAdmission
from serve_app.stream import event_builders
from serve_app.stream.backpressure import SLOW_DOWN, Level
from serve_app.stream.values import Fragment, Rung, StreamSettings, reserve_s
from serve_app.stream.voice_tier import VoiceTier


class Foresight:
    """One stream's. Times are in seconds of one clock.

    Args:
        settings: of the stream.
        admission: the forecast for all streams that load the same models.
    """

    def __init__(self, settings: StreamSettings, admission: Admission) -> None:
        self._settings = settings
        self._stream = StreamAdmission(admission)
        self._tier = VoiceTier()
        self._reserve_s = 0.0

    def degrade(self, rungs: tuple[Rung, ...]) -> None:
        """What a fragment may get instead of coming late, from now on; time is kept for it."""
        self._stream.faster_voice = bool(self._settings.faster_voice) and FASTER_VOICE in rungs
        self._reserve_s = reserve_s(rungs, self._settings.timeout_ms)

    @property
    def _time_s(self) -> float:
        """That the stages have for a fragment, before the faster voice at the latest."""
        return self._settings.timeout_ms / 1000 - self._reserve_s - self._faster_needs_s

    @property
    def _faster_needs_s(self) -> float:
        return self._settings.faster_needs_ms / 1000 if self._stream.faster_voice else 0.0

    def refusal_ms(self, fragment: Fragment, now: float) -> int | None:
        """After how long a fragment that would be late now would be in time; None when it may come in."""
        delay_s = self._stream.refusal(self._seconds(fragment), self._time_s, now)
        return None if delay_s is None else math.ceil(delay_s * 1000)

    def enter(self, fragment: Fragment, now: float) -> Passage:
        """A fragment comes in."""
        return self._stream.enter(self._seconds(fragment), self._time_s, now)

    def begin(self, passage: Passage, stage: Stage, so_far: Outcome, left_s: float, now: float) -> bool:
        """A fragment has come to a stage, with so much of its time left.

        Returns:
            Whether the faster voice is to speak, since the first one would be late, or was lately.

        Raises:
            QueueFull: it can't be done in time any more, so the stage should not begin.
        """
        needed_s = self._stream.reach(passage, stage, so_far, now)
        left_s -= self._reserve_s + self._faster_needs_s
        if stage is Stage.TTS and not (so_far.translation and so_far.translation.text.strip()):
            self._stream.step_aside(passage, now)  # what nobody says waits for no voice
            return False
        if stage is Stage.TTS and self._stream.faster_voice:
            hasten = self._tier.choose(needed_s, left_s, now)
            if hasten:
                self._stream.step_aside(passage, now)
            return hasten
        if needed_s > left_s > 0 and not passage.trial:
            needed_ms, left_ms = round(needed_s * 1000), round(left_s * 1000)
            message = f"about {needed_ms} ms are needed from here and {left_ms} ms are left; nothing was started"
            raise QueueFull(stage, message, {"recommended_delay_ms": max(1, needed_ms - left_ms)})
        return False

    def leave(self, passage: Passage, outcome: Outcome | None, now: float) -> None:
        """A fragment has its outcome; None: nobody wants one any more."""
        self._stream.leave(passage, outcome, now)
        speech = outcome.speech if outcome else None
        if speech is not None and FASTER_VOICE in speech.warnings and not passage.aside:
            self._tier.fall(now)

    def waits(self, now: float) -> tuple[float, float]:
        """Seconds that one more fragment would wait, and that it could wait and still be in time."""
        return self._stream.waits(self._settings.chunk_duration_ms / 1000, self._time_s, now)

    def delay_ms(self, level: Level, by_count: Level, now: float) -> int:
        """How long the worker should wait, at this level; `by_count` is that of their number alone."""
        if level is Level.LOW:
            return 0
        waits_s, affordable_s = self.waits(now)
        over_ms = round((waits_s - SLOW_DOWN * max(0.0, affordable_s)) * 1000)
        return max(0, over_ms, event_builders.delay_ms(self._settings, by_count))

    def _seconds(self, fragment: Fragment) -> float:
        return (fragment.declared_duration_ms or self._settings.chunk_duration_ms) / 1000
