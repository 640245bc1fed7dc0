"""Text cut into pieces that a model takes in one go. PURE.

A cut is made where a speaker would pause: after a sentence, else after a clause, else between words, and only inside a
word where nothing else is left.
"""

import re

_CUTS = (
    re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])\s*"),
    re.compile(r"(?<=[,;:—])\s+|(?<=[、，；：])\s*"),
    re.compile(r"\s+"),
)
"""Places to cut at, the best first."""


def pieces(text: str, max_chars: int) -> list[str]:
    """The text in order, as few pieces of at most `max_chars` characters as its pauses allow.

    Whole sentences stay together where they fit: voices sound odd on very short texts.
    """
    if max_chars < 1:
        raise ValueError(f"max_chars is {max_chars}, it must be positive")
    return _cut(text.strip(), max_chars, _CUTS)


def halves(text: str) -> list[str]:
    """The text as two or more shorter pieces; one character: itself."""
    return pieces(text, max(1, (len(text) + 1) // 2))


def _cut(text: str, max_chars: int, cuts: tuple[re.Pattern[str], ...]) -> list[str]:
    if len(text) <= max_chars:
        return [text] if text else []
    if not cuts:
        return [text[start : start + max_chars] for start in range(0, len(text), max_chars)]
    packed: list[str] = []
    for part in (part for part in cuts[0].split(text) if part):
        joined = f"{packed[-1]} {part}" if packed else part
        if len(joined) <= max_chars:
            packed[-1:] = [joined]
        else:
            packed.extend(_cut(part, max_chars, cuts[1:]))
    return packed
