"""Compare the results of a run with the expected results."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from layer_minimizer.model.workload import Result

_NUMBER = re.compile(r"[-+]?(?:\d+\.\d*|\.?\d+)(?:[eE][-+]?\d+)?")


@dataclass(frozen=True, slots=True)
class Mismatch:
    """An event whose result on the layer differs from the expected one.

    Attributes:
        event: the name of the event.
        expected: its result in the full environment.
        actual: its result on the layer.
    """

    event: str
    expected: str
    actual: str

    def __str__(self) -> str:
        """Return the event and both results, shortened."""
        return f"event {self.event!r}: expected {_short(self.expected)}, the layer gave {_short(self.actual)}"


def compare_results(expected: Iterable[Result], actual: dict[str, str], tolerance: float) -> tuple[Mismatch, ...]:
    """Return the events whose results differ by more than ``tolerance`` (relative and absolute, for numbers)."""
    return tuple(
        Mismatch(result.event, result.value, actual.get(result.event, "(nothing)"))
        for result in expected
        if result.event not in actual or not _same_text(result.value, actual[result.event], tolerance)
    )


def _same_text(one: str, two: str, tolerance: float) -> bool:
    if one == two:
        return True
    try:
        return _same(json.loads(one), json.loads(two), tolerance)
    except ValueError:
        pass
    if not tolerance or _NUMBER.sub("#", one) != _NUMBER.sub("#", two):
        return False
    pairs = zip_longest(_NUMBER.findall(one), _NUMBER.findall(two), fillvalue="nan")
    return all(math.isclose(float(a), float(b), rel_tol=tolerance, abs_tol=tolerance) for a, b in pairs)


def _same(one: Any, two: Any, tolerance: float) -> bool:
    """Compare JSON values, ignoring the order of keys; ``1`` equals ``1.0``, and NaN equals NaN."""
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(_same(value, two[key], tolerance) for key, value in one.items())
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(_same(a, b, tolerance) for a, b in zip(one, two, strict=True))
    if _is_number(one) and _is_number(two):
        both_nan = one != one and two != two  # noqa: PLR0124 - the definition of NaN
        if both_nan or one == two:
            return True
        try:
            return math.isclose(one, two, rel_tol=tolerance, abs_tol=tolerance)
        except OverflowError:
            return False  # integers outside of the range of floating-point numbers, and not equal
    return type(one) is type(two) and bool(one == two)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(text: str, width: int = 200) -> str:
    return text if len(text) <= width else f"{text[:width]}… ({len(text)} characters)"
