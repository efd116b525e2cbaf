"""Find modules whose classes are bases in calls of ``type()``: stand-ins cannot replace these modules.

A class statement gets the real class from a stand-in with ``__mro_entries__``. ``type(name, bases, namespace)`` does
not call it, and raises TypeError for a base that is not a class. A trace does not show such calls in code that only
other events run, so the sources of the loaded modules are searched for them.
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

# Few modules have such a call, and parsing all modules of a large environment is slow.
_LIKELY = re.compile(rb"\btype\(.{1,80}?,\s*\(", re.DOTALL)


def base_class_modules(tables: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return the modules with a class that is a base in a call of ``type``; ``tables`` describe the loaded modules."""
    found: set[str] = set()
    for name, table in tables.items():
        for first, attribute in _bases(Path(table["file"])):
            kind = table["names"].get(first, ("other",))
            if attribute and kind[0] == "module":
                # The module may import the class: its own table names the defining module.
                entry = tables.get(kind[1], {"names": {}})["names"].get(attribute, ())
                kind = entry if entry[:1] == ["class"] else ("class", kind[1])
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
