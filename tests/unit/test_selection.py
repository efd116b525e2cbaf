"""What a run leaves for another one: in eight commits everything has its turn, and no proof lacks an input."""

from __future__ import annotations

import ast
import functools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.support import record_turns, selection
from tests.support.places import CHECKOUT, PACKAGE, TESTS
from tests.support.proofs import INPUTS, OF_PAGE, OF_PARTS
from tests.support.pythons import VERSIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Item:
    """Of a test what the choice looks at."""

    nodeid: str
    marks: Mapping[str, pytest.Mark] = field(default_factory=dict)
    params: Mapping[str, object] = field(default_factory=dict)

    @property
    def callspec(self) -> Item:
        return self

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return self.marks.get(name)


def item(nodeid: str, *marks: pytest.MarkDecorator, **params: object) -> pytest.Item:
    return cast("pytest.Item", Item(nodeid, {mark.name: mark.mark for mark in marks}, params))


def left_by(items: list[pytest.Item], present: Sequence[str] = VERSIONS) -> list[set[str]]:
    """Return the tests that each turn leaves out."""
    return [set(selection.other_turns(items, number, LONG, present)) for number in range(len(LONG))]


LONG = [[f"long[{turn}{name}]" for name in "ab"] for turn in range(selection.TURNS)]


def test_each_long_test_has_its_turn() -> None:
    every = {name for names in LONG for name in names}
    left = left_by([item(name) for name in (*every, "short", "new")])
    assert [every - each for each in left] == [set(names) for names in LONG]


def test_the_list_of_long_tests_has_each_once() -> None:
    turns = json.loads(record_turns.FILE.read_bytes())
    names = [name for each in turns for name in each]
    assert len(turns) == selection.TURNS == record_turns.TURNS
    assert len(set(names)) == len(names)
    assert {name.partition("::")[0] for name in names if not (CHECKOUT / name.partition("::")[0]).is_file()} == set()


def test_turns_are_equally_long(tmp_path: Path) -> None:
    rows = "".join(f'<testcase classname="a.b" name="t[{n}]" time="{n}"/>' for n in range(40))
    (tmp_path / "one.xml").write_text(f'<testsuite>{rows}<testcase classname="a.b" name="t[9]" time="90"/></testsuite>')
    seconds = record_turns.durations([tmp_path / "one.xml"])
    assert seconds["a/b.py::t[9]"] == 9
    turns = record_turns.distribute(seconds, [["kept"], ["a/b.py::t[39]"], [], [], [], [], [], []])
    long = ["kept", *(f"a/b.py::t[{number}]" for number in range(5, 40))]
    assert sorted(name for names in turns for name in names) == sorted(long)
    loads = [sum(seconds.get(name, 0) for name in names) for names in turns]
    assert max(loads) - min(loads) < 10


def test_of_the_interpreters_three_are_always_there_and_two_or_three_others() -> None:
    tests = [item(f"f[{version}]", cpython=version) for version in VERSIONS]
    ways = [item(f"g[{version}]", way=(version, "trial")) for version in VERSIONS]
    some = [item(f"h[{version}]", version=version) for version in VERSIONS[:8]]
    left = left_by([*tests, *ways, *some, item("plain")])
    for each in left:
        assert len([name for name in each if name.startswith("f")]) in (4, 5)
        assert {name[1:] for name in each if name[0] == "f"} == {name[1:] for name in each if name[0] == "g"}
        assert not {"f[3.6]", "f[3.15]", "plain", *(test.nodeid for test in some)} & each
    assert set.intersection(*left) == set()


def test_the_newest_interpreter_is_the_newest_that_is_there() -> None:
    tests = [item(f"f[{version}]", cpython=version) for version in VERSIONS]
    left = left_by(tests, VERSIONS[:-1])
    assert not {"f[3.6]", "f[3.11]", "f[3.14]", "f[3.15]"} & set.union(*left)
    assert set.intersection(*left) == set()


# ---- what has no influence -------------------------------------------------------------------------------------------


@functools.cache
def imported(path: Path) -> frozenset[Path]:
    """Return the modules of the package that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(file for name in found for file in files_of(name))


def files_of(name: str) -> Iterator[Path]:
    top, *parts = name.split(".")
    if top != "layer_minimizer" or not parts:
        return
    for file in (PACKAGE.joinpath(*parts).with_suffix(".py"), PACKAGE.joinpath(*parts, "__init__.py")):
        if file.is_file():
            yield file


def reached(paths: list[Path]) -> set[Path]:
    """Return the modules of the package that files import, and what those import."""
    found: set[Path] = set()
    waiting = list(paths)
    while waiting:
        new = imported(waiting.pop()) - found
        found |= new
        waiting += new
    return found


IN_PROCESS = [name for name, inputs in INPUTS.items() if inputs.regardless_of in (OF_PARTS, OF_PAGE)]


@pytest.mark.parametrize("name", IN_PROCESS)
def test_what_is_said_to_have_no_influence_is_not_imported(name: str) -> None:
    top = TESTS / name
    own = {TESTS / other for other in INPUTS if other != name}
    files = [path for path in (top.rglob("*.py") if top.is_dir() else [top]) if path not in own]
    left = [PACKAGE / room for room in INPUTS[name].regardless_of]
    wrong = [path for path in reached(files) if any(path == room or path.is_relative_to(room) for room in left)]
    assert wrong == []


def test_inputs_are_where_they_are_said_to_be() -> None:
    assert [name for name in INPUTS if not (TESTS / name).exists()] == []


def test_a_digest_tells_names_and_contents(tmp_path: Path) -> None:
    def digest(**files: str) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for name, text in files.items():
            folder.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        return selection._digest(selection._files(folder), folder)

    said: list[Any] = [digest(a="1"), digest(a="2"), digest(b="1"), digest(a="1", b="1")]
    assert len(set(said)) == 4
    assert digest(a="1") == said[0]
