"""The CPythons of this machine, and fixtures that skip a test if the machine lacks something."""

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

from .debian_pythons import installed
from .places import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable

VERSIONS = tuple(f"3.{minor}" for minor in range(6, 16))
MAIN = f"{sys.version_info.major}.{sys.version_info.minor}"


@functools.cache
def find_python(version: str) -> str:
    """Return the path of a CPython of this version, from PATH, pyenv or the cache, or an empty string."""
    if version == MAIN:
        return os.path.realpath(sys.executable)
    candidates = [shutil.which(f"python{version}") or ""]
    if pyenv := shutil.which("pyenv"):
        root = subprocess.run([pyenv, "root"], check=True, capture_output=True, text=True).stdout.strip()
        candidates += sorted(str(path) for path in Path(root, "versions").glob(f"{version}.*/bin/python{version}"))
    candidates.append(str(installed(version)) if installed(version).exists() else "")
    query = "import os, sys; print('%d.%d %s' % (sys.version_info[:2] + (os.path.realpath(sys.executable),)))"
    for candidate in filter(None, candidates):
        # pyenv has shims on PATH for versions that are not selected, too; these fail.
        done = subprocess.run([candidate, "-E", "-c", query], check=False, capture_output=True, text=True)
        if done.returncode == 0 and done.stdout.startswith(f"{version} "):
            return done.stdout.strip().partition(" ")[2]
    return ""


@functools.cache
def name_of_version(python: str) -> str:
    """Return the version of an interpreter, such as ``3.11``."""
    query = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([python, "-I", "-c", query], check=True, capture_output=True, text=True).stdout.strip()


def version_of(python: str) -> tuple[int, ...]:
    """Return the version of an interpreter, such as ``(3, 11)``."""
    return tuple(map(int, name_of_version(python).split(".")))


def need_python(version: str) -> str:
    """Return the path of a CPython of this version, or skip the test."""
    found = find_python(version)
    if not found:
        pytest.skip(f"CPython {version} is not here: on PATH, with pyenv, or made by tests/support/debian_pythons.py")
    return found


@pytest.fixture(scope="session", params=VERSIONS)
def cpython(request: pytest.FixtureRequest) -> str:
    """Return each supported CPython in turn."""
    return need_python(request.param)


@pytest.fixture(scope="session")
def python_of() -> Callable[[str], str]:
    """Return a function that returns the path of a version, or skips the test."""
    return need_python


@pytest.fixture(scope="session")
def base_python() -> str:
    """Return the interpreter from which the environment of the tests was created."""
    return str(getattr(sys, "_base_executable", sys.executable))


@pytest.fixture(scope="session")
def requirements_env() -> Callable[[str, Path], Path]:
    """Return a function that returns the Python of a cached environment with the requirements of a file."""
    script = 'source "$1/common.sh"; base=$(require_python); requirements_env "$2" "$base" "$3"'

    def make(name: str, requirements: Path) -> Path:
        command = ["bash", "-euo", "pipefail", "-c", script, "bash", EXAMPLES, name, requirements]
        done = subprocess.run(command, text=True, capture_output=True, check=False, timeout=1200)
        assert done.returncode == 0, done.stderr
        return Path(done.stdout.strip())

    return make


@pytest.fixture
def strace() -> None:
    """Skip the test if system calls cannot be traced."""
    if strace_command() is None:
        pytest.skip("strace is not installed, or is not permitted to trace")


@pytest.fixture
def namespaces() -> None:
    """Skip the test if folders cannot be hidden from a process."""
    if not process.can_isolate():
        pytest.skip("mount namespaces cannot be created here")


@pytest.fixture(scope="session")
def in_mounts() -> Callable[..., tuple[str, ...]]:
    """Return a function for the prefix of a command: shell code before and after it in a mount namespace; or skip."""
    unshare = shutil.which("unshare")
    options = ("-m",) if os.geteuid() == 0 else ("-r", "-m")
    if unshare is None:
        pytest.skip("unshare is not installed")
    tried = [unshare, *options, "mount", "-t", "tmpfs", "none", tempfile.gettempdir()]
    if subprocess.run(tried, check=False, capture_output=True).returncode != 0:
        pytest.skip("mount namespaces cannot be created here")

    def start(before: str, after: str = "") -> tuple[str, ...]:
        script = f'set -e\n{before}\nset +e\n"$@"\ncode=$?\n{after}\nexit $code'
        return (unshare, *options, "sh", "-c", script, "sh")

    return start
