"""Prices; a sibling of acme.units from another distribution."""

from acme.units import convert


def fare(value, unit):
    return round(2 + 0.5 * convert(value, unit, "km"), 2)
