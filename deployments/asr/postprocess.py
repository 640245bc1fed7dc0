"""From what Whisper says it heard to what we say was said. PURE: times, texts and probabilities in and out."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from deployments.contracts.values import Segment, Word

NO_SPEECH_PROBABILITY = 0.6
NO_SPEECH_LOG_PROBABILITY = -0.5
"""Above the one and below the other Whisper guesses at words in a sound that it takes for no speech."""
NO_SPEECH_COMPRESSION_RATIO = 2.4
MAX_COMPRESSION_RATIO = 4.0
"""Text that compresses better is Whisper repeating itself; real rhetoric was seen to reach 2.2."""
DOUBTFUL_COMPRESSION_RATIO = 2.4
DOUBTFUL_LOG_PROBABILITY = -1.0
"""Above the one or below the other a text is worth a second, more careful look."""


class HeardWord(Protocol):
    """A word of faster-whisper."""

    word: str
    start: float
    """Seconds, like `end`."""
    end: float
    probability: float


class HeardSegment(Protocol):
    """A segment of faster-whisper."""

    text: str
    start: float
    """Seconds, like `end`."""
    end: float
    avg_logprob: float
    """Mean of its tokens' natural logarithms of probability."""
    compression_ratio: float
    no_speech_prob: float

    @property
    def words(self) -> Sequence[HeardWord] | None:
        """None where it was not asked for them."""


def is_no_speech(no_speech_probability: float, log_probability: float) -> bool:
    """Whether a window holds no speech, by what Whisper says of it."""
    return no_speech_probability > NO_SPEECH_PROBABILITY and log_probability <= NO_SPEECH_LOG_PROBABILITY


def is_doubtful(log_probability: float, compression_ratio: float) -> bool:
    """Whether a text may be guesses or a loop."""
    return log_probability < DOUBTFUL_LOG_PROBABILITY or compression_ratio > DOUBTFUL_COMPRESSION_RATIO


def to_segments(heard: Iterable[HeardSegment], duration_ms: int) -> Iterator[Segment]:
    """Ours from Whisper's: without hallucinations, in order, within the fragment of this duration."""
    not_before_ms = 0
    for segment in heard:
        if _is_hallucination(segment):
            continue
        start_ms, end_ms = _span(segment.start, segment.end, not_before_ms, duration_ms)
        words = []
        word_not_before_ms = start_ms
        for word in segment.words or ():
            word_start_ms, word_end_ms = _span(word.start, word.end, word_not_before_ms, end_ms)
            words.append(Word(word.word.strip(), word_start_ms, word_end_ms, _probability(word.probability)))
            word_not_before_ms = word_end_ms
        confidence = _probability(math.exp(segment.avg_logprob))
        yield Segment(segment.text.strip(), start_ms, end_ms, confidence, tuple(words))
        not_before_ms = end_ms


def repeats_itself(segment: HeardSegment) -> bool:
    """Whether a segment is left out for its repetitions though something was said: somebody may have said them."""
    return segment.compression_ratio > MAX_COMPRESSION_RATIO and segment.no_speech_prob <= NO_SPEECH_PROBABILITY


def _is_hallucination(segment: HeardSegment) -> bool:
    no_speech = segment.no_speech_prob > NO_SPEECH_PROBABILITY
    max_compression_ratio = NO_SPEECH_COMPRESSION_RATIO if no_speech else MAX_COMPRESSION_RATIO
    return segment.compression_ratio > max_compression_ratio or not any(map(str.isalnum, segment.text))


def _span(start_s: float, end_s: float, not_before_ms: int, not_after_ms: int) -> tuple[int, int]:
    """Start and end in ms, moved into the bounds."""
    start_ms = min(max(round(start_s * 1000), not_before_ms), not_after_ms)
    return start_ms, min(max(round(end_s * 1000), start_ms), not_after_ms)


def _probability(value: float) -> float:
    return min(max(float(value), 0.0), 1.0)
