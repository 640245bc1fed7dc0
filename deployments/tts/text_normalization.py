"""Text as a voice can say it: what translators let through and no voice should read out is taken away. PURE."""

import unicodedata

from deployments.errors import InvalidText, Stage

_SPOKEN_SYMBOLS = frozenset("°№")
_MARKUP = frozenset("[]{}<>|\\^~_*#`")
"""Engines take some of these as commands (`[[` starts phonemes for espeak-ng) or read out their names."""
_EMOJI_STYLE = frozenset("\ufe0e\ufe0f")


def plain_text(text: str) -> str:
    """The text on one line without emoji, markup and control characters.

    Raises:
        InvalidText: no letter and no digit is left.
    """
    kept = "".join(character if _is_kept(character) else " " for character in unicodedata.normalize("NFC", text))
    line = " ".join(kept.split())
    if not any(character.isalnum() for character in line):
        raise InvalidText(Stage.TTS, f"none of the {len(text)} characters can be spoken")
    return line


def _is_kept(character: str) -> bool:
    if character in _SPOKEN_SYMBOLS:
        return True
    if character in _MARKUP or character in _EMOJI_STYLE:
        return False
    category = unicodedata.category(character)
    return category[0] in "LMNPZ" or category in {"Sc", "Sm"}
