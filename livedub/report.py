"""What a dubbed file's run came to, in numbers. PURE."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from livedub.fragment import FragmentResult

FASTER_VOICE = "faster_voice"
"""The protocol's warning."""
_STAGES = ("asr", "translation", "tts")


@dataclass(slots=True)
class Tally:
    """Numbers of a run while it goes on: a few floats a fragment."""

    statuses: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    retried: int = 0
    latencies_ms: list[int] = field(default_factory=list)
    stages_ms: dict[str, list[int]] = field(default_factory=lambda: {stage: [] for stage in _STAGES})
    queues_ms: list[int] = field(default_factory=list)
    faster_voice: int = 0
    variances_percent: list[float] = field(default_factory=list)
    audio_ms: int = 0
    speech_ms: int = 0
    dubbed_ms: int = 0
    """Of fragments that a model speaks in."""
    voice_models: Counter[str] = field(default_factory=Counter)
    """Fragments by the model that speaks in them."""
    not_to_be_sold: set[str] = field(default_factory=set)
    """Those of these models whose licence forbids it."""

    def add(self, result: FragmentResult, duration_ms: int) -> None:
        """Count a result."""
        self.statuses[result.status] += 1
        self.retried += result.attempts > 1
        self.latencies_ms.append(result.latency_ms)
        self.audio_ms += duration_ms
        if result.failure is not None:
            self.codes[result.failure.code] += 1
        processed = result.processed
        if processed is None:
            return
        if processed.metadata.synthetic_voice and result.failure is None:
            model = processed.metadata.tts_model or "unknown"
            self.voice_models[model] += 1
            self.dubbed_ms += duration_ms
            if processed.metadata.may_be_sold is False:
                self.not_to_be_sold.add(model)
        self.faster_voice += FASTER_VOICE in (processed.warnings or ())
        timings = processed.stage_timings
        for stage, ms in zip(_STAGES, (timings.asr_ms, timings.translation_ms, timings.tts_ms), strict=True):
            self.stages_ms[stage].append(ms)
        spent_ms = timings.asr_ms + timings.translation_ms + timings.tts_ms
        self.queues_ms.append(max(0, processed.processing_time_ms - spent_ms))
        variance = processed.metadata.duration_variance_percent
        if result.status != "failed" and variance is not None:
            self.variances_percent.append(variance)
        if processed.assets.transcript is not None:
            self.speech_ms += sum(s.end_ms - s.start_ms for s in processed.assets.transcript.segments)

    def summary(
        self, wall_s: float, sent_ms: int, reconnects: int, fill: str, cues_too_fast: int, files: list[str]
    ) -> "Summary":
        """The numbers to show.

        Args:
            wall_s: that this run took.
            sent_ms: audio that it sent: less than all where another run was gone on with.
            reconnects: of this run.
            fill: what stands where a fragment failed.
            cues_too_fast: subtitles that nobody can read in their time.
            files: that were written.
        """
        return Summary(
            fragments=sum(self.statuses.values()),
            success=self.statuses["success"],
            partial=self.statuses["partial"],
            failed=self.statuses["failed"],
            faster_voice=self.faster_voice,
            retried=self.retried,
            reconnects=reconnects,
            errors_by_code=dict(self.codes),
            latency_p50_ms=percentile(self.latencies_ms, 50),
            latency_p95_ms=percentile(self.latencies_ms, 95),
            asr_p50_ms=percentile(self.stages_ms["asr"], 50),
            translation_p50_ms=percentile(self.stages_ms["translation"], 50),
            tts_p50_ms=percentile(self.stages_ms["tts"], 50),
            queue_p50_ms=percentile(self.queues_ms, 50),
            variance_p50_percent=round(median(self.variances_percent), 2) if self.variances_percent else None,
            variance_max_percent=round(max(self.variances_percent), 2) if self.variances_percent else None,
            speech_coverage_percent=round(100 * self.speech_ms / self.audio_ms, 1) if self.audio_ms else None,
            audio_s=round(self.audio_ms / 1000, 3),
            wall_s=round(wall_s, 3),
            real_time_factor=round(wall_s * 1000 / sent_ms, 3) if sent_ms else None,
            fill=fill,
            dubbed_s=round(self.dubbed_ms / 1000, 3),
            voice_models=dict(self.voice_models),
            not_to_be_sold=sorted(self.not_to_be_sold),
            cues_too_fast=cues_too_fast,
            files=files,
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """A run in numbers. None: nothing to measure it by."""

    fragments: int
    success: int
    partial: int
    failed: int
    faster_voice: int
    """Dubs by the faster voice, since the first one would have been late."""
    retried: int
    reconnects: int
    errors_by_code: dict[str, int]
    latency_p50_ms: int | None
    """From first send to final result."""
    latency_p95_ms: int | None
    asr_p50_ms: int | None
    translation_p50_ms: int | None
    tts_p50_ms: int | None
    queue_p50_ms: int | None
    """Processing time that no stage accounts for."""
    variance_p50_percent: float | None
    variance_max_percent: float | None
    speech_coverage_percent: float | None
    """Recognised speech over all audio."""
    audio_s: float
    wall_s: float
    real_time_factor: float | None
    """Wall time over audio that was sent in it: below 1 is faster than real time."""
    fill: str
    """What stands where a fragment failed, and where nobody speaks."""
    dubbed_s: float
    """Audio in which a model speaks; nothing of the original is heard there."""
    voice_models: dict[str, int]
    """Fragments by the model that speaks in them."""
    not_to_be_sold: list[str]
    """Those of these models whose licence forbids that their speech is sold."""
    cues_too_fast: int
    """Subtitles of more than 20 characters a second, since the speech is as fast."""
    files: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """Label and value of each line of the table."""
        codes = ", ".join(f"{code} {count}" for code, count in sorted(self.errors_by_code.items()))
        filled = f" ({codes}; {self.fill} put in their place)" if self.failed else ""
        return [
            ("fragments", str(self.fragments)),
            ("success / partial", f"{self.success} / {self.partial}"),
            ("failed", f"{self.failed}{filled}"),
            *([("by the faster voice", str(self.faster_voice))] if self.faster_voice else []),
            ("retried / reconnects", f"{self.retried} / {self.reconnects}"),
            ("latency p50 / p95", f"{_ms(self.latency_p50_ms)} / {_ms(self.latency_p95_ms)}"),
            ("ASR p50", _ms(self.asr_p50_ms)),
            ("translation p50", _ms(self.translation_p50_ms)),
            ("TTS p50", _ms(self.tts_p50_ms)),
            ("queue p50", _ms(self.queue_p50_ms)),
            ("duration variance p50", _percent(self.variance_p50_percent)),
            ("duration variance max", _percent(self.variance_max_percent)),
            ("speech coverage", _percent(self.speech_coverage_percent)),
            ("dubbed", f"{self.dubbed_s:.1f} s, without the music and effects under the speech"),
            (f"{self.fill} kept" if self.fill == "original" else self.fill, f"{self.audio_s - self.dubbed_s:.1f} s"),
            ("synthetic voices", self._voices()),
            ("audio / wall", f"{self.audio_s:.1f} s / {self.wall_s:.1f} s"),
            ("real-time factor", "–" if self.real_time_factor is None else f"{self.real_time_factor:.2f}"),
            *([("subtitles too fast to read", str(self.cues_too_fast))] if self.cues_too_fast else []),
            *(("written", file) for file in self.files),
        ]

    def _voices(self) -> str:
        told = (f"{m} {n}{' (not to be sold)' * (m in self.not_to_be_sold)}" for m, n in self.voice_models.items())
        return ", ".join(told) or "none"


def percentile(values: list[int], percent: int) -> int | None:
    """The smallest value that `percent` of the values don't exceed; None without values."""
    if not values:
        return None
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


def _ms(value: int | None) -> str:
    return "–" if value is None else f"{value} ms"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} %"
