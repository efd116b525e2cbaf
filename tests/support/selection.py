"""Options that skip part of the tests in one run. The end of a run prints which tests were skipped, and why.

Skipped tests are deselected, and never count as passed. Without the following options nothing is skipped.

``--turn N/8`` runs an eighth of the long tests, and the next seven commits run the rest:

* of the tests that take 5 seconds or more, those that long_tests.json lists for this turn (see record_turns.py);
* in tests of all interpreters, two or three in addition to the oldest, the one that runs the tests, and the newest: so
  three commits run all of them.

``--proofs FOLDER`` skips tests that have passed on this machine with the same inputs. This concerns the tests in
proofs.py. Their inputs are the files of the package (except those that proofs.py excludes), the files in the folder of
the test, the files that proofs.py adds, the shared files of the tests, pyproject.toml, the installed distributions, and
the interpreters. The folder contains an empty file for each passed test, named by a hash of the test and its inputs.

``--all`` skips nothing, and overrides the other options.
"""

from __future__ import annotations

import functools
import hashlib
import json
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
from .record_turns import FILE, TURNS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from .proofs import Inputs

# So many commits run the tests of all interpreters.
_INTERPRETER_TURNS = 3
_IGNORED = ("__pycache__", "out")
_KEPT_DAYS = 60
# More tests of a folder are counted instead of named.
_NAMED = 20
_PROOF = "proof"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that select tests."""
    group = parser.getgroup("selection", "select part of the tests")
    group.addoption("--all", action="store_true", help="skip nothing")
    group.addoption("--turn", metavar=f"N/{TURNS}", help="run only this part of the long tests; default: all of them")
    group.addoption(
        "--proofs", metavar="FOLDER", help="skip tests that have passed with the same inputs, recorded in FOLDER"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Store the start time of the run, which is the same in all processes."""
    config.stash[_START] = getattr(config, "workerinput", {}).get("start") or time.time()
    config.stash[_SKIPPED] = {}


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Send the start time of the run to a worker process."""
    node.workerinput["start"] = node.config.stash[_START]


_START = pytest.StashKey[float]()
_SKIPPED = pytest.StashKey[dict[str, list[str]]]()


# ---- choosing --------------------------------------------------------------------------------------------------------


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests that are skipped in this run, and store the reasons."""
    reasons = _passed_before(config, items) | _other_turns(config, items)
    skipped = [item for item in items if item.nodeid in reasons]
    if skipped and not config.getoption("--all"):
        items[:] = [item for item in items if item.nodeid not in reasons]
        config.hook.pytest_deselected(items=skipped)
        for item in skipped:
            config.stash[_SKIPPED].setdefault(reasons[item.nodeid], []).append(item.nodeid)


def _other_turns(config: pytest.Config, items: list[pytest.Item]) -> dict[str, str]:
    given = config.getoption("--turn")
    if not given:
        return {}
    known = [f"{number + 1}/{TURNS}" for number in range(TURNS)]
    if given not in known:
        raise pytest.UsageError(f"--turn {given} must be one of {', '.join(known)}")
    turns: list[list[str]] = json.loads(FILE.read_bytes())
    present = [version for version in VERSIONS if find_python(version)]
    return other_turns(items, known.index(given), turns, present)


def _passed_before(config: pytest.Config, items: list[pytest.Item]) -> dict[str, str]:
    """Store the name of its proof in each test, and return the tests that passed before this run, with the reason."""
    folder = config.getoption("--proofs")
    if not folder:
        return {}
    known = {path.name for path in Path(folder).glob("*") if path.stat().st_mtime < config.stash[_START]}
    found = {}
    for item in items:
        if inputs := inputs_of(item):
            name = _proof(item, inputs)
            item.user_properties.append((_PROOF, name))
            if name in known:
                found[item.nodeid] = "passed here with the same inputs"
    return found


def other_turns(
    items: Iterable[pytest.Item], number: int, turns: Sequence[Iterable[str]], present: Sequence[str]
) -> dict[str, str]:
    """Return the tests of other turns than ``number`` (from 0), with the reason.

    ``turns``: the long tests of each turn; ``present``: the CPython versions on this machine.
    """
    found: dict[str, str] = {}
    others = {name for at, names in enumerate(turns) if at != number for name in names}
    rest = [version for version in present if version not in (VERSIONS[0], MAIN, present[-1])]
    of_all = _of_all_versions(items)
    for item in items:
        if {item.nodeid, item.nodeid.partition("::")[0]} & others:
            found[item.nodeid] = "long tests"
        version, turn = _version(item), number % _INTERPRETER_TURNS
        if version in rest and _function(item) in of_all and rest.index(version) % _INTERPRETER_TURNS != turn:
            found.setdefault(item.nodeid, "tests for other CPythons")
    return found


def _function(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def _version(item: pytest.Item) -> str:
    """Return the CPython version in the parameters of a test, or an empty string."""
    values = getattr(item, "callspec", None) and item.callspec.params.values()  # type: ignore[attr-defined]
    for value in values or ():
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, str) and part in VERSIONS:
                return part
    return ""


def _of_all_versions(items: Iterable[pytest.Item]) -> set[str]:
    """Return the test functions that run for every CPython version."""
    seen = defaultdict(set)
    for item in items:
        seen[_function(item)].add(_version(item))
    return {function for function, versions in seen.items() if versions >= set(VERSIONS)}


# ---- proofs ----------------------------------------------------------------------------------------------------------


def _proof(item: pytest.Item, inputs: Inputs) -> str:
    """Return the name of the file that records that a test has passed with these inputs."""
    parts = [item.nodeid, _package(inputs.regardless_of), _files_in(item.path.parent), _shared(), _machine()]
    parts += [_folder(CHECKOUT / each) for each in inputs.files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


@functools.cache
def _package(regardless_of: tuple[str, ...]) -> str:
    """Return a digest of the package without these rooms or modules."""
    skipped = tuple(PACKAGE / name for name in regardless_of)
    kept = (
        path
        for path in _files(PACKAGE)
        if not any(path == name or path == name.with_suffix(".py") or path.is_relative_to(name) for name in skipped)
    )
    return _digest(kept, PACKAGE)


@functools.cache
def _files_in(folder: Path) -> str:
    return _digest((path for path in sorted(folder.iterdir()) if path.is_file()), folder)


@functools.cache
def _folder(folder: Path) -> str:
    return _digest(_files(folder), folder)


@functools.cache
def _shared() -> str:
    shared = [*_files(TESTS / "support"), TESTS / "conftest.py", *sorted(TESTS.glob("*/conftest.py"))]
    return _digest([*shared, CHECKOUT / "pyproject.toml"], CHECKOUT)


@functools.cache
def _machine() -> str:
    """Return a description of this machine: system, interpreters, installed distributions."""
    installed = sorted({f"{each.name} {each.version}" for each in metadata.distributions()})
    return "\n".join([sys.version, platform.platform(), *map(find_python, VERSIONS), *installed])


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
        return
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not set(_IGNORED) & set(path.relative_to(folder).parts):
            yield path


def _digest(paths: Iterable[Path], top: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        name = path.relative_to(top) if path != top else path.name
        digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


# ---- results ---------------------------------------------------------------------------------------------------------


class Ledger:
    """Records passed tests in the folder of proofs; a plugin of the process that collects the results."""

    def __init__(self, folder: Path) -> None:
        """Create the folder, and delete old proofs."""
        self._folder = folder
        self._failed: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if time.time() - path.stat().st_mtime > _KEPT_DAYS * 86400:
                path.unlink(missing_ok=True)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record a test when its setup, call and teardown have passed."""
        name = dict(report.user_properties).get(_PROOF)
        if not isinstance(name, str):
            return
        if report.outcome != "passed":
            self._failed.add(report.nodeid)
        if report.when == "teardown" and report.nodeid not in self._failed:
            self._folder.mkdir(parents=True, exist_ok=True)  # the cache may be emptied during a run
            (self._folder / name).touch()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Register the ledger in the process that collects the results."""
    folder = session.config.getoption("--proofs")
    if folder and not hasattr(session.config, "workerinput"):
        session.config.pluginmanager.register(Ledger(Path(folder)))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the skipped tests to the process that prints them."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["skipped"] = session.config.stash[_SKIPPED]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the skipped tests from the first worker process that ends; all workers skip the same tests."""
    skipped: Mapping[str, Collection[str]] = getattr(node, "workeroutput", {}).get("skipped", {})
    if skipped and not node.config.stash[_SKIPPED]:
        node.config.stash[_SKIPPED].update({reason: list(names) for reason, names in skipped.items()})
        node.config.hook.pytest_deselected(
            items=[SimpleNamespace(nodeid=name) for names in skipped.values() for name in names]
        )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the tests that this run has skipped, and why."""
    skipped = config.stash[_SKIPPED]
    if not skipped:
        return
    turn = config.getoption("--turn")
    terminalreporter.section("skipped; --all runs them")
    for reason, names in sorted(skipped.items()):
        why = "" if reason.startswith("passed") else f" of another turn; this run has turn {turn}"
        terminalreporter.line(f"{len(names)} {reason}{why}")
        for line in _by_file(names):
            terminalreporter.line(f"  {line}")


def _by_file(names: Iterable[str]) -> list[str]:
    """Return a line per folder with the names of the tests, or their number if there are many."""
    folders = defaultdict(list)
    for name in names:
        file, _, test = name.partition("::")
        folders[file.rpartition("/")[0]].append(test)
    return [
        f"{folder}: {', '.join(tests) if len(tests) <= _NAMED else f'{len(tests)} tests'}"
        for folder, tests in sorted(folders.items())
    ]
