"""Which handler an entry defines, if none is named."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_USUAL = ("handler", "lambda_handler")


def handler_name(entry: Path) -> str:
    """Return the handler that an entry defines under one of the usual names, else an empty string.

    The rule is that of a traced run (payload/probe/harness.py): the loop variable of a ``for`` is no handler.
    """
    try:
        bound = set(_bound_names(ast.parse(entry.read_bytes(), str(entry)).body))
    except (OSError, SyntaxError, ValueError):
        return ""
    return next((name for name in _USUAL if name in bound), "")


def _bound_names(statements: Iterable[ast.stmt]) -> Iterator[str]:
    """Yield the names that a module's top level binds, inside ``if``, ``try`` and ``with`` too."""
    for node in statements:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
                continue
            case ast.Assign():
                yield from (name.id for target in node.targets for name in ast.walk(target) if _is_bound(name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.Import() | ast.ImportFrom():
                yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        for part in ("body", "orelse", "finalbody"):
            yield from _bound_names(getattr(node, part, ()))
        for handler in getattr(node, "handlers", ()):
            yield from _bound_names(handler.body)


def _is_bound(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
