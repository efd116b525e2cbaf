"""Map file paths to module names and back, without reading files."""

from __future__ import annotations

import re
from collections.abc import Iterable

_MODULE_FILE = re.compile(r"^(?P<stem>.+?)(?:\.py|\.pyc|(?:\.cpython-[^./]+|\.abi3)?\.so)$")


def module_name(path: str) -> str:
    """Return the dotted name of the module in a file of site-packages; empty if it is not a module."""
    found = _MODULE_FILE.match(path)
    if not found:
        return ""
    stem = found["stem"].removesuffix("/__init__")
    parts = stem.split("/")
    return ".".join(parts) if all(part.isidentifier() for part in parts) else ""


def stem(path: str) -> str:
    """Return the path of a module's file without its suffix."""
    found = _MODULE_FILE.match(path)
    return found["stem"] if found else path


def top_level(path: str) -> str:
    """Return the top-level package or module that a path in site-packages belongs to."""
    first, rest = path.partition("/")[::2]
    return first if rest else first.partition(".")[0]


def is_package(path: str) -> bool:
    """Return whether a module's file is the ``__init__`` of a package."""
    return path.rpartition("/")[2].split(".", 1)[0] == "__init__"


def by_name(paths: Iterable[str]) -> dict[str, str]:
    """Map module names to files; of several files for one name, the one that Python would import."""
    found: dict[str, str] = {}
    for path in sorted(paths, key=_precedence):
        if name := module_name(path):
            found.setdefault(name, path)
    return found


def with_packages(names: Iterable[str]) -> set[str]:
    """Return the modules and all of their parent packages, which are imported before them."""
    return {package for name in names for package in with_parents(name)}


def with_parents(name: str) -> list[str]:
    """Return the parent packages of a module, the topmost first, and the module itself."""
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def _precedence(path: str) -> tuple[bool, int, str]:
    kind = 0 if path.endswith(".so") else 1 if path.endswith(".py") else 2
    return not is_package(path), kind, path
