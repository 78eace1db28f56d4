"""Units that people write into tables: what each measures, and how it becomes the base unit. No imports, no state.

A unit is (dimension, factor, offset): a value of it is value * factor + offset in the dimension's base unit.
"""

from __future__ import annotations

from typing import NamedTuple


class Unit(NamedTuple):
    """How one of a unit is said in its dimension's base unit: value * factor + offset."""

    dimension: str
    factor: float
    offset: float = 0.0


_PREFIXES = {"n": 1e-9, "µ": 1e-6, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9}

# Base units: m, kg, s, m², m³, m/s, K, byte, J, W, Pa, Hz, V, A, radian.
_PLAIN: dict[str, dict[str, float]] = {
    "length": {
        "m": 1.0, "meter": 1.0, "meters": 1.0, "metre": 1.0, "metres": 1.0, "km": 1e3, "kilometer": 1e3,
        "kilometers": 1e3, "kilometre": 1e3, "kilometres": 1e3, "dm": 0.1, "cm": 0.01, "centimeter": 0.01,
        "centimeters": 0.01, "centimetre": 0.01, "centimetres": 0.01, "mm": 1e-3, "millimeter": 1e-3,
        "millimeters": 1e-3, "millimetre": 1e-3, "millimetres": 1e-3, "µm": 1e-6, "um": 1e-6, "nm": 1e-9,
        "in": 0.0254, "inch": 0.0254, "inches": 0.0254, '"': 0.0254, "”": 0.0254, "″": 0.0254, "ft": 0.3048, "foot": 0.3048,
        "feet": 0.3048, "'": 0.3048, "′": 0.3048, "’": 0.3048, "yd": 0.9144, "yard": 0.9144, "yards": 0.9144, "mi": 1609.344,
        "mile": 1609.344, "miles": 1609.344, "nmi": 1852.0,
    },
    "mass": {
        "kg": 1.0, "kilo": 1.0, "kilos": 1.0, "kilogram": 1.0, "kilograms": 1.0, "g": 1e-3, "gram": 1e-3,
        "grams": 1e-3, "mg": 1e-6, "µg": 1e-9, "ug": 1e-9, "t": 1e3, "tonne": 1e3, "tonnes": 1e3,
        "lb": 0.45359237, "lbs": 0.45359237, "pound": 0.45359237, "pounds": 0.45359237, "oz": 0.028349523125,
        "ounce": 0.028349523125, "ounces": 0.028349523125, "st": 6.35029318, "stone": 6.35029318,
    },
    "time": {
        "s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "µs": 1e-6, "us": 1e-6,
        "ns": 1e-9, "min": 60.0, "mins": 60.0, "minute": 60.0, "minutes": 60.0, "h": 3600.0, "hr": 3600.0,
        "hrs": 3600.0, "hour": 3600.0, "hours": 3600.0, "d": 86400.0, "day": 86400.0, "days": 86400.0,
        "week": 604800.0, "weeks": 604800.0,
    },
    "speed": {
        "m/s": 1.0, "km/h": 1 / 3.6, "kmh": 1 / 3.6, "kph": 1 / 3.6, "mph": 0.44704, "mi/h": 0.44704,
        "kn": 1852 / 3600, "knot": 1852 / 3600, "knots": 1852 / 3600, "ft/s": 0.3048,
    },
    "area": {
        "m²": 1.0, "m2": 1.0, "sqm": 1.0, "qm": 1.0, "km²": 1e6, "km2": 1e6, "cm²": 1e-4, "cm2": 1e-4, "mm²": 1e-6,
        "mm2": 1e-6, "ha": 1e4, "acre": 4046.8564224, "acres": 4046.8564224, "ft²": 0.09290304, "ft2": 0.09290304,
        "sqft": 0.09290304, "sq ft": 0.09290304,
    },
    "volume": {
        "m³": 1.0, "m3": 1.0, "l": 1e-3, "L": 1e-3, "liter": 1e-3, "liters": 1e-3, "litre": 1e-3, "litres": 1e-3,
        "hl": 0.1, "dl": 1e-4, "cl": 1e-5, "ml": 1e-6, "mL": 1e-6, "cm³": 1e-6, "cm3": 1e-6, "cc": 1e-6,
        "gal": 3.785411784e-3, "gallon": 3.785411784e-3, "gallons": 3.785411784e-3, "qt": 9.46352946e-4,
        "pt": 4.73176473e-4, "fl oz": 2.95735295625e-5, "ft³": 0.028316846592, "ft3": 0.028316846592,
    },
    "data": {
        "B": 1.0, "byte": 1.0, "bytes": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
        "KiB": 1024.0, "MiB": 1024.0**2, "GiB": 1024.0**3, "TiB": 1024.0**4,
    },
    "energy": {"J": 1.0, "kJ": 1e3, "MJ": 1e6, "Wh": 3600.0, "kWh": 3.6e6, "MWh": 3.6e9, "cal": 4.184, "kcal": 4184.0},
    "pressure": {
        "Pa": 1.0, "hPa": 100.0, "kPa": 1e3, "MPa": 1e6, "bar": 1e5, "mbar": 100.0, "psi": 6894.757293168,
        "atm": 101325.0, "mmHg": 133.322387415,
    },
    "angle": {"rad": 1.0, "°": 0.017453292519943295, "deg": 0.017453292519943295},
    "share": {"%": 0.01, "‰": 1e-3, "ppm": 1e-6},
}  # fmt: skip
_PREFIXED = {"W": "power", "Hz": "frequency", "V": "voltage", "A": "current", "Ω": "resistance"}


def _all_units() -> dict[str, Unit]:
    units = {name: Unit(kind, factor) for kind, names in _PLAIN.items() for name, factor in names.items()}
    for name, kind in _PREFIXED.items():
        units[name] = Unit(kind, 1.0)
        units.update({prefix + name: Unit(kind, factor) for prefix, factor in _PREFIXES.items()})
    celsius, fahrenheit = Unit("temperature", 1.0, 273.15), Unit("temperature", 5 / 9, 459.67 * 5 / 9)
    units |= {"K": Unit("temperature", 1.0), "°C": celsius, "C": celsius, "degC": celsius, "°F": fahrenheit}
    return units | {"F": fahrenheit, "degF": fahrenheit}


UNITS = _all_units()
"""All units by the way they are written. Case matters (Mg is no mg); `unit_of` also takes another case where it is clear."""

UNIT_NAMES = tuple(UNITS)

NEXT_SMALLER = {
    "'": "in", "′": "in", "’": "in", "ft": "in", "foot": "in", "feet": "in", "h": "min", "hr": "min", "hours": "min",
    "min": "s", "lb": "oz", "lbs": "oz", "st": "lb", "stone": "lb", "m": "cm",
}  # fmt: skip
"""The unit of a second number that has none: 5'11 is eleven inches more than five feet."""


def _by_lower_case() -> dict[str, Unit]:
    found: dict[str, set[Unit]] = {}
    for name, unit in UNITS.items():
        found.setdefault(name.lower(), set()).add(unit)
    return {name: next(iter(units)) for name, units in found.items() if len(units) == 1}


_LOWER = _by_lower_case()


def unit_of(text: str) -> Unit | None:
    """Return the unit that a text means, in any case where only one unit is written so; None for what is no unit."""
    text = text.strip().rstrip(".")
    return UNITS.get(text) or _LOWER.get(text.lower())
