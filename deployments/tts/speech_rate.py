"""How long a voice will take for a text, before it is spoken. PURE.

A synthesis is too expensive to be made twice, so the rate that lands near the target is asked for the first time.
The estimate starts from how long a voice takes for vowels, consonants and pauses; what each voice really took corrects
it.
"""

import re

from deployments.contracts.engines import Line

_VOWELS = frozenset("aeiouyæɑɐɒəɚɛɜɪɔøœʊʌᵻɨʉɯɤɵ")
_START_S, _VOWEL_S, _CONSONANT_S, _PAUSE_S = 0.22, 0.101, 0.073, 0.066
"""A line fitted to 60 sentences, Spanish and English, spoken by Kokoro's jm_kumo at rates of .7 to 1.45. Its error
has a standard deviation of 8 %; the four other voices that were measured are up to 30 % slower all through, or 17 %
faster."""
_PAUSE = re.compile(r"[.,!?;:…—](?=\s)")

_LEARNING = 0.3
"""How much the latest text counts when a voice's pace is corrected."""
_SLOWEST, _FASTEST = 0.4, 2.5


_COMFORTABLE = 1.25
"""Speech that must be faster than this takes the original's pauses too, before it gets faster."""


_CALMER = 0.88
"""Of the rate that would just fill the original's speech. Phrases run into the pauses behind them, and what was asked
for too fast would be slowed down again, with the sounds missing that hurried speech swallows: Whisper misheard 11.6 %
of 640 words at 1, and 10.3 % at this, with the same overlap."""


def wanted_rate(natural_ms: float, line: Line) -> float:
    """The rate at which a text fills the time that its original speaks, or a little more of it.

    Where that would be hurried, it is the rate at which it fills all of the time that it may be heard, or a comfortable
    one if that is enough.
    """
    if line.rate is not None:
        return line.rate
    in_speech = _CALMER * natural_ms / line.speech_ms if line.speech_ms else natural_ms / line.target_duration_ms
    return max(min(in_speech, _COMFORTABLE), natural_ms / (line.room_ms or line.target_duration_ms))


def estimate_s(phonemes: str) -> float:
    """Seconds that an average voice takes for IPA phonemes, natural rate, without silence around them."""
    vowels = sum(character in _VOWELS for character in phonemes)
    letters = sum(character.isalpha() and character not in "ˈˌː" for character in phonemes)
    pauses = len(_PAUSE.findall(phonemes))
    return _START_S + vowels * _VOWEL_S + (letters - vowels) * _CONSONANT_S + pauses * _PAUSE_S


class SpeechRate:
    """What one voice's durations are, compared to the estimate."""

    def __init__(self) -> None:
        self._factor = 1.0

    def natural_s(self, phonemes: str) -> float:
        """Seconds that this voice will take at its natural rate."""
        return estimate_s(phonemes) * self._factor

    def learn(self, phonemes: str, spoken_s: float, rate: float) -> None:
        """Correct the pace by what was spoken: its seconds, and the rate that had been asked for."""
        seen = min(max(spoken_s * rate / estimate_s(phonemes), _SLOWEST), _FASTEST)
        self._factor += _LEARNING * (seen - self._factor)
