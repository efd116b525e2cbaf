"""Processes always end, with all of their children, and cannot access hidden folders."""

from pathlib import Path

import pytest

from layer_minimizer.execution import probe
from layer_minimizer.execution.process import Completed, clean_environment
from layer_minimizer.execution.strace import strace_command, try_out


def test_endings_in_words() -> None:
    assert Completed(3, 1.0).ending == "ended with exit code 3"
    assert Completed(-9, 61.0, timed_out=True).ending == "did not end within 61 s and was stopped"


# ---- environment and files ----------------------------------------------------------------------------------------


def test_variables_of_this_tools_python_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED", "USERS_OWN"):
        monkeypatch.setenv(name, "1")
    found = clean_environment()
    assert {"PYTHONHASHSEED", "USERS_OWN"} <= found.keys()
    assert not {"PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE"} & found.keys()


def test_the_probe_is_copied_without_bytecode(tmp_path: Path) -> None:
    copied = probe.copy_probe(tmp_path)
    names = {str(path.relative_to(copied)) for path in copied.rglob("*")}
    assert {"probe.py", "harness.py", "describe.py", "startup/sitecustomize.py"} <= names
    assert not [name for name in names if "__pycache__" in name]


def test_without_the_program_there_is_no_command_for_strace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    try_out.cache_clear()
    try:
        assert strace_command() is None
    finally:
        try_out.cache_clear()
