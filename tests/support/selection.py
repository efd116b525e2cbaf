"""What one run of the tests leaves for another one, and why; the end of a run tells it.

A test that is left out is deselected, and never counts as passed. Without the options below nothing is left out.

``--turn N/3`` takes a third of what takes long, and the next two commits take the rest:

* of the cases every third one;
* of the interpreters, in tests of all of them, two beside the oldest, the tests' own and the newest;
* of the tests marked ``turn(1)``, ``turn(2)`` and ``turn(3)`` those of one number.

``--proofs FOLDER`` leaves out what has passed on this machine with the same inputs. That holds for the tests in
proofs.py: their inputs are all files of the package but those that proofs.py names as without influence, the files
beside the test and those that proofs.py names, the shared files of the tests, pyproject.toml, what is installed, and
the interpreters. The folder keeps a file for each test that has passed, named after it and its inputs.

``--all`` leaves nothing out, whatever else is said.
"""

from __future__ import annotations

import functools
import hashlib
import platform
import sys
import time
from collections import defaultdict
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from .places import CHECKOUT, PACKAGE, TESTS
from .proofs import inputs_of
from .pythons import MAIN, VERSIONS, find_python

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from .proofs import Inputs

TURNS = 3
_NO_INPUT = ("__pycache__", "out")
_KEPT_DAYS = 60
# So many tests of a folder are named, and more are counted.
_NAMED = 20
_PROOF = "proof"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that choose among the tests."""
    group = parser.getgroup("selection", "what a run leaves for another one")
    group.addoption("--all", action="store_true", help="leave nothing out")
    group.addoption("--turn", metavar=f"N/{TURNS}", help="of what takes long only one part; default: all of it")
    group.addoption("--proofs", metavar="FOLDER", help="leave out what has passed with the same inputs, says FOLDER")


def pytest_configure(config: pytest.Config) -> None:
    """Tell all processes of a run the time of its beginning: what passes later has not passed before."""
    config.stash[_BEGUN] = getattr(config, "workerinput", {}).get("begun") or time.time()
    config.stash[_LEFT] = {}


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Hand the time of the beginning to a process that runs tests."""
    node.workerinput["begun"] = node.config.stash[_BEGUN]


_BEGUN = pytest.StashKey[float]()
_LEFT = pytest.StashKey[dict[str, list[str]]]()


# ---- choosing --------------------------------------------------------------------------------------------------------


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is another run's, and note why."""
    reasons = _proved(config, items) | _others(config, items)
    left = [item for item in items if item.nodeid in reasons]
    if left and not config.getoption("--all"):
        items[:] = [item for item in items if item.nodeid not in reasons]
        config.hook.pytest_deselected(items=left)
        for item in left:
            config.stash[_LEFT].setdefault(reasons[item.nodeid], []).append(item.nodeid)


def _others(config: pytest.Config, items: list[pytest.Item]) -> dict[str, str]:
    given = config.getoption("--turn")
    if not given:
        return {}
    known = [f"{number + 1}/{TURNS}" for number in range(TURNS)]
    if given not in known:
        raise pytest.UsageError(f"--turn {given} is none of {', '.join(known)}")
    return others(items, known.index(given) + 1, [version for version in VERSIONS if find_python(version)])


def _proved(config: pytest.Config, items: list[pytest.Item]) -> dict[str, str]:
    """Return tests the names of their proofs, and return those that have passed before this run began."""
    folder = config.getoption("--proofs")
    if not folder:
        return {}
    known = {path.name for path in Path(folder).glob("*") if path.stat().st_mtime < config.stash[_BEGUN]}
    found = {}
    for item in items:
        if inputs := inputs_of(item):
            name = _proof(item, inputs)
            item.user_properties.append((_PROOF, name))
            if name in known:
                found[item.nodeid] = "passed here with the same inputs"
    return found


def others(items: Iterable[pytest.Item], number: int, present: Sequence[str]) -> dict[str, str]:
    """Return the tests of which it is not the turn, with the reason; ``present`` are the CPythons of this machine."""
    found: dict[str, str] = {}
    cases = sorted((item for item in items if item.get_closest_marker("case")), key=_weight)
    for at, item in enumerate(cases):
        if at % TURNS != number - 1:
            found[item.nodeid] = "cases"
    rest = [version for version in present if version not in (VERSIONS[0], MAIN, present[-1])]
    of_all = _of_all_versions(items)
    for item in items:
        mark = item.get_closest_marker("turn")
        if mark and mark.args[0] != number:
            found[item.nodeid] = "large tests"
        version = _version(item)
        if version in rest and _function(item) in of_all and rest.index(version) % TURNS != number - 1:
            found.setdefault(item.nodeid, "tests for other CPythons")
    return found


def _weight(item: pytest.Item) -> tuple[bool, str]:
    """Order the cases: each part gets as many of the heavy ones as another, and then of the others."""
    return item.get_closest_marker("heavy") is None, item.nodeid


def _function(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def _version(item: pytest.Item) -> str:
    """Return the version of CPython that a test is run for, or an empty text."""
    values = getattr(item, "callspec", None) and item.callspec.params.values()  # type: ignore[attr-defined]
    for value in values or ():
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, str) and part in VERSIONS:
                return part
    return ""


def _of_all_versions(items: Iterable[pytest.Item]) -> set[str]:
    """Return the test functions that are run for each version of CPython."""
    seen = defaultdict(set)
    for item in items:
        seen[_function(item)].add(_version(item))
    return {function for function, versions in seen.items() if versions >= set(VERSIONS)}


# ---- what has passed -------------------------------------------------------------------------------------------------


def _proof(item: pytest.Item, inputs: Inputs) -> str:
    """Return the name of the file that says that a test has passed with these inputs."""
    parts = [item.nodeid, _package(inputs.regardless_of), _beside(item.path.parent), _shared(), _surroundings()]
    parts += [_folder(CHECKOUT / each) for each in inputs.files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


@functools.cache
def _package(regardless_of: tuple[str, ...]) -> str:
    """Return a digest of the package but for these rooms or modules of it."""
    left = tuple(PACKAGE / name for name in regardless_of)
    kept = (
        path
        for path in _files(PACKAGE)
        if not any(path == name or path == name.with_suffix(".py") or path.is_relative_to(name) for name in left)
    )
    return _digest(kept, PACKAGE)


@functools.cache
def _beside(folder: Path) -> str:
    return _digest((path for path in sorted(folder.iterdir()) if path.is_file()), folder)


@functools.cache
def _folder(folder: Path) -> str:
    return _digest(_files(folder), folder)


@functools.cache
def _shared() -> str:
    shared = [*_files(TESTS / "support"), TESTS / "conftest.py", *sorted(TESTS.glob("*/conftest.py"))]
    return _digest([*shared, CHECKOUT / "pyproject.toml"], CHECKOUT)


@functools.cache
def _surroundings() -> str:
    """Return what this machine has: interpreters, and what is installed beside the tests."""
    installed = sorted({f"{each.name} {each.version}" for each in metadata.distributions()})
    return "\n".join([sys.version, platform.platform(), *map(find_python, VERSIONS), *installed])


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
        return
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not set(_NO_INPUT) & set(path.relative_to(folder).parts):
            yield path


def _digest(paths: Iterable[Path], top: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        name = path.relative_to(top) if path != top else path.name
        digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


# ---- what became of it -----------------------------------------------------------------------------------------------


class Ledger:
    """Notes in the folder of proofs which tests have passed; lives where the results come together."""

    def __init__(self, folder: Path) -> None:
        """Begin with a folder, and forget what nobody has asked for in a long time."""
        self._folder = folder
        self._failed: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if time.time() - path.stat().st_mtime > _KEPT_DAYS * 86400:
                path.unlink(missing_ok=True)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note that a test has passed, when it has ended in all its parts; a skipped one has not."""
        name = dict(report.user_properties).get(_PROOF)
        if not isinstance(name, str):
            return
        if report.outcome != "passed":
            self._failed.add(report.nodeid)
        if report.when == "teardown" and report.nodeid not in self._failed:
            (self._folder / name).touch()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Begin to note, in the process in which the results come together."""
    folder = session.config.getoption("--proofs")
    if folder and not hasattr(session.config, "workerinput"):
        session.config.pluginmanager.register(Ledger(Path(folder)))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what was left out to the process that prints it."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left"] = session.config.stash[_LEFT]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what was left out from the first process that ends; the others have left out the same."""
    left: Mapping[str, Collection[str]] = getattr(node, "workeroutput", {}).get("left", {})
    if left and not node.config.stash[_LEFT]:
        node.config.stash[_LEFT].update({reason: list(names) for reason, names in left.items()})
        node.config.hook.pytest_deselected(
            items=[SimpleNamespace(nodeid=name) for names in left.values() for name in names]
        )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what this run has left for another one, and why."""
    left = config.stash[_LEFT]
    if not left:
        return
    turn = config.getoption("--turn")
    terminalreporter.section("left out; --all runs it")
    for reason, names in sorted(left.items()):
        why = "" if reason.startswith("passed") else f" whose turn it is not; this run's is {turn}"
        terminalreporter.line(f"{len(names)} {reason}{why}")
        for line in _by_file(names):
            terminalreporter.line(f"  {line}")


def _by_file(names: Iterable[str]) -> list[str]:
    """Return lines that name tests, or count those of a folder of which there are many."""
    folders = defaultdict(list)
    for name in names:
        file, _, test = name.partition("::")
        folders[file.rpartition("/")[0]].append(test)
    return [
        f"{folder}: {', '.join(tests) if len(tests) <= _NAMED else f'{len(tests)} tests'}"
        for folder, tests in sorted(folders.items())
    ]
