"""Distribution of the tests over processes, and their order."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

# Tests that run examples, each of which writes to its own folder in the checkout.
_WITH_EXAMPLES = (
    "test_examples.py",
    "test_real_stack.py",
    "test_soak.py",
    "test_unseen_calls.py",
    "test_dockerfiles.py",
    "test_recorded.py",
)
_EXAMPLES, _OLD_EXAMPLES = "examples", "old examples"


def _scope(nodeid: str) -> str:
    """Return the group of a test; one process runs all tests of a group: a file, or examples that share a folder."""
    file = nodeid.partition("::")[0]
    if file.endswith("test_cases.py"):
        return nodeid  # they share nothing, and their durations differ much
    if not file.endswith(_WITH_EXAMPLES):
        return file
    return _OLD_EXAMPLES if "fastai_v1" in nodeid or file.endswith("test_dockerfiles.py") else _EXAMPLES


def _rank(item: pytest.Item) -> int:
    """Return the rank of a test: long ones start first, so that all processes end at about the same time."""
    scope = _scope(item.nodeid)
    ranks = [
        scope == _EXAMPLES,
        scope == _OLD_EXAMPLES,
        item.get_closest_marker("heavy"),
        item.get_closest_marker("example"),
        "/integration/" in item.nodeid,
        "/system/" in item.nodeid,
    ]
    return next((at for at, found in enumerate(ranks) if found), len(ranks))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Distribute the tests over processes by group."""
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 - only where it is installed

    class ByScope(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _scope(nodeid)

    return ByScope(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests by rank and by the number of tests in a group; measure no coverage in system tests."""
    tests = Counter(_scope(item.nodeid) for item in items)
    items.sort(key=lambda item: (_rank(item), -tests[_scope(item.nodeid)], _scope(item.nodeid)))
    for item in items:
        # They run the command in other processes, and coverage would slow down what they measure.
        if "/system/" in item.nodeid:
            item.add_marker("no_cover")
