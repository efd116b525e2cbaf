"""Values are converted to JSON and back; values of other types are refused."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - the codec reads the types of fields
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from layer_minimizer.model.codec import decode, encode


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Row:
    name: str
    sizes: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Inner:
    place: Path
    any: Any = None


@dataclass(frozen=True)
class Outer:
    colours: frozenset[Colour]
    rows: tuple[Row, ...]
    inner: Inner
    table: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    sure: bool = False


VALUE = Outer(
    frozenset(Colour), (Row("a", (("x", 1),)), Row("b")), Inner(Path("p/q"), [1, {}]), {"k": [None]}, 0.5, sure=True
)
JSON = {
    "colours": ["blue", "red"],
    "rows": [["a", [["x", 1]]], ["b", []]],
    "inner": {"place": "p/q", "any": [1, {}]},
    "table": {"k": [None]},
    "seconds": 0.5,
    "sure": True,
}


def test_a_value_is_an_object_and_in_lists_a_row() -> None:
    assert encode(VALUE) == JSON
    assert list(encode(VALUE)) == list(JSON)
    assert decode(Outer, JSON) == VALUE


def test_what_has_a_default_may_be_missing_and_more_may_be_there() -> None:
    least = {"colours": [], "rows": [], "inner": {"place": "p"}}
    assert decode(Outer, least | {"new": 1}) == Outer(frozenset(), (), Inner(Path("p")))
    assert decode(Outer, least | {"seconds": 3}).seconds == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("colours", ["green"]), ("colours", "red"), ("colours", [["red"]]), ("rows", [["a"]]), ("rows", [["a", [], 1]]),
        ("rows", [["a", [["x", True]]]]), ("rows", [["a", [["x"]]]]), ("rows", [{"name": "a"}]), ("rows", {}),
        ("rows", ["ab"]), ("inner", {}), ("inner", ["p"]), ("inner", {"place": 1}), ("table", []), ("seconds", "1"),
        ("seconds", True), ("sure", 1),
    ],
)  # fmt: skip
def test_other_types_are_refused(name: str, value: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        decode(Outer, JSON | {name: value})
