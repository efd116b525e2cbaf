"""Signatures that are read from code give what inspect says, for every kind of function."""

import argparse
import dataclasses
import functools
import importlib.util
import inspect
import json
import logging
import types
import typing
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import layer_minimizer


@pytest.fixture(scope="module")
def signatures() -> Any:
    path = Path(layer_minimizer.__file__).parent / "payload" / "probe" / "signatures.py"
    spec = importlib.util.spec_from_file_location("signatures", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def functions_of(*modules: types.ModuleType) -> Iterator[types.FunctionType]:
    for module in modules:
        classes = [each for each in vars(module).values() if type(each) is type]
        for value in [value for holder in (module, *classes) for value in vars(holder).values()]:
            if type(value) is types.FunctionType:
                yield value


def test_they_are_those_of_inspect_for_the_standard_library(signatures: Any) -> None:
    found = list(functions_of(argparse, dataclasses, functools, inspect, logging, typing, urllib.request, json.encoder))
    assert len(found) > 500
    for function in found:
        assert signatures.of_function(function) == signatures._inspected(function), function


def positional(
    a: "int", b: "str" = "x", /, c: "int" = 3, *rest: "int", d: "int", e: "int" = 5, **others: "int"
) -> "None":
    """Have each kind of parameter."""


def wrapped() -> None:
    """Have another signature than its code."""


wrapped.__wrapped__ = positional  # type: ignore[attr-defined]


def test_each_kind_of_parameter_is_described(signatures: Any) -> None:
    described = signatures.of_function(positional)
    kinds = [(name, kind, default) for name, kind, default, _annotation in described["parameters"]]
    assert kinds == [
        ("a", 0, []),
        ("b", 0, ["x"]),
        ("c", 1, [3]),
        ("rest", 2, []),
        ("d", 3, []),
        ("e", 3, [5]),
        ("others", 4, []),
    ]
    assert described["result"] == ["None"]
    assert described == signatures._inspected(positional)
    assert signatures.of_function(wrapped)["parameters"] == described["parameters"]


def test_what_is_no_text_or_number_has_no_signature(signatures: Any) -> None:
    assert signatures.of_function(lambda a=[]: a) is None
    assert signatures.of_function(len) is None
    function = types.FunctionType(positional.__code__, {})
    function.__annotations__ = {"a": int}
    assert signatures.of_function(function) is None
