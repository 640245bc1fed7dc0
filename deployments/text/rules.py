"""How a language writes and says what is no plain word, from `rules/`; numbers and units are CLDR's. PURE."""

import re
import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from babel import Locale
from babel.numbers import get_decimal_symbol, get_group_symbol


@dataclass(frozen=True, slots=True)
class Rules:
    """One language's. Words are said as they stand; an empty one is not said."""

    language: str
    symbol_after: bool
    """A currency's symbol stands behind the number."""
    day_first: bool
    clock_24: bool
    """Writes 15:30, not 3:30 pm."""
    percent_space: bool
    decimal_word: str
    decimal_digits: bool
    """Says the digits behind the decimal one by one."""
    minus_word: str
    and_cents: str
    millions_link: str
    """Between millions and what is counted."""
    range_word: str
    number_sign: str
    """For `#5`."""
    ordinal: str
    """Pattern of a written ordinal: its number and its ending."""
    months: dict[str, Any]
    clock: dict[str, Any]
    magnitudes: dict[str, str]
    """Letters behind a number, such as 5M."""
    currencies: dict[str, list[str]]
    """By symbol: one, several, a hundredth, several hundredths."""
    fractions: dict[str, str]
    signs: dict[str, str]
    """In addresses and between numbers."""
    letters: dict[str, str]
    """Names of letters where the voice would not say them."""
    abbreviations: dict[str, str]
    written: dict[str, str]
    """Patterns and replacements for what a translator lets through of another language."""
    times_word: str
    """For `3x`."""
    roman_cardinal: list[str]
    """Before roman numbers that are no ordinals."""
    roman_ordinal: str
    """How ordinals of kings and popes are said."""
    years: bool = False
    """Says four digits in pairs."""
    one: list[str] = field(default_factory=list)
    """Alone, before a masculine word, before a feminine one."""
    feminine: list[list[str]] = field(default_factory=list)
    """Endings of masculine number words, and theirs before feminine ones."""
    feminine_endings: list[str] = field(default_factory=list)
    masculine_words: list[str] = field(default_factory=list)
    """Not feminine, whatever they end in."""
    ordinal_feminine: list[str] = field(default_factory=list)
    ordinal_short: list[str] = field(default_factory=list)

    @property
    def decimal(self) -> str:
        """Between a number's whole and its fraction."""
        return get_decimal_symbol(Locale.parse(self.language))

    @property
    def group(self) -> str:
        """Between thousands."""
        return get_group_symbol(Locale.parse(self.language))

    @property
    def number(self) -> str:
        """Pattern of a number as the language writes it: grouped, or plain, with or without a decimal.

        One or two decimals are told from thousands, whatever sign is before them.
        """
        group, decimal = re.escape(self.group + "\u00a0\u202f"), re.escape(self.decimal)
        foreign = rf"\d+{re.escape(self.foreign_decimal)}\d{{1,2}}(?!\d)|" if self.foreign_decimal else ""
        return rf"(?:{foreign}(?:\d{{1,3}}(?:[{group}]\d{{3}})+|\d+)(?:{decimal}\d+)?)"

    @property
    def foreign_decimal(self) -> str:
        """What others write before decimals: a point where this language writes a comma, and the other way round."""
        return {",": ".", ".": ","}.get(self.decimal, "")

    def unified(self, number: str) -> str:
        """A number of `number`, its decimals written as the language does."""
        if self.foreign_decimal and re.fullmatch(rf"\d+{re.escape(self.foreign_decimal)}\d{{1,2}}", number):
            return number.replace(self.foreign_decimal, self.decimal)
        return number


@cache
def rules_of(language: str) -> Rules | None:
    """The rules of a base language; None: there are none."""
    path = files("deployments.text") / "rules" / f"{language}.toml"
    if not language.isalpha() or not path.is_file():
        return None
    return Rules(language=language, **tomllib.loads(path.read_text(encoding="utf-8")))
