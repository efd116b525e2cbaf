"""Tells files that only a compiler, a shell or a test runner would read from those that a program may. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layer_minimizer.model import InstalledFile

# Headers, sources of extension modules, static libraries, build descriptions: a layer has no compiler to read them.
_ENDINGS = (
    ".h", ".hh", ".hpp", ".hxx", ".cuh", ".inl", ".c", ".cc", ".cpp", ".cu", ".f", ".f90", ".pyx", ".pxd", ".pxi",
    ".tp", ".a", ".lib", ".o", ".cmake", ".pc", ".gyp", ".def",
)  # fmt: skip


_TEST_FOLDERS = {"test", "tests"}


def is_for_development(file: InstalledFile) -> bool:
    """Say whether a file that nothing has touched can be left away for good: no program in a layer would read it."""
    *folders, name = file.path.split("/")
    program = file.executable and "." not in name  # a program that nothing has started
    return (
        name.endswith(_ENDINGS) or program or "bin" in folders or (_is_test(name) and bool(_TEST_FOLDERS & {*folders}))
    )


def _is_test(name: str) -> bool:
    """Say whether a file in a folder of tests is for their runner: a module of tests, or data that only those read."""
    module = name.endswith((".py", ".pyc", ".so"))
    return not module or name.startswith("test_") or name == "conftest.py"
