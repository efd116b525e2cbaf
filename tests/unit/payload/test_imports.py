"""What runs in other processes has no module that leads back to itself, however an import is written."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import layer_minimizer

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDERS = ("function", "probe", "runtime", "sandbox")
ROOT = Path(layer_minimizer.__file__).parent / "payload"
# Not what it seems: the file takes its folder off sys.path, and imports the interpreter's own of the same name.
DELIBERATE = {("probe", "sitecustomize", "sitecustomize")}
# What is imported by another name than that of its file: see layer_minimizer_loading.py and cold_store.write_store.
RENAMED = ("_layer_minimizer_trial.", "_layer_minimizer_", "_layer_minimizer.")


def imports(path: Path, known: set[str]) -> set[str]:
    """Return the files of the same folder that one imports, at its top level or in a function."""
    return {name for name in names(ast.parse(path.read_bytes()), known) if name in known}


def names(tree: ast.AST, known: set[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (stem(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield stem(node.module)
        elif isinstance(node, ast.ImportFrom):
            # "from . import x" is a file x, or what __init__.py has under that name.
            yield from (alias.name if alias.name in known else "__init__" for alias in node.names)


def stem(name: str) -> str:
    for prefix in RENAMED:
        name = name.removeprefix(prefix)
    return name


def graph(folder: str) -> dict[str, set[str]]:
    files = {path.stem: path for path in (ROOT / folder).rglob("*.py")}
    return {
        name: {other for other in imports(path, set(files)) if (folder, name, other) not in DELIBERATE}
        for name, path in files.items()
    }


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_imports_lead_in_a_circle(folder: str) -> None:
    found = graph(folder)
    assert found
    order = tuple(TopologicalSorter(found).static_order())  # raises where there is a circle
    assert set(order) == set(found)


def test_imports_are_seen() -> None:
    found = graph("runtime")
    assert {"check", "finder"} <= found["__init__"]  # in a function
    assert found["finder"] >= {"check", "messages", "packed", "stubs"} - {"stubs"}
    assert "check" in found["packed"]
    assert "__init__" in found["stubs"]
    assert "hidden" in graph("sandbox")["lambda_root"]
    assert "probe" in graph("probe")["standins"]


def test_the_parts_that_stand_in_are_loaded_behind_what_they_import() -> None:
    source = (ROOT / "probe" / "layer_minimizer_loading.py").read_text()
    (listed,) = [
        ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "STAND_IN_PARTS"
    ]
    found = graph("runtime")
    assert set(listed) == {"messages", *(name for name in found if name.startswith("standin"))}
    for number, name in enumerate(listed):
        assert found[name] <= set(listed[:number]), name
