"""Finds the modules whose classes others derive from by calling ``type()``: nothing can stand in for these.

A class statement asks a stand-in for the class that it stands for (``__mro_entries__``). ``type(name, bases, content)``
does not: it refuses whatever is no class, and what the call of an unseen event would run is in no trace. So the sources
of the loaded modules are read for such calls.
"""

from __future__ import annotations

import ast
import contextlib
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Few modules have such a call, and to parse all of a large environment takes long.
_LIKELY = re.compile(rb"\btype\(.{1,80}?,\s*\(", re.DOTALL)


def derived_from(tables: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return the modules of which a class is a base in a call of ``type``; ``tables`` are those of the loaded modules."""
    found: set[str] = set()
    for name, table in tables.items():
        for first, attribute in _bases(Path(table["file"])):
            kind = table["names"].get(first, ("other",))
            if attribute and kind[0] == "module":
                # Where the class is defined, that module's own table tells.
                there = tables.get(kind[1], {"names": {}})["names"].get(attribute, ())
                kind = there if there[:1] == ["class"] else ("class", kind[1])
            if kind[0] == "class" and kind[1] != name:
                found.add(kind[1])
    return found


def _bases(source: Path) -> Iterator[tuple[str, str]]:
    """Yield the bases in calls of ``type`` as (name, attribute) pairs; the attribute is empty for a plain name."""
    if source.suffix != ".py":
        return
    with contextlib.suppress(OSError, SyntaxError, ValueError, RecursionError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = source.read_bytes()
        if not _LIKELY.search(text):
            return
        for node in ast.walk(ast.parse(text)):
            match node:
                case ast.Call(func=ast.Name(id="type"), args=[_, ast.Tuple(elts=bases), _]):
                    yield from (pair for base in bases if (pair := _pair(base)))


def _pair(base: ast.expr) -> tuple[str, str] | None:
    match base:
        case ast.Name(id=name):
            return name, ""
        case ast.Attribute(value=ast.Name(id=name), attr=attribute):
            return name, attribute
    return None
