"""Compare the results of a run with the expected results."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from layer_minimizer.model.workload import Result

_NUMBER = re.compile(r"[-+]?(?:\d+\.\d*|\.?\d+)(?:[eE][-+]?\d+)?")
_NAME = re.compile(r"[A-Za-z_]\w*")
# A difference in numbers up to this is noise of floating-point arithmetic, which --tolerance is for.
_NOISE = 1e-3
_WIDTH = 160
_BEFORE = 40


@dataclass(frozen=True, slots=True)
class Spot:
    """The first difference of two results.

    Attributes:
        where: its JSON path or line, or both; empty if the results are short texts.
        expected: what is there in the expected result.
        actual: what is there in the other one.
    """

    where: str
    expected: str
    actual: str


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
        """Return the event and its first difference."""
        return self.describe("expected", "the layer gave")

    def describe(self, one: str, two: str) -> str:
        """Return the event and its first difference; ``one`` and ``two`` introduce the two sides."""
        spot = first_difference(self.expected, self.actual)
        where = f", {spot.where}" if spot.where else ""
        return f"event {self.event!r}{where}: {one} {spot.expected}, {two} {spot.actual}"


def compare_results(expected: Iterable[Result], actual: dict[str, str], tolerance: float) -> tuple[Mismatch, ...]:
    """Return the events whose results differ by more than ``tolerance`` (relative and absolute, for numbers)."""
    return tuple(
        Mismatch(result.event, result.value, actual.get(result.event, "(nothing)"))
        for result in expected
        if result.event not in actual or not _same_text(result.value, actual[result.event], tolerance)
    )


def first_difference(one: str, two: str) -> Spot:
    """Return the first difference of two results, which are JSON or text."""
    try:
        values = json.loads(one), json.loads(two)
    except ValueError:
        return _text_difference("", one, two, quoted=False)
    return next(_differences("$", *values), Spot("", _short(one), _short(two)))


def needed_tolerance(mismatches: Iterable[Mismatch]) -> float:
    """Return the ``--tolerance`` with which results that differ in numbers only are equal; 0.0 if there is none."""
    needed = [deviation(each.expected, each.actual) for each in mismatches]
    largest = max(needed, default=0.0)
    # The next power of ten, because the next run differs by another amount.
    return 10.0 ** math.ceil(math.log10(largest * 2)) if 0.0 < largest <= _NOISE else 0.0


def deviation(one: str, two: str) -> float:
    """Return the smallest tolerance with which two results are equal; infinity if they differ in more than numbers."""
    return max((_distance(a, b) for a, b in _differing_numbers(one, two)), default=0.0)


def explain_nondeterminism(differing: Iterable[Mismatch]) -> str:
    """Return a message about a workload that gives other results when it runs again in the full environment."""
    differing = tuple(differing)
    listed = "\n  ".join(each.describe("first", "then") for each in differing[:10])
    tolerance = needed_tolerance(differing)
    largest = max((deviation(each.expected, each.actual) for each in differing), default=0.0)
    advice = (
        f"They differ by {largest:.1e} at most, as floating-point arithmetic does from run to run: accept that with "
        f"--tolerance {tolerance:.0e}"
        if tolerance
        else "Seed its random numbers, omit times and ids from its result, sort what comes from a set or from threads, "
        "or accept small differences with --tolerance"
    )
    return (
        "the entry is nondeterministic: two runs in the full environment gave different results, so no layer "
        f"can be verified by them:\n  {listed}\n{advice}"
    )


# ---- equality -----------------------------------------------------------------------------------------------------


def _same_text(one: str, two: str, tolerance: float) -> bool:
    if one == two:
        return True
    try:
        return _same(json.loads(one), json.loads(two), tolerance)
    except ValueError:
        return bool(tolerance) and deviation(one, two) <= tolerance


def _same(one: Any, two: Any, tolerance: float) -> bool:
    """Compare JSON values, ignoring the order of keys; ``1`` equals ``1.0``, and NaN equals NaN."""
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(_same(value, two[key], tolerance) for key, value in one.items())
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(_same(a, b, tolerance) for a, b in zip(one, two, strict=True))
    if _is_number(one) and _is_number(two):
        return one == two or _distance(one, two) <= tolerance
    if isinstance(one, str) and isinstance(two, str):
        return one == two or (bool(tolerance) and _distance_of_bodies(one, two) <= tolerance)
    return type(one) is type(two) and bool(one == two)


def _distance_of_bodies(one: str, two: str) -> float:
    """Return the deviation of two strings that contain JSON objects or lists, as bodies of responses do."""
    if not (one.lstrip().startswith(("{", "[")) and two.lstrip().startswith(("{", "["))):
        return math.inf
    try:
        return max((_distance(a, b) for a, b in _pairs(json.loads(one), json.loads(two))), default=0.0)
    except ValueError:
        return math.inf


def _differing_numbers(one: str, two: str) -> Iterator[tuple[Any, Any]]:
    """Yield the pairs of numbers that differ; a pair with NaN if the results differ in something else."""
    try:
        yield from _pairs(json.loads(one), json.loads(two))
    except ValueError:
        if _NUMBER.sub("#", one) != _NUMBER.sub("#", two):
            yield 0.0, math.inf
            return
        pairs = zip_longest(_NUMBER.findall(one), _NUMBER.findall(two), fillvalue="nan")
        yield from ((float(a), float(b)) for a, b in pairs if a != b)


def _pairs(one: Any, two: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        for key, value in one.items():
            yield from _pairs(value, two[key])
    elif isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        for a, b in zip(one, two, strict=True):
            yield from _pairs(a, b)
    elif _is_number(one) and _is_number(two):
        yield one, two
    elif isinstance(one, str) and isinstance(two, str) and one != two:
        yield 0.0, _distance_of_bodies(one, two)
    elif not _same(one, two, 0.0):
        yield 0.0, math.inf


def _distance(one: Any, two: Any) -> float:
    """Return the tolerance, relative and absolute, with which two numbers are equal."""
    if one == two or (one != one and two != two):  # noqa: PLR0124 - the definition of NaN
        return 0.0
    try:
        distance = abs(float(one) - float(two)) / max(1.0, abs(one), abs(two))
    except OverflowError:
        return math.inf  # integers outside of the range of floating-point numbers, and not equal
    return distance if math.isfinite(distance) else math.inf


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# ---- the first difference -----------------------------------------------------------------------------------------


def _differences(path: str, one: Any, two: Any) -> Iterator[Spot]:
    """Yield the differences of two JSON values, in the order of the first one."""
    if isinstance(one, dict) and isinstance(two, dict):
        for key in [*one, *(key for key in two if key not in one)]:
            below = f"{path}.{key}" if _NAME.fullmatch(key) else f"{path}[{key!r}]"
            if key in one and key in two:
                yield from _differences(below, one[key], two[key])
            else:
                yield Spot(below, _value(one, key), _value(two, key))
    elif isinstance(one, list) and isinstance(two, list):
        for number, (a, b) in enumerate(zip(one, two, strict=False)):
            yield from _differences(f"{path}[{number}]", a, b)
        if len(one) != len(two):
            yield Spot(path, f"{len(one):,} items", f"{len(two):,} items")
    elif isinstance(one, str) and isinstance(two, str):
        if one != two:
            yield _text_difference("" if path == "$" else path, one, two, quoted=True)
    elif not _same(one, two, 0.0):
        yield Spot("" if path == "$" else path, _short(_as_json(one)), _short(_as_json(two)))


def _value(value: dict[str, Any], key: str) -> str:
    return _short(_as_json(value[key])) if key in value else "nothing"


def _text_difference(path: str, one: str, two: str, *, quoted: bool) -> Spot:
    """Return the first line in which two texts differ: all of it, or the part around its first difference."""
    lines = one.splitlines(keepends=True), two.splitlines(keepends=True)
    several = max(map(len, lines)) > 1
    number = next((n for n, (a, b) in enumerate(zip(*lines, strict=False)) if a != b), min(map(len, lines)))
    here = [each[number].rstrip("\r\n") if number < len(each) else None for each in lines]
    if None not in here and here[0] == here[1]:  # only the ends of the lines differ
        here = [each[number] for each in lines]
        quoted = True
    where = ", ".join(part for part in (path, f"line {number + 1}" if several else "") if part)
    longest = max(len(line or "") for line in here)
    start = 0
    if longest > _WIDTH:
        same = next((n for n, (a, b) in enumerate(zip(here[0] or "", here[1] or "", strict=False)) if a != b), None)
        at = min(len(line or "") for line in here) if same is None else same
        start = max(0, at - _BEFORE)
        where = f"{where}, character {at + 1:,}" if where else f"character {at + 1:,}"
    shown = ["the end" if line is None else _part(line, start, quoted=quoted or several) for line in here]
    return Spot(where, shown[0], shown[1])


def _part(line: str, start: int, *, quoted: bool) -> str:
    part = line[start : start + _WIDTH]
    part = _as_json(part) if quoted else part
    rest = f"… ({len(line)} characters)" if len(line) > start + _WIDTH else ""
    return f"{'…' if start else ''}{part}{rest}"


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _short(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}… ({len(text)} characters)"
