"""Units of measure by what is written behind a number; their names, in every language, are CLDR's. PURE."""

from decimal import Decimal

from babel.units import format_unit

from deployments.text import number_words, numbers
from deployments.text.rules import Rules

UNITS = {
    "km/h": "speed-kilometer-per-hour",
    "kph": "speed-kilometer-per-hour",
    "kmh": "speed-kilometer-per-hour",
    "mph": "speed-mile-per-hour",
    "m/s": "speed-meter-per-second",
    "km": "length-kilometer",
    "m": "length-meter",
    "cm": "length-centimeter",
    "mm": "length-millimeter",
    "mi": "length-mile",
    "ft": "length-foot",
    "yd": "length-yard",
    "″": "length-inch",
    "′": "length-foot",
    "kg": "mass-kilogram",
    "g": "mass-gram",
    "mg": "mass-milligram",
    "t": "mass-tonne",
    "lb": "mass-pound",
    "lbs": "mass-pound",
    "oz": "mass-ounce",
    "l": "volume-liter",
    "L": "volume-liter",
    "ml": "volume-milliliter",
    "mL": "volume-milliliter",
    "gal": "volume-gallon",
    "°C": "temperature-celsius",
    "°F": "temperature-fahrenheit",
    "°": "angle-degree",
    "kB": "digital-kilobyte",
    "KB": "digital-kilobyte",
    "MB": "digital-megabyte",
    "GB": "digital-gigabyte",
    "TB": "digital-terabyte",
    "Hz": "frequency-hertz",
    "kHz": "frequency-kilohertz",
    "MHz": "frequency-megahertz",
    "GHz": "frequency-gigahertz",
    "W": "power-watt",
    "kW": "power-kilowatt",
    "MW": "power-megawatt",
    "kWh": "energy-kilowatt-hour",
    "V": "electric-volt",
    "kcal": "energy-kilocalorie",
    "h": "duration-hour",
    "hrs": "duration-hour",
    "min": "duration-minute",
    "ms": "duration-millisecond",
    "m²": "area-square-meter",
    "m2": "area-square-meter",
    "km²": "area-square-kilometer",
    "km2": "area-square-kilometer",
    "ha": "area-hectare",
    "m³": "volume-cubic-meter",
    "%": "concentr-percent",
}
"""CLDR's names by the sign."""


def measured(text: str, unit: str, rules: Rules) -> str:
    """A number and its unit in words.

    Args:
        text: the number as the language writes it.
        unit: a key of UNITS.
        rules: of the language.
    """
    value = numbers.parsed(text, rules)
    named = format_unit(_sample(value), UNITS[unit], length="long", locale=rules.language)
    name = "".join(character for character in named if not character.isdigit()).strip(" \u00a0.,")
    return f"{number_words.counted(number_words.in_words(text, rules), value, name, rules)} {name}"


def _sample(value: Decimal) -> Decimal:
    """A number of few digits that takes the same form of a word."""
    return Decimal(1) if value == 1 else Decimal(2) if value == value.to_integral_value() else Decimal("1.5")
