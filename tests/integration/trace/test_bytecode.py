"""The first run of a search uses the bytecode that is installed, and leaves it as it is."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layer_minimizer.environment.workload import load_workload
from layer_minimizer.execution.observed_run import Observer
from layer_minimizer.trace import tracer

HANDLER = "import pkg\n\ndef handler(event, context):\n    return pkg.VALUE\n"


@pytest.fixture
def installed(env: Any) -> Path:
    """Return the bytecode of a module, which is that of another source of the same size and time."""
    env.install("pkg", {"pkg/__init__.py": "VALUE = 2\n"})
    source = env.site / "pkg/__init__.py"
    times = (1_500_000_000, 1_500_000_000)
    os.utime(source, times)
    subprocess.run([env.python, "-m", "compileall", "-q", str(source)], check=True)
    source.write_text("VALUE = 1\n")
    os.utime(source, times)
    (bytecode,) = (env.site / "pkg/__pycache__").iterdir()
    return bytecode


def study(env: Any, folder: Path, write: Callable[..., Path]) -> tuple[str, Path]:
    """Return the result of a run with a folder for bytecode, and what that folder has for the module."""
    entry = write(folder / "function", {"handler.py": HANDLER}) / "handler.py"
    runs = tracer.Tracer(env.describe(), (Observer.PROBE,), 60, bytecode=folder / "bytecode")
    trace, _ = runs.study(load_workload(entry), folder / "first" / "run")
    (found,) = (folder / "bytecode").glob("**/pkg/__init__.*.pyc")
    return trace.results[0].value, found


def test_valid_bytecode_is_not_compiled_again(
    env: Any, installed: Path, tmp_path: Path, write: Callable[..., Path]
) -> None:
    result, found = study(env, tmp_path, write)
    assert result == "2"
    assert found.readlink() == installed


def test_bytecode_of_another_source_is_replaced_in_the_folder_alone(
    env: Any, installed: Path, tmp_path: Path, write: Callable[..., Path]
) -> None:
    os.utime(env.site / "pkg/__init__.py", (1_600_000_000, 1_600_000_000))
    before = installed.read_bytes()
    result, found = study(env, tmp_path, write)
    assert result == "1"
    assert not found.is_symlink()
    assert installed.read_bytes() == before
