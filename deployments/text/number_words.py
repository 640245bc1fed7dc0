"""Numbers in words. PURE."""

import re
from decimal import Decimal

from num2words import num2words

from deployments.text.rules import Rules

_MOST_DIGITS = 15
"""A longer one is no amount: its digits are said."""
_YEARS = range(1100, 2100)
_MILLION = 1_000_000


def cardinal(value: int, rules: Rules) -> str:
    """A whole number in words."""
    words = str(num2words(value, lang=rules.language))
    return re.sub(r"\s+", " ", words.replace(",", " "))


def digits(text: str, rules: Rules) -> str:
    """Each digit in words, one after the other; all else between them is a pause."""
    groups = re.findall(r"\d+", text)
    return ", ".join(" ".join(cardinal(int(digit), rules) for digit in group) for group in groups)


def ordinal(value: int, rules: Rules) -> str:
    """Its place in a row, in words."""
    return str(num2words(value, lang=rules.language, to="ordinal"))


def roman(text: str) -> int:
    """The value of a roman number below 40."""
    values = [{"I": 1, "V": 5, "X": 10}[letter] for letter in text]
    return sum(-v if any(v < later for later in values[n + 1 :]) else v for n, v in enumerate(values))


def year(value: int, rules: Rules) -> str:
    """A year in words."""
    return str(num2words(value, lang=rules.language, to="year"))


def in_words(text: str, rules: Rules) -> str:
    """A number as the language writes it, in words."""
    text = rules.unified(text)
    bare = "".join(filter(str.isdigit, text.partition(rules.decimal)[0]))
    if len(bare) > _MOST_DIGITS or (len(bare) > 1 and bare.startswith("0")):
        return digits(text, rules)
    if rules.years and bare == text and int(text) in _YEARS and int(text) % 1000:
        return year(int(text), rules)
    fraction = text.partition(rules.decimal)[2]
    words = cardinal(int(bare), rules)
    return f"{words} {rules.decimal_word} {_fraction(fraction, rules)}" if fraction else words


def _fraction(text: str, rules: Rules) -> str:
    bare = text.lstrip("0")
    zeros = [cardinal(0, rules)] * (len(text) - len(bare))
    if not bare:
        return " ".join(zeros)
    rest = digits(bare, rules) if rules.decimal_digits or len(bare) > 2 else cardinal(int(bare), rules)  # noqa: PLR2004
    return " ".join([*zeros, rest])


def counted(words: str, value: Decimal, following: str, rules: Rules) -> str:
    """Number words as they stand before the word that they count.

    Args:
        words: the number.
        value: its value.
        following: the word behind it; empty: none.
        rules: of the language.
    """
    if not following or not following[0].isalpha():
        return words
    if rules.millions_link and value >= _MILLION and value % _MILLION == 0:
        return f"{words} {rules.millions_link}"
    if not rules.one:
        return words
    alone, masculine, feminine = rules.one
    is_feminine = following not in rules.masculine_words and following.endswith(tuple(rules.feminine_endings))
    if is_feminine:
        for ending, other in rules.feminine:
            words = words.replace(ending, other)
    if words.endswith(alone):
        words = words[: -len(alone)] + (feminine if is_feminine else masculine)
        words = words.replace("veintiun", "veintiún") if not is_feminine else words
    return words
