"""Imports within the package lead in no circle: the contract of import-linter is about rooms, this is about modules."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import layer_minimizer

PACKAGE = Path(layer_minimizer.__file__).parent


def modules() -> dict[str, Path]:
    """Return the modules by name, without those that run elsewhere, for which there is a test of their own."""
    files = (file for file in PACKAGE.rglob("*.py") if "payload" not in file.relative_to(PACKAGE).parts)
    return {".".join(("layer_minimizer", *file.relative_to(PACKAGE).with_suffix("").parts)): file for file in files}


def imports(file: Path, known: dict[str, Path]) -> Iterator[str]:
    """Yield the modules that one imports: anywhere, in a function or for types alone, too."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield from (name for name in (full, node.module, f"{node.module}.__init__") if name in known)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)


def test_no_imports_lead_in_a_circle() -> None:
    known = modules()
    graph = {name: set(imports(file, known)) - {name} for name, file in known.items()}
    assert sum(map(len, graph.values())) > len(graph)
    order = tuple(TopologicalSorter(graph).static_order())  # raises where there is a circle
    assert set(order) == set(known)
