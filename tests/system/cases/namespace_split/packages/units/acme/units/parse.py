"""Lengths from text."""

import re

from acme.units import convert


def parse(text, wanted):
    value, unit = re.fullmatch(r"([\d.]+)\s*(\w+)", text).groups()
    return convert(float(value), unit, wanted)
