"""What is heard, and how far hearing it has come: values between the engine and Whisper. It loads no library."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deployments.contracts.engines import Samples

if TYPE_CHECKING:
    from faster_whisper.tokenizer import Tokenizer
    from faster_whisper.transcribe import Segment

FULL_WINDOW_FRAMES = 3000
"""30 s of mel frames, 10 ms each: what Whisper was made for."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A fragment to hear."""

    samples: Samples
    """float32 (n_samples,), n_samples > 0, mono, 16 000 Hz."""
    language: str
    hints: str
    """Words to expect, or an empty string."""
    max_new_tokens: int
    """A window's text may have so many; more is a loop."""


@dataclass(slots=True)
class Hearing:
    """What has been heard of a clip so far."""

    clip: Clip
    tokenizer: "Tokenizer"
    prompt: list[int]
    features: Samples
    """float32 (n_mels, n_frames) of what the gate let through."""
    speech_chunks: list[dict[str, int]] = field(default_factory=list)
    """Where that lay in the clip, in samples; empty: it is the clip."""
    seek: int = 0
    """The frame at which the next window begins."""
    last_speech_s: float = 0.0
    segments: "list[Segment]" = field(default_factory=list)
    doubtful: bool = False
    """What was heard may be guesses or a loop; hearing stopped there."""

    @property
    def n_frames(self) -> int:
        """Of content; the last frame of `features` is padding."""
        return max(int(self.features.shape[-1]) - 1, 0)

    @property
    def window_frames(self) -> int:
        """Content of the next window."""
        return min(self.n_frames - self.seek, FULL_WINDOW_FRAMES)


@dataclass(slots=True)
class Passage:
    """One window of one hearing, decoded."""

    hearing: Hearing
    segments: list[dict[str, Any]]
    """As faster-whisper has them: seek, start, end, tokens, and later words."""
    start_frame: int
    n_frames: int
    ends_in_silence: bool
    log_probability: float
    compression_ratio: float
    no_speech_probability: float


@dataclass(frozen=True, slots=True)
class Aligned:
    """The words of one text with their times: what aligning it gave."""

    words: list[dict[str, Any]]
