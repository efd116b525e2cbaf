"""Tells files that only a compiler or a shell would read from those that a program may. Pure: by name and mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layer_minimizer.model import InstalledFile

# Headers, sources of extension modules, static libraries, build descriptions: a layer has no compiler to read them.
_ENDINGS = (
    ".h", ".hh", ".hpp", ".hxx", ".cuh", ".inl", ".c", ".cc", ".cpp", ".cu", ".f", ".f90", ".pyx", ".pxd", ".pxi",
    ".tp", ".a", ".lib", ".o", ".cmake", ".pc", ".gyp", ".def",
)  # fmt: skip


def is_for_development(file: InstalledFile) -> bool:
    """Say whether a file that nothing has touched can be left away for good: no program in a layer would read it."""
    name = file.path.rpartition("/")[2]
    program = file.executable and "." not in name  # a program that nothing has started
    return name.endswith(_ENDINGS) or program or "/bin/" in f"/{file.path}"
