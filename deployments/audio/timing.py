"""How a dub is fitted to its original's duration, and whether it fits. PURE: numbers in, numbers out.

It owns the "Duration" rule of the wire contract; how samples are stretched is not known here.

Protocol: Duration.
"""

from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deployments.errors import DurationMismatch, Stage

Verdict: TypeAlias = Literal["success", "partial"]
MAX_OVERHANG_MS = 1000
"""More of a dub than this is never said in the time of the fragment behind it."""


class FitLimits(BaseModel):
    """What counts as fitting, and how far a voice may be bent to get there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    success_percent: float = Field(default=10.0, ge=0, le=100)
    """The largest variance of a success."""
    partial_percent: float = Field(default=20.0, ge=0, le=100)
    """The largest variance of a partial; above it the dub failed."""
    min_speed: float = Field(default=0.5, gt=0, le=1)
    """The slowest stretch that still sounds like speech."""
    max_speed: float = Field(default=2.0, ge=1, le=4)
    """The fastest stretch that still sounds like speech."""
    natural_speed: float = Field(default=0.8, gt=0, le=1)
    """A dub that is too short is slowed down to this, never drawled: silence fills the rest."""
    comfortable_speed: float = Field(default=1.25, ge=1, le=4)
    """A phrase runs into the pause behind it before it is sped up beyond this."""
    overhang_ms: int = Field(default=400, ge=0, le=MAX_OVERHANG_MS)
    """How far a dub may run over its original's end, into the next one's time, before it is sped up beyond that."""
    match_loudness: bool = True
    """Whether a dub is as loud as its original, in LUFS."""
    room_tone: bool = True
    """Whether the original's room is heard where nobody speaks in a dub: a faint noise in place of digital silence."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.comfortable_speed > self.max_speed:
            raise ValueError(f"comfortable_speed {self.comfortable_speed} exceeds max_speed {self.max_speed}")
        if self.success_percent > self.partial_percent:
            raise ValueError(f"success_percent {self.success_percent} exceeds partial_percent {self.partial_percent}")
        return self

    @property
    def slowest_speed(self) -> float:
        """The limit that binds when a dub is slowed down."""
        return max(self.min_speed, self.natural_speed)


@dataclass(frozen=True, slots=True)
class Fit:
    """How spoken audio becomes as long as its target."""

    speed_ratio: float
    """Spoken over stretched duration: above 1 the voice is sped up."""
    stretched_ms: int
    padding_ms: int
    """Silence after the stretched voice."""

    @property
    def fitted_ms(self) -> int:
        """The dub's duration, padding included."""
        return self.stretched_ms + self.padding_ms


def plan_fit(spoken_ms: int, target_ms: int, limits: FitLimits) -> Fit:
    """The stretch and the padding that bring a dub as near to its target as the limits allow.

    Both durations are above 0. The result is longer than the target where even the highest speed is too slow.
    """
    if spoken_ms <= 0 or target_ms <= 0:
        raise ValueError(f"durations must be positive: spoken {spoken_ms} ms, target {target_ms} ms")
    wanted = spoken_ms / target_ms
    speed = min(max(wanted, limits.slowest_speed), limits.max_speed)
    stretched_ms = target_ms if speed == wanted else max(1, round(spoken_ms / speed))
    return Fit(speed, stretched_ms, max(0, target_ms - stretched_ms))


def variance_percent(original_ms: int, dubbed_ms: int) -> float:
    """|dubbed − original| / original × 100. The original is longer than 0 ms."""
    if original_ms <= 0 or dubbed_ms < 0:
        raise ValueError(f"no variance between an original of {original_ms} ms and a dub of {dubbed_ms} ms")
    return abs(dubbed_ms - original_ms) * 100 / original_ms


def judge(original_ms: int, dubbed_ms: int, limits: FitLimits, *, speed_ratio: float = 1.0) -> Verdict:
    """Whether the dub is a success or partial; further off than that: DurationMismatch.

    Both limits are inclusive. `speed_ratio` is what was done to get there, for the error's details.
    """
    variance = variance_percent(original_ms, dubbed_ms)
    if variance <= limits.success_percent:
        return "success"
    if variance <= limits.partial_percent:
        return "partial"
    raise DurationMismatch(
        Stage.TTS,
        f"the dub lasts {dubbed_ms} ms, the original {original_ms} ms: {variance:.1f} % off, "
        f"at most {limits.partial_percent:g} % are allowed",
        {
            "original_duration_ms": original_ms,
            "dubbed_duration_ms": dubbed_ms,
            "actual_variance_percent": round(variance, 2),
            "speed_ratio": round(speed_ratio, 3),
        },
    )
