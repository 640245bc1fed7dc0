"""What is written as one language writes it, as another does: for captions, and before a voice says it. PURE.

Translators by rules let numbers through as they are, where 1,500 is a thousand and a half to one reader and one and a
half to the next.
"""

import re
from functools import cache

from deployments.text import numbers
from deployments.text.rules import Rules, rules_of

_YEAR_DIGITS = 4


def localised(text: str, source: str, target: str) -> str:
    """A translation with numbers, money, times and dates as the target language writes them.

    Args:
        text: translated, but for these.
        source: base language that they are written in.
        target: base language to write them in; where there are no rules for either, the text stays as it is.
    """
    rules, target_rules = rules_of(source), rules_of(target)
    if rules is None or target_rules is None or source == target:
        return text
    for pattern, replacement in target_rules.written.items():
        text = re.sub(pattern, replacement, text)
    return _pattern(source).sub(lambda match: _localised(match, rules, target_rules), text)


@cache
def _pattern(source: str) -> re.Pattern[str]:
    rules = rules_of(source)
    assert rules is not None  # noqa: S101  # nosec B101 - looked at by the caller
    number, symbols = rules.number, "".join(map(re.escape, rules.currencies))
    magnitude, words = "|".join(rules.magnitudes), r"\s(?:mil\s)?(?:mill|bill|trill)\w+"
    return re.compile(
        rf"""
        (?P<address>(?:https?://|www\.)\S+|\S+@\S+\.\w+|(?!{number}(?![.,]?\d))\d+(?:\.\d+){{2,}})
        |(?P<date>(?<![\w/])\d{{1,2}}/\d{{1,2}}/(?:\d{{4}}|\d{{2}})(?![\w/]))
        |(?P<time>(?<![\w:])(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)(?:\s?(?P<half>[ap]\.?\s?m\b\.?))?(?![\w:]))
        |(?P<full>(?<![\w:])(?P<full_hour>1[0-2]|0?[1-9])\s?(?P<full_half>[ap]\.?\s?m\b\.?))
        |(?P<money>(?P<sign>[-−])?(?P<symbol>[{symbols}])\s?(?P<amount>{number})(?P<magnitude>(?:{magnitude})\b)?
          (?P<word>{words})?)
        |(?P<money_after>(?P<amount_before>(?<![\w.,]){number})(?P<word_before>{words})?\s?(?P<symbol_after>[{symbols}]))
        |(?P<percent>(?<![\w.,]){number})\s?%
        |(?P<unit>(?<![\w.,]){number})(?P<letters>(?:{magnitude})\b|[a-zA-Zµ°]+(?:/[a-z]+)?[²³]?)(?!\w)
        |(?P<number>(?<![\w.,/:-]){number}(?![\w/:]|-\w))
        """,
        re.VERBOSE,
    )


def _localised(match: re.Match[str], rules: Rules, target: Rules) -> str:
    found = match.groupdict()
    if found["address"]:
        return match.group()
    if found["date"]:
        return _date(found["date"], rules, target)
    if found["time"]:
        return _time(int(found["hour"]), found["minute"], found["half"], target)
    if found["full"]:
        return _time(int(found["full_hour"]), "00", found["full_half"], target)
    if found["money"] or found["money_after"]:
        return _money(found, rules, target)
    if found["percent"]:
        return _number(found["percent"], rules, target) + (" %" if target.percent_space else "%")
    if found["unit"]:
        magnitude = target.magnitudes.get(found["letters"]) if found["letters"] in rules.magnitudes else None
        return f"{_number(found['unit'], rules, target)} {magnitude or found['letters']}"
    return _number(found["number"], rules, target)


def _number(text: str, rules: Rules, target: Rules) -> str:
    """The number; one that is not grouped stays so, as a year does."""
    if text.isdecimal() and text.startswith("0"):
        return text
    return numbers.formatted(numbers.parsed(text, rules), target, grouped=not text.isdecimal())


def _money(found: dict[str, str | None], rules: Rules, target: Rules) -> str:
    symbol = found["symbol"] or found["symbol_after"] or ""
    amount = _number(found["amount"] or found["amount_before"] or "", rules, target)
    if found["amount"] and found["amount"].isdecimal() and len(found["amount"]) >= _YEAR_DIGITS:
        amount = numbers.formatted(numbers.parsed(found["amount"], rules), target)
    magnitude = found["word"] or found["word_before"] or ""
    if found["magnitude"]:
        magnitude = " " + target.magnitudes[found["magnitude"]]
    sign = found["sign"] or ""
    return f"{sign}{amount}{magnitude} {symbol}" if target.symbol_after else f"{sign}{symbol}{amount}{magnitude}"


def _time(hour: int, minute: str, half: str | None, target: Rules) -> str:
    in_halves = hour <= 12  # noqa: PLR2004 - hours of half a day
    if half is not None and in_halves:
        hour = hour % 12 + (12 if half.lower().startswith("p") else 0)
    if target.clock_24 or (half is None and in_halves):
        return f"{hour}:{minute}"
    return f"{hour % 12 or 12}:{minute} {'p.m.' if hour >= 12 else 'a.m.'}"  # noqa: PLR2004


def _date(text: str, rules: Rules, target: Rules) -> str:
    first, second, year = text.split("/")
    if rules.day_first != target.day_first and int(first if rules.day_first else second) <= 31:  # noqa: PLR2004
        first, second = second, first
    return f"{first}/{second}/{year}"
