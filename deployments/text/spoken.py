"""What is written in a language, as it is said: no digit, sign or abbreviation is left for a voice to guess at. PURE.

A voice that meets `1.500 $` says what its own rules make of it, often in another language's way. Here it becomes words.
"""

import re
from collections.abc import Callable
from decimal import Decimal
from functools import cache

from deployments.text import number_words, numbers
from deployments.text.rules import Rules, rules_of
from deployments.text.units import UNITS, measured

_WORDS = r"[^\W\d_]"
_MOST_ORDINAL = 1000
_MOST_ROMAN_ORDINAL = 10
_CLOCK_HALF = 12


def in_words(text: str, language: str) -> str:
    """A text as it is said.

    Args:
        text: as the language writes it.
        language: base language; where there are no rules for it, the text stays as it is.
    """
    rules = rules_of(language)
    if rules is None:
        return text
    said = _pattern(language).sub(lambda match: _said(match, rules), text)
    return re.sub(r"[ \t]{2,}", " ", said)


@cache
def _pattern(language: str) -> re.Pattern[str]:
    rules = rules_of(language)
    assert rules is not None  # noqa: S101  # nosec B101 - looked at by the caller
    number, symbols = rules.number, "".join(map(re.escape, rules.currencies))
    magnitude = "|".join(rules.magnitudes)
    words = r"\s(?:mil\s)?(?:mill|bill|trill)\w+(?:\s(?:de|of)(?=\s?\W))?"
    longest_first = sorted(rules.abbreviations, key=len, reverse=True)
    abbreviations = "|".join(re.escape(one) + (r"(?!\w)" if one[-1].isalnum() else "") for one in longest_first)
    units = "|".join(map(re.escape, sorted(UNITS, key=len, reverse=True)))
    fractions = "|".join(map(re.escape, rules.fractions))
    before = r"(?<![\w.,:/])"
    return re.compile(
        rf"""
        (?P<address>(?:https?://|www\.)[^\s,;]*[\w/]|[\w.+-]+@[\w-]+(?:\.[\w-]+)+)
        |(?P<abbreviation>(?<!\w)(?:{abbreviations}))
        |(?P<dotted>(?<![\w.])(?:[A-Z]\.){{2,}})
        |(?P<iso>{before}\d{{4}}-\d{{2}}-\d{{2}}(?!\w))
        |(?P<date>{before}\d{{1,2}}/\d{{1,2}}/\d{{4}}(?![\w/]))
        |(?P<time>{before}(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)(?:\s?(?P<half>[ap])\.?\s?m\b\.?)?(?:\s?h\b)?(?![\w:]))
        |(?P<full>{before}(?P<full_hour>1[0-2]|0?[1-9])\s?(?P<full_half>[ap])\.?\s?m\b\.?)
        |(?P<phone>(?<![\w.])\+\d[\d ()-]{{6,}}\d(?!\w)
          |{before}\(?\d{{3}}\)?[ -]\d{{3}}-\d{{4}}(?!\w)|{before}\d{{3}}-\d{{4}}(?![\w-]))
        |(?P<money>(?P<minus>[-−])?(?:(?P<symbol>[{symbols}])\s?(?P<amount>{number})(?P<magnitude>(?:{magnitude})\b|{words})?
          |{before}(?P<amount_before>{number})(?P<magnitude_before>\s?(?:{magnitude})\b|{words})?\s?(?P<symbol_after>[{symbols}])))
        |(?P<height>{before}\d+[′']\s?\d+(?:″|''|"))
        |(?P<unit>(?P<unit_minus>(?<![\w)])[-−])?{before}(?P<measure>{number})\s?(?P<name>{units})(?![\w²³]))
        |(?P<fraction>{before}(?:{fractions})(?![\w/]))
        |(?P<ordinal>{before}{rules.ordinal.replace("(", "(?:", 1).replace("(st", "(?:st").replace("(º", "(?:º")})
        |(?P<dots>{before}(?!{number}(?![.,]?\d))\d+(?:\.\d+){{2,}}(?![\w.]*\d))
        |(?P<decade>{before}\d{{3}}0s(?!\w))
        |(?P<roman>(?<!\w)(?=[IVX]{{2}})X{{0,3}}(?:IX|IV|V?I{{0,3}})(?!\w))
        |(?P<times>{before}{number}\s?[x×](?!\w))
        |(?P<range>{before}\d+\s?[-–]\s?\d+(?![\w.,/-]*\d))
        |(?P<hash>\#\d+)
        |(?P<letters_big>{before}(?P<big_number>{number})(?P<big>{magnitude})(?!\w))
        |(?P<number>(?P<number_minus>(?<![\w)])[-−])?{before}(?P<plain>{number})(?=(?P<following>\s{_WORDS}+)?))
        |(?P<acronym>(?<!\w)[A-ZÑ]{{2,5}}(?!\w))
        |(?P<sign>(?<=\s)[&+=](?=\s))
        """,
        re.VERBOSE,
    )


def _said(match: re.Match[str], rules: Rules) -> str:
    kind = next(name for name in _SAID if match.group(name) is not None)
    return _SAID[kind](match, rules)


def _address(match: re.Match[str], rules: Rules) -> str:
    text = re.sub(r"^https?://", "", match.group())
    return " ".join(rules.signs.get(part, part) for part in re.findall(r"[^\W_]+|[^\w\s]|_", text))


def _abbreviation(match: re.Match[str], rules: Rules) -> str:
    written = match.group()
    words = rules.abbreviations[written]
    ends = written.endswith(".") and re.match(r"\s*$|\s+[A-ZÁÉÍÓÚÑ¿¡]", match.string[match.end() :])
    sentence = ends and written in {"etc.", "EE. UU.", "EE.UU.", "U.S.", "U.K.", "p.m.", "a.m.", "U.S.A."}
    return words + ("." if sentence else "")


def _dotted(match: re.Match[str], rules: Rules) -> str:
    return _letters(match.group().replace(".", ""), rules)


def _letters(text: str, rules: Rules) -> str:
    return " ".join(rules.letters.get(letter, letter) for letter in text)


def _iso(match: re.Match[str], rules: Rules) -> str:
    year, month, day = map(int, match.group().split("-"))
    return _day(day, month, year, rules) or match.group()


def _date(match: re.Match[str], rules: Rules) -> str:
    first, second, year = map(int, match.group().split("/"))
    day, month = (first, second) if rules.day_first else (second, first)
    return _day(day, month, year, rules) or number_words.digits(match.group(), rules)


def _day(day: int, month: int, year: int, rules: Rules) -> str:
    if not (1 <= month <= 12 and 1 <= day <= 31):  # noqa: PLR2004 - a calendar's
        return ""
    ordinal = _ordinal_words(day, rules) if "{ordinal}" in rules.months["pattern"] else ""
    return str(
        rules.months["pattern"].format(
            day=number_words.cardinal(day, rules),
            ordinal=ordinal,
            month=rules.months["names"][month - 1],
            year=number_words.year(year, rules),
        )
    )


def _time(match: re.Match[str], rules: Rules) -> str:
    return _clock(int(match["hour"]), match["minute"], match["half"], rules)


def _full(match: re.Match[str], rules: Rules) -> str:
    return _clock(int(match["full_hour"]), "00", match["full_half"], rules)


def _clock(hour: int, minute: str, half: str | None, rules: Rules) -> str:
    words = number_words.cardinal(hour, rules)
    if rules.clock.get("feminine_hours") and rules.one:
        words = re.sub(f"{rules.one[0]}$", rules.one[2], words)
    suffix = f" {rules.clock['am' if half == 'a' else 'pm']}" if half else ""
    if minute == "00":
        name = "o_clock" if hour <= _CLOCK_HALF else "o_clock_24"
        return words + suffix if half else str(rules.clock[name].format(hour=words))
    if minute in rules.clock.get("halves", {}) and hour <= _CLOCK_HALF:
        return f"{words} {rules.clock['halves'][minute]}{suffix}"
    said = number_words.cardinal(int(minute), rules)
    if minute.startswith("0") and "zero_minute" in rules.clock:
        said = f"{rules.clock['zero_minute']} {said}"
    return str(rules.clock["pattern"].format(hour=words, minute=said)) + suffix


def _phone(match: re.Match[str], rules: Rules) -> str:
    plus = f"{rules.signs['+']} " if match.group().startswith("+") else ""
    return plus + number_words.digits(match.group(), rules)


def _money(match: re.Match[str], rules: Rules) -> str:
    one, several, cent, cents = rules.currencies[match["symbol"] or match["symbol_after"]]
    text = match["amount"] or match["amount_before"]
    magnitude = (match["magnitude"] or match["magnitude_before"] or "").strip().removesuffix(" de").removesuffix(" of")
    minus = f"{rules.minus_word} " if match["minus"] else ""
    value = numbers.parsed(text, rules)
    if magnitude:
        link = f" {rules.millions_link}" if rules.millions_link and magnitude != rules.magnitudes["K"] else ""
        return (
            f"{minus}{number_words.in_words(text, rules)} {rules.magnitudes.get(magnitude, magnitude)}{link} {several}"
        )
    whole, hundredths = int(value), int(value * 100) % 100
    exact = value * 100 == int(value * 100)
    if not exact or (hundredths and not cent):
        return f"{minus}{number_words.in_words(text, rules)} {several}"
    parts = []
    if whole or not hundredths:
        parts.append(_count(whole, one, several, rules))
    if hundredths:
        parts.append(_count(hundredths, cent, cents, rules))
    return minus + f" {rules.and_cents} ".join(parts)


def _count(value: int, one: str, several: str, rules: Rules) -> str:
    name = one if value == 1 else several
    return f"{number_words.counted(number_words.cardinal(value, rules), Decimal(value), name, rules)} {name}"


def _height(match: re.Match[str], rules: Rules) -> str:
    feet, inches = re.findall(r"\d+", match.group())
    return f"{measured(feet, '′', rules)} {measured(inches, '″', rules)}"


def _unit(match: re.Match[str], rules: Rules) -> str:
    minus = f"{rules.minus_word} " if match["unit_minus"] else ""
    return minus + measured(match["measure"], match["name"], rules)


def _fraction(match: re.Match[str], rules: Rules) -> str:
    return rules.fractions[match.group()]


def _ordinal(match: re.Match[str], rules: Rules) -> str:
    value = re.match(r"\d+", match.group())
    assert value is not None  # noqa: S101  # nosec B101 - by the pattern
    words = _ordinal_words(int(value.group()), rules)
    if match.group().endswith(tuple(rules.ordinal_feminine)) and rules.ordinal_feminine:
        return re.sub(r"o\b", "a", words)
    if match.group().endswith(tuple(rules.ordinal_short)) and rules.ordinal_short:
        return re.sub(r"(prim|terc)ero$", r"\1er", words)
    return words


def _ordinal_words(value: int, rules: Rules) -> str:
    return number_words.cardinal(value, rules) if value > _MOST_ORDINAL else number_words.ordinal(value, rules)


def _decade(match: re.Match[str], rules: Rules) -> str:
    words = number_words.year(int(match.group()[:-1]), rules)
    return re.sub("y$", "ie", words) + "s" if rules.years else words


def _roman(match: re.Match[str], rules: Rules) -> str:
    """After a name it is an ordinal; after a chapter, a war or a century it is none."""
    value = number_words.roman(match.group())
    before = re.search(r"(\w+)\s$", match.string[: match.start()])
    is_name = before is not None and before[1][0].isupper() and before[1].lower() not in rules.roman_cardinal
    if is_name and value <= _MOST_ROMAN_ORDINAL:
        return rules.roman_ordinal.format(ordinal=number_words.ordinal(value, rules))
    return number_words.cardinal(value, rules)


def _times(match: re.Match[str], rules: Rules) -> str:
    number = match.group().rstrip("x×").strip()
    return f"{number_words.in_words(number, rules)} {rules.times_word}"


def _dots(match: re.Match[str], rules: Rules) -> str:
    return f" {rules.signs['.']} ".join(number_words.cardinal(int(part), rules) for part in match.group().split("."))


def _range(match: re.Match[str], rules: Rules) -> str:
    first, last = re.findall(r"\d+", match.group())
    return f"{number_words.in_words(first, rules)} {rules.range_word} {number_words.in_words(last, rules)}"


def _hash(match: re.Match[str], rules: Rules) -> str:
    return f"{rules.number_sign} {number_words.in_words(match.group()[1:], rules)}"


def _big(match: re.Match[str], rules: Rules) -> str:
    return f"{number_words.in_words(match['big_number'], rules)} {rules.magnitudes[match['big']]}"


def _number(match: re.Match[str], rules: Rules) -> str:
    text = match["plain"]
    minus = f"{rules.minus_word} " if match["number_minus"] else ""
    following = (match["following"] or "").strip()
    words = number_words.in_words(text, rules)
    if rules.decimal not in text:
        words = number_words.counted(words, numbers.parsed(text, rules), following, rules)
    apart = " " if match.string[match.end() : match.end() + 1].isalpha() else ""
    return minus + words + apart


def _acronym(match: re.Match[str], rules: Rules) -> str:
    """Letter by letter what can't be said as a word; a text all in capitals is no row of acronyms."""
    text = match.group()
    if not re.search(r"[a-záéíóúñ]", match.string) or re.search("[AEIOU]", text):
        return text
    return _letters(text, rules)


def _sign(match: re.Match[str], rules: Rules) -> str:
    return rules.signs[match.group()]


_SAID: dict[str, Callable[[re.Match[str], Rules], str]] = {
    "address": _address,
    "abbreviation": _abbreviation,
    "dotted": _dotted,
    "iso": _iso,
    "date": _date,
    "time": _time,
    "full": _full,
    "phone": _phone,
    "money": _money,
    "height": _height,
    "unit": _unit,
    "fraction": _fraction,
    "ordinal": _ordinal,
    "dots": _dots,
    "decade": _decade,
    "roman": _roman,
    "times": _times,
    "range": _range,
    "hash": _hash,
    "letters_big": _big,
    "number": _number,
    "acronym": _acronym,
    "sign": _sign,
}
