"""Which words of an utterance that is still being said are certain: those that two hypotheses in a row agree on. PURE.

LocalAgreement-2 over words without case and punctuation, since a comma that comes and goes says nothing about a word.
What is committed stays, whatever a later hypothesis says of it.
"""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

_TOKEN = re.compile(r"\s*(?:[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]|[^\s\u3040-\u30ff\u3400-\u9fff]+)")
"""A word with the space before it; where words are not parted by spaces, a character."""
_LOOP_WORDS, _LOOP_TIMES = 4, 3
"""A phrase of up to so many words that comes so often in a row is the model's invention."""


class Agreement:
    """The words of one utterance."""

    def __init__(self) -> None:
        self._committed: list[str] = []
        self._tentative: list[str] = []

    @property
    def committed(self) -> str:
        """Certain, with its spaces."""
        return "".join(self._committed)

    @property
    def tentative(self) -> str:
        """What the last hypothesis says after that."""
        return "".join(self._tentative)

    def take(self, text: str) -> int:
        """A new hypothesis of the whole utterance. Returns how many words that were shown have changed."""
        tokens = _without_loop(_TOKEN.findall(text))
        fresh = tokens[_covered(self._committed, tokens) :]
        agreed = _common(self._tentative, fresh)
        revised = len(self._tentative) - agreed if self._tentative else 0
        self._committed += fresh[:agreed]
        self._tentative = fresh[agreed:]
        return revised


def _plain(token: str) -> str:
    return "".join(character for character in token.casefold() if character.isalnum())


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Words at the beginning that are the same in both."""
    count = 0
    for one, other in zip(first, second, strict=False):
        if _plain(one) != _plain(other):
            break
        count += 1
    return count


def _covered(committed: Sequence[str], tokens: Sequence[str]) -> int:
    """How many words of a hypothesis say what is committed already."""
    said, heard = [_plain(token) for token in committed], [_plain(token) for token in tokens]
    if heard[: len(said)] == said:
        return len(said)
    *matched, _ = SequenceMatcher(None, said, heard, autojunk=False).get_matching_blocks()
    if not matched:
        return min(len(said), len(heard))
    last = matched[-1]
    return min(len(heard), last.b + last.size + len(said) - last.a - last.size)


def _without_loop(tokens: list[str]) -> list[str]:
    """The words up to the first time of a phrase that is repeated at the end."""
    plain = [_plain(token) for token in tokens]
    for size in range(1, _LOOP_WORDS + 1):
        phrase, times = plain[-size:], 1
        while times * size < len(plain) and plain[-size * (times + 1) : -size * times] == phrase:
            times += 1
        if times >= _LOOP_TIMES:
            return tokens[: len(tokens) - size * (times - 1)]
    return tokens
