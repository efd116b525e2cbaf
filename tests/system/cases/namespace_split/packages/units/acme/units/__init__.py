"""Lengths; the folder acme above belongs to no distribution alone."""

METRES = {"m": 1.0, "km": 1000.0, "mi": 1609.344}


def convert(value, unit, wanted):
    return value * METRES[unit] / METRES[wanted]
