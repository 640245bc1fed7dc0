"""Patterns of names: `*` is any text, `?` any one character, all else itself. PURE."""

import re


def matches(name: str, pattern: str) -> bool:
    """Whether the whole name fits, upper and lower case told apart. Many stars cost no more than few."""
    if len(pattern) - pattern.count("*") > len(name):
        return False
    first, *others = (_literally(piece) for piece in pattern.split("*"))
    if not others:
        return re.fullmatch(first, name, re.DOTALL) is not None
    *inner, last = others
    # The leftmost place of a piece leaves the most for those behind it, so none is tried again: that's what (?>) says.
    found = "".join(f"(?>.*?{piece})" for piece in inner if piece)
    return re.fullmatch(f"{first}{found}.*{last}", name, re.DOTALL) is not None


def _literally(piece: str) -> str:
    return "".join("." if sign == "?" else re.escape(sign) for sign in piece)
