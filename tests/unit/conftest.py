"""Unit tests start no process and reach no network: whatever does is among the integration tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_REFUSED = frozenset(
    ("subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "socket.connect")
)
_running: list[str] = []


def _refuse(event: str, _arguments: tuple[object, ...]) -> None:
    if _running and event in _REFUSED:
        pytest.fail(f"a unit test must not do this: {event}; tests/integration has the tests that start processes")


sys.addaudithook(_refuse)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse processes for as long as a test of this folder runs, its own fixtures included."""
    if item.path.is_relative_to(_HERE):
        _running.append(item.nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """Allow them again: with the last test of a session the fixtures of all folders are taken down."""
    _running.clear()
