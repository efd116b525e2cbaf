"""How the tests are divided among processes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

# These run examples, each of which works in a folder of its own in the checkout.
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
    """Name what one process runs as a whole: files, whose fixtures cost much, and examples that share a folder."""
    file = nodeid.partition("::")[0]
    if file.endswith("test_cases.py"):
        return nodeid  # nothing is shared, and the longest takes as long as ten others
    if not file.endswith(_WITH_EXAMPLES):
        return file
    return _OLD_EXAMPLES if "fastai_v1" in nodeid or file.endswith("test_dockerfiles.py") else _EXAMPLES


def _rank(item: pytest.Item) -> int:
    """Say what begins first: what takes long, so that no process has much to do when the others are at their end."""
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
    """Divide the tests among processes by their scopes."""
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 - only where it is installed

    class ByScope(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _scope(nodeid)

    return ByScope(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let begin first what takes long, and of that the files with most tests; measure coverage where it tells most."""
    tests = Counter(_scope(item.nodeid) for item in items)
    items.sort(key=lambda item: (_rank(item), -tests[_scope(item.nodeid)], _scope(item.nodeid)))
    for item in items:
        # These run the command in processes of its own, and what they run here is timed or played against the original.
        if "/system/" in item.nodeid:
            item.add_marker("no_cover")
