"""Classes that are bases in calls of type(): stand-ins cannot replace their modules."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from layer_minimizer.analysis.class_factories import base_class_modules

BASE = ["class", "base", "Base", []]


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return the table of a loaded module with this source and these names."""

    def make(source: str, names: Mapping[str, Any], file: str = "user.py") -> dict[str, Any]:
        path = tmp_path / file
        path.write_text(source)
        return {"file": str(path), "names": dict(names)}

    return make


@pytest.mark.parametrize(
    "call",
    [
        "type(name, (Base,), {})",
        "type(str(name), (object, Base), dict(x=1))",
        "x = [type(f'{name}s', (\n    Base,\n    ), {})]",
    ],
)
def test_a_base_in_a_call_of_type(table: Callable[..., dict[str, Any]], call: str) -> None:
    source = f"from base import Base\n\ndef make(name):\n    {call}\n"
    assert base_class_modules({"user": table(source, {"Base": BASE})}) == {"base"}


def test_a_base_that_is_an_attribute_of_a_module_is_traced_to_its_definition(
    table: Callable[..., dict[str, Any]],
) -> None:
    user = table("import facade\n\ndef make():\n    type('X', (facade.Base,), {})\n", {"facade": ["module", "facade"]})
    facade = table("from base import Base\n", {"Base": BASE}, "facade.py")
    assert base_class_modules({"user": user, "facade": facade}) == {"base"}
    assert base_class_modules({"user": user}) == {"facade"}
    facade["names"]["Base"] = ["other"]
    assert base_class_modules({"user": user, "facade": facade}) == {"facade"}


@pytest.mark.parametrize(
    "source",
    [
        "from base import Base\n\nclass X(Base):\n    pass\n",
        "from base import Base\n\nprint(type(Base), (Base, 1))\n",
        "from base import Base\n\ndef make(name):\n    type(name, (Base,), {}\n",
        "def make(name, Base):\n    return type(name, tuple([Base]), {})\n",
    ],
)
def test_other_calls_and_invalid_sources_are_ignored(table: Callable[..., dict[str, Any]], source: str) -> None:
    assert base_class_modules({"user": table(source, {"Base": BASE})}) == set()


def test_a_class_of_the_module_itself_and_a_value_are_ignored(table: Callable[..., dict[str, Any]]) -> None:
    source = "def make(name):\n    return type(name, (Base, FLAG), {})\n"
    names = {"Base": ["class", "user", "Base", []], "FLAG": ["value", 1]}
    assert base_class_modules({"user": table(source, names)}) == set()


def test_a_module_without_source_is_skipped(tmp_path: Path) -> None:
    tables = {"c": {"file": str(tmp_path / "c.so"), "names": {}}, "gone": {"file": str(tmp_path / "g.py"), "names": {}}}
    assert base_class_modules(tables) == set()
