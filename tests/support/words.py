"""How much of what was said was heard, whatever its punctuation."""

from collections.abc import Sequence

import jiwer

NORMALISE = jiwer.Compose(
    [
        jiwer.ToLowerCase(),
        jiwer.SubstituteRegexes({r"\bmr\b": "mister", r"-": " "}),
        jiwer.RemovePunctuation(),
        jiwer.RemoveMultipleSpaces(),
        jiwer.Strip(),
        jiwer.ReduceToListOfListOfWords(),
    ]
)


def word_error_rate(said: Sequence[str], heard: Sequence[str]) -> float:
    """Of all texts together: wrong, missing and invented words over those that were said."""
    return float(jiwer.wer(list(said), list(heard), reference_transform=NORMALISE, hypothesis_transform=NORMALISE))
