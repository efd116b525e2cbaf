"""How the values of options are read from the command line, and what a settings file may have for them."""

from __future__ import annotations

import argparse
import math
import re

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def size(text: str) -> int:
    """Read a number of bytes, for instance 250MB.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", text.strip())
    if not found or found[2].upper() not in _UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write for instance 250MB, 0.9GB or 262144000")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def names(text: str) -> list[str]:
    """Read names with commas or spaces in between."""
    return [name for name in re.split(r"[,\s]+", text) if name]


def tolerance(text: str) -> float:
    """Read a relative difference.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    value = _number(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no tolerance; write a number from 0 to 1, for instance 1e-6")
    return value


def runs(text: str) -> int:
    """Read a number of runs.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not re.fullmatch(r"[1-9]\d{0,5}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of runs; write a whole number from 1 on")
    return int(text)


def seconds(text: str) -> float:
    """Read a time that passes.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    value = _number(text)
    if not 0 < value < 10**7:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return value


def minutes(text: str) -> float:
    """Read a time that may be nothing.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    value = _number(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of minutes; write 0 or more")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


# What a settings file may have for an option, by the function that reads its text on the command line.
KINDS: dict[object, tuple[tuple[type, ...], str]] = {
    None: ((str,), "a text"),
    int: ((int,), "a whole number"),
    size: ((str, int), "a size: 250MB, 0.9GB or a whole number of bytes"),
    names: ((str,), "a text"),
    tolerance: ((int, float), "a number from 0 to 1"),
    runs: ((int,), "a whole number from 1 on"),
    seconds: ((int, float), "a number of seconds above 0"),
    minutes: ((int, float), "a number of minutes, 0 or more"),
}
