"""Distribution of the tests over processes, and their order."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

_EXAMPLES, _OLD_EXAMPLES, _FASTAI_LIBRARIES = "examples", "old examples", "libraries of fastai"
# As many as there are processes: what comes next waits behind them.
_LONGEST = (f"{_EXAMPLES} fastai_vision]", _OLD_EXAMPLES, _FASTAI_LIBRARIES, "test_unseen_calls.py")


def _scope(nodeid: str) -> str:
    """Return the group of a test; one process runs all tests of a group: a file, or tests that share more than that."""
    file = nodeid.partition("::")[0]
    if file.endswith("test_cases.py"):
        return nodeid  # they share nothing, and their durations differ much
    if file.endswith("test_examples.py"):
        # An example writes to its own folder in the checkout, and those of fastai 1 need each other's.
        name = nodeid.partition("[")[2] or nodeid
        return _OLD_EXAMPLES if "fastai_v1" in name else f"{_EXAMPLES} {name}"
    if file.endswith("test_recorded.py"):
        return f"{_EXAMPLES} quickstart]"
    if file.endswith("test_dockerfiles.py"):
        return _OLD_EXAMPLES
    return _FASTAI_LIBRARIES if file.endswith(("test_real_stack.py", "test_soak.py")) else file


def _rank(item: pytest.Item) -> int:
    """Return the rank of a test: long ones start first, so that all processes end at about the same time."""
    scope = _scope(item.nodeid)
    ranks = [
        scope.endswith(_LONGEST),
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
