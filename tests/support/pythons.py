"""The CPythons of this machine, and what else of it a test may need or be skipped."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from layer_minimizer.execution import process
from layer_minimizer.execution.strace import strace_command

from .places import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable

VERSIONS = tuple(f"3.{minor}" for minor in range(6, 15))
MAIN = f"{sys.version_info.major}.{sys.version_info.minor}"


@functools.cache
def find_python(version: str) -> str:
    """Return the path of a CPython of this version, from PATH or from pyenv, or an empty text."""
    if version == MAIN:
        return os.path.realpath(sys.executable)
    candidates = [shutil.which(f"python{version}") or ""]
    if pyenv := shutil.which("pyenv"):
        root = subprocess.run([pyenv, "root"], check=True, capture_output=True, text=True).stdout.strip()
        candidates += sorted(str(path) for path in Path(root, "versions").glob(f"{version}.*/bin/python{version}"))
    ask = "import os, sys; print('%d.%d %s' % (sys.version_info[:2] + (os.path.realpath(sys.executable),)))"
    for candidate in filter(None, candidates):
        # A shim of pyenv's lies on PATH for versions that are not chosen, too: only one that answers counts.
        asked = subprocess.run([candidate, "-E", "-c", ask], check=False, capture_output=True, text=True)
        if asked.returncode == 0 and asked.stdout.startswith(f"{version} "):
            return asked.stdout.strip().partition(" ")[2]
    return ""


def need_python(version: str) -> str:
    """Return the path of a CPython of this version, or skip the test."""
    found = find_python(version)
    if not found:
        pytest.skip(f"there is no CPython {version} on PATH or under pyenv")
    return found


@pytest.fixture(scope="session", params=VERSIONS)
def cpython(request: pytest.FixtureRequest) -> str:
    """Every CPython that can be minimized, one after the other."""
    return need_python(request.param)


@pytest.fixture(scope="session")
def python_of() -> Callable[[str], str]:
    """Return the path of one version, or skip the test."""
    return need_python


@pytest.fixture(scope="session")
def base_python() -> str:
    """The interpreter that the environment of these tests was made from."""
    return str(getattr(sys, "_base_executable", sys.executable))


@pytest.fixture(scope="session")
def requirements_env() -> Callable[[str, Path], Path]:
    """Return the Python of an environment with the requirements of a file, which is made once and cached."""
    script = 'source "$1/common.sh"; base=$(require_python); requirements_env "$2" "$base" "$3"'

    def make(name: str, requirements: Path) -> Path:
        command = ["bash", "-euo", "pipefail", "-c", script, "bash", EXAMPLES, name, requirements]
        done = subprocess.run(command, text=True, capture_output=True, check=False, timeout=1200)
        assert done.returncode == 0, done.stderr
        return Path(done.stdout.strip())

    return make


@pytest.fixture
def strace() -> None:
    """Skip where system calls cannot be observed."""
    if strace_command() is None:
        pytest.skip("strace is not installed, or may not trace here")


@pytest.fixture
def namespaces() -> None:
    """Skip where folders cannot be hidden from a process."""
    if not process.can_isolate():
        pytest.skip("mount namespaces cannot be made here")


@pytest.fixture(scope="session")
def in_mounts() -> Callable[..., tuple[str, ...]]:
    """Return the start of a command line that runs shell code in a mount namespace before and after it, or skip."""
    unshare = shutil.which("unshare")
    options = ("-m",) if os.geteuid() == 0 else ("-r", "-m")
    if unshare is None:
        pytest.skip("there is no program unshare here")
    tried = [unshare, *options, "mount", "-t", "tmpfs", "none", tempfile.gettempdir()]
    if subprocess.run(tried, check=False, capture_output=True).returncode != 0:
        pytest.skip("mount namespaces cannot be made here")

    def start(before: str, after: str = "") -> tuple[str, ...]:
        script = f'set -e\n{before}\nset +e\n"$@"\ncode=$?\n{after}\nexit $code'
        return (unshare, *options, "sh", "-c", script, "sh")

    return start
