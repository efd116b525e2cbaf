"""Environments that hold invented distributions, and a desk at which the command is run."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest

from tests.support.desk import Desk, listing
from tests.support.places import TOOL
from tests.support.pythons import MAIN, VERSIONS, need_python
from tests.support.sites import create_environment, install, temporary_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.sites import Environment

ALPHA_KEPT = {"alpha/__init__.py", "alpha/core.py", "alpha/data.txt"}
HANDLER = "import alpha\n\n\ndef handler(event, context):\n    return {'value': alpha.VALUE, 'event': event}\n"


@pytest.fixture
def make_env() -> Iterator[Callable[..., Environment]]:
    """Make virtual environments that are gone after the test."""
    with temporary_folder() as folder:
        yield functools.partial(_make_env, folder)


def _make_env(folder: Path, version: str = MAIN, *options: str, base: str = "") -> Environment:
    return create_environment(folder / f"venv{len(list(folder.iterdir()))}", base or need_python(version), *options)


@pytest.fixture
def desk() -> Iterator[Desk]:
    """Return an empty desk."""
    with temporary_folder() as folder:
        made = Desk(folder / "desk")
        yield made


@pytest.fixture
def handler(desk: Desk) -> Path:
    """Return a handler that uses alpha."""
    return desk.write("handler.py", HANDLER)


@pytest.fixture(scope="session")
def make_lasting_env(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Environment]:
    """Make virtual environments that several tests share."""
    return lambda: _make_env(tmp_path_factory.mktemp("env"))


@pytest.fixture(scope="session")
def new_desk(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Desk]:
    """Return further desks, for what several tests share."""
    return lambda: Desk(tmp_path_factory.mktemp("desk") / "desk")


@pytest.fixture(scope="session")
def kept_of_alpha() -> set[str]:
    return set(ALPHA_KEPT)


@pytest.fixture(scope="session")
def add() -> Callable[..., None]:
    """Put an invented distribution into a folder: add(site, name, files)."""
    return install


@pytest.fixture(scope="session")
def state() -> Callable[..., dict[str, tuple[object, ...]]]:
    """Tell all of what is below some folders."""
    return listing


@pytest.fixture(scope="session")
def tool() -> tuple[str, ...]:
    """Return the start of the command line."""
    return TOOL


@pytest.fixture(scope="session")
def main_version() -> str:
    return MAIN


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """Return every CPython that is here, one after another."""
    need_python(request.param)
    return str(request.param)
