"""Numbers as languages write them. PURE."""

from decimal import Decimal

from deployments.text.rules import Rules


def parsed(text: str, rules: Rules) -> Decimal:
    """The value of a number as the language writes it."""
    whole, _, fraction = rules.unified(text).partition(rules.decimal)
    return Decimal("".join(filter(str.isdigit, whole)) + ("." + fraction if fraction else ""))


def formatted(value: Decimal, rules: Rules, *, grouped: bool = True) -> str:
    """A number as the language writes it, with as many decimals as it has."""
    whole, _, fraction = f"{value:f}".partition(".")
    if grouped:
        whole = f"{int(whole):,}".replace(",", rules.group)
    return whole + (rules.decimal + fraction if fraction else "")
