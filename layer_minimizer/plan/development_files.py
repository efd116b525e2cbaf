"""Tells files that only a compiler, a shell or a test runner would read from those that a program may. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from layer_minimizer.model.installed import InstalledFile

# Headers, sources of extension modules, static libraries, build descriptions: a layer has no compiler to read them.
_ENDINGS = (
    ".h", ".hh", ".hpp", ".hxx", ".cuh", ".inl", ".c", ".cc", ".cpp", ".f", ".f90", ".pyx", ".pxd", ".pxi",
    ".tp", ".a", ".lib", ".o", ".cmake", ".pc", ".gyp", ".def",
)  # fmt: skip
_TEST_FOLDERS = {"test", "tests"}
_TEST_PACKAGES = {*_TEST_FOLDERS, "testing", "_testing"}
# What distributions say that they are for, in the words of PyPI's classifiers.
_TOPICS_OF_TOOLS = (
    "Framework :: Pytest",
    "Topic :: Software Development :: Build Tools",
    "Topic :: Software Development :: Quality Assurance",
    "Topic :: Software Development :: Testing",
    "Topic :: System :: Archiving :: Packaging",
    "Topic :: System :: Installation/Setup",
    "Topic :: System :: Software Distribution",
)


def is_tool(classifiers: Iterable[str]) -> bool:
    """Return whether a distribution with these classifiers builds, installs or tests programs, and is part of none."""
    return any(classifier.startswith(_TOPICS_OF_TOOLS) for classifier in classifiers)


def is_test(path: str) -> bool:
    """Return whether a module is for those who test a program: what it imports, the program need not have."""
    *folders, name = path.split("/")
    return bool(_TEST_PACKAGES & {*folders, name.partition(".")[0]}) or _is_test_module(name)


def is_for_development(file: InstalledFile, used_tests: Collection[str] = ()) -> bool:
    """Return whether a file that nothing has touched can be left away for good: no program in a layer would read it.

    ``used_tests`` are the folders of tests that are not: see `used_test_folders`.
    """
    *folders, name = file.path.split("/")
    program = file.executable and "." not in name  # a program that nothing has started
    tests = _is_test(name) and _test_folder(file.path)
    return name.endswith(_ENDINGS) or program or "bin" in folders or bool(tests and tests not in used_tests)


def used_test_folders(kept: Iterable[str]) -> frozenset[str]:
    """Return the folders of tests of which the package itself uses more than that they are a package."""
    return frozenset(_test_folder(path) for path in kept if path.rpartition("/")[2] != "__init__.py") - {""}


def _test_folder(path: str) -> str:
    """Return the highest folder of tests that a file lies in, or an empty text."""
    *folders, _ = path.split("/")
    return next(("/".join(folders[: n + 1]) for n, name in enumerate(folders) if name in _TEST_FOLDERS), "")


def _is_test(name: str) -> bool:
    """Return whether a file in a folder of tests is for their runner: a module of tests, or data that only those read."""
    return not name.endswith((".py", ".pyc", ".so")) or _is_test_module(name)


def _is_test_module(name: str) -> bool:
    return name.startswith("test_") or name == "conftest.py"
