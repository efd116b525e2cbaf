"""Adjustments only grow, in each of their fields."""

from dataclasses import fields, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from layer_minimizer.model.adjustments import EVERYTHING, NOTHING, Adjustments, Coverage, OmittedChunk

NAMES = st.frozensets(st.sampled_from("abcd"))
COVERAGES = st.builds(Coverage, NAMES, st.booleans())
ADJUSTMENTS = st.builds(
    Adjustments,
    rounds=st.integers(0, 3),
    repaired=NAMES,
    with_source=COVERAGES,
    with_docstrings=COVERAGES,
    extra_pages=st.dictionaries(st.sampled_from("ab"), st.frozensets(st.integers(0, 3))),
    refills=st.dictionaries(st.sampled_from("ab"), st.integers(0, 3)),
    whole_libraries=NAMES,
    whole_function=st.booleans(),
    omitted_distributions=NAMES,
    omitted_cold=NAMES,
    omitted_chunks=st.frozensets(st.builds(OmittedChunk, st.sampled_from("ab"), st.integers(0, 1), st.integers(0, 2))),
    density=st.integers(0, 100),
    large_chunks=st.booleans(),
    deterministic=st.booleans(),
)
MORE: dict[str, Any] = {
    "rounds": 1,
    "repaired": frozenset("a"),
    "with_source": Coverage(frozenset("a")),
    "with_docstrings": EVERYTHING,
    "extra_pages": {"a": frozenset({1})},
    "refills": {"a": 1},
    "whole_libraries": frozenset("a"),
    "whole_function": True,
    "omitted_distributions": frozenset("a"),
    "omitted_cold": frozenset("a"),
    "omitted_chunks": frozenset({OmittedChunk("a", 0, 1)}),
    "density": 1,
    "large_chunks": True,
    "deterministic": True,
}


def test_each_adjustment_is_more_than_none() -> None:
    assert MORE.keys() == {field.name for field in fields(Adjustments)}
    for name, value in MORE.items():
        more = replace(Adjustments(), **{name: value})
        assert Adjustments() < more, name
        assert not more <= Adjustments(), name


@given(ADJUSTMENTS, ADJUSTMENTS, ADJUSTMENTS)
def test_adjustments_are_partially_ordered(one: Adjustments, two: Adjustments, three: Adjustments) -> None:
    assert one <= replace(one)
    assert not one < replace(one)
    assert not (one <= two <= three) or one <= three
    assert not one < two or not two < one


def test_what_is_covered() -> None:
    some = NOTHING.adding(["a", "b"])
    assert "a" in some
    assert "c" not in some
    assert "c" in EVERYTHING
    assert NOTHING <= some <= EVERYTHING
    assert not some >= EVERYTHING
    assert some.adding(["c"]) == Coverage(frozenset("abc"))
