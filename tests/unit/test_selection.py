"""What a run leaves for another one: in three commits everything has its turn, and no proof lacks an input."""

from __future__ import annotations

import ast
import functools
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.support import selection
from tests.support.places import PACKAGE, TESTS
from tests.support.proofs import INPUTS, OF_PAGE, OF_PARTS
from tests.support.pythons import VERSIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
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


def left_by(items: list[pytest.Item]) -> list[set[str]]:
    """Return the tests that each turn leaves out."""
    return [set(selection.other_turns(items, number, VERSIONS)) for number in (1, 2, 3)]


def test_each_case_has_its_turn_within_three_commits_and_the_heavy_ones_are_spread() -> None:
    heavy = [item(f"case[h{number}]", pytest.mark.case, pytest.mark.heavy) for number in range(9)]
    light = [item(f"case[l{number}]", pytest.mark.case) for number in range(20)]
    left = left_by([*light, *heavy])
    names = {each.nodeid for each in (*light, *heavy)}
    taken = [names - each for each in left]
    assert set.union(*taken) == names
    assert not any(one & other for one, other in itertools.combinations(taken, 2))
    assert [len({name for name in each if "[h" in name}) for each in taken] == [3, 3, 3]
    assert sorted(len(each) for each in taken) == [9, 10, 10]


def test_of_the_interpreters_three_are_always_there_and_two_others() -> None:
    tests = [item(f"f[{version}]", cpython=version) for version in VERSIONS]
    ways = [item(f"g[{version}]", way=(version, "trial")) for version in VERSIONS]
    some = [item(f"h[{version}]", version=version) for version in VERSIONS[:8]]
    left = left_by([*tests, *ways, *some, item("plain")])
    for each in left:
        assert len([name for name in each if name.startswith("f")]) == 4
        assert {name[1:] for name in each if name[0] == "f"} == {name[1:] for name in each if name[0] == "g"}
        assert not {"f[3.6]", "f[3.14]", "plain", *(test.nodeid for test in some)} & each
    assert set.intersection(*left) == set()


def test_the_newest_interpreter_is_the_newest_that_is_there() -> None:
    tests = [item(f"f[{version}]", cpython=version) for version in VERSIONS]
    left = [set(selection.other_turns(tests, number, VERSIONS[:-1])) for number in (1, 2, 3)]
    assert not {"f[3.6]", "f[3.11]", "f[3.13]", "f[3.14]"} & set.union(*left)
    assert set.intersection(*left) == set()


def test_large_tests_have_the_turn_that_they_say() -> None:
    tests = [item(f"large{number}", pytest.mark.turn(number)) for number in (1, 2, 3)]
    assert left_by(tests) == [{"large2", "large3"}, {"large1", "large3"}, {"large1", "large2"}]


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
