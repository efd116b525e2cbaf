"""Recognize files that only a compiler or a test runner reads. Nothing here reads files itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from layer_minimizer.model.installed import InstalledFile

# Headers, sources of extension modules, static libraries and build files: only a compiler reads them.
_ENDINGS = (
    ".h", ".hh", ".hpp", ".hxx", ".cuh", ".inl", ".c", ".cc", ".cpp", ".f", ".f90", ".pyx", ".pxd", ".pxi",
    ".tp", ".a", ".lib", ".o", ".cmake", ".pc", ".gyp", ".def",
)  # fmt: skip
_PROGRAM_FOLDERS = {"bin", "sbin", "libexec"}
_TEST_FOLDERS = {"test", "tests"}
_TEST_PACKAGES = {*_TEST_FOLDERS, "testing", "_testing"}
# PyPI classifiers of distributions that are tools.
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
    """Return whether a distribution with these classifiers builds, installs or tests programs."""
    return any(classifier.startswith(_TOPICS_OF_TOOLS) for classifier in classifiers)


def is_test(path: str) -> bool:
    """Return whether a module is test code: the program does not need what it imports."""
    *folders, name = path.split("/")
    return bool(_TEST_PACKAGES & {*folders, name.partition(".")[0]}) or is_test_module(name)


def is_for_development(
    file: InstalledFile, used_tests: Collection[str] = (), of_programs: Collection[str] = ()
) -> bool:
    """Return whether an unused file can be dropped for good because no program in a layer would read it.

    ``used_tests`` are the test folders that the program itself uses: see `used_test_folders`. ``of_programs`` are
    folders of other programs, which may read any file there, as a compiler does: see `program_folders`.
    """
    if file.program or any(folder in of_programs for folder in _folders(file.path)):
        return False
    name = file.path.rpartition("/")[2]
    tests = not file.executable and _is_test(name) and outer_test_folder(file.path)
    return name.endswith(_ENDINGS) or bool(tests and tests not in used_tests)


def program_folders(files: Iterable[InstalledFile]) -> frozenset[str]:
    """Return the folders of programs in packages; of a program in ``bin``, the folder around it if it has no modules.

    A package of Python modules that has a ``bin`` has its headers for extension modules, not for this program.
    """
    files = tuple(files)
    folders = {file.path.rpartition("/")[0] for file in files if file.program}
    around = {folder.rpartition("/")[0] for folder in folders if folder.rpartition("/")[2] in _PROGRAM_FOLDERS}
    with_modules = {file.path.rpartition("/")[0] for file in files if file.path.endswith(".py")} if around else set()
    return frozenset((folders | (around - with_modules)) - {""})


def _folders(path: str) -> Iterator[str]:
    """Yield the folders that contain a file."""
    while path := path.rpartition("/")[0]:
        yield path


def used_test_folders(kept: Iterable[str]) -> frozenset[str]:
    """Return the test folders from which more than the ``__init__.py`` is kept."""
    return frozenset(outer_test_folder(path) for path in kept if path.rpartition("/")[2] != "__init__.py") - {""}


def outer_test_folder(path: str) -> str:
    """Return the outermost test folder that contains a file, or an empty string."""
    *folders, _ = path.split("/")
    return next(("/".join(folders[: n + 1]) for n, name in enumerate(folders) if name in _TEST_FOLDERS), "")


def _is_test(name: str) -> bool:
    """Return whether a file in a test folder is for the test runner: a test module, or data that test modules read."""
    return not name.endswith((".py", ".pyc", ".so")) or is_test_module(name)


def is_test_module(name: str) -> bool:
    """Return whether a module in a test folder has a file name that test runners look for."""
    return name.startswith("test_") or name == "conftest.py"
