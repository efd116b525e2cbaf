"""The build context of an image: the tool, the requirements files, and pip's settings."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from typing import TYPE_CHECKING

from layer_minimizer.container import build_context
from layer_minimizer.native import parts

if TYPE_CHECKING:
    from pathlib import Path


def test_tool_runs_from_its_folder_alone(tmp_path: Path) -> None:
    build_context.add_tool(tmp_path / "tool", "amd64")
    assert not list(tmp_path.rglob("__pycache__"))
    # -S: nothing of this environment's packages is there.
    done = subprocess.run(
        [sys.executable, "-I", "-S", tmp_path / "tool", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{importlib.metadata.version('layer_minimizer')}\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", tmp_path / "tool"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, "nothing to trace" in done.stderr) == (2, True), done.stderr


def test_compilations_are_those_of_the_installation(tmp_path: Path) -> None:
    """The commands work unchanged, and make libraries with the same interface as the installed ones."""
    for command in build_context.add_tool(tmp_path, "other"):
        subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    made = sorted(path.name for path in (tmp_path / "layer_minimizer" / "native").glob("*.so"))
    assert made == ["_coldpages.other.so", "_pagetrace.other.so"]
    installed = parts.runtime_library()
    assert installed is not None
    for library in (installed, tmp_path / "layer_minimizer" / "native" / "_coldpages.other.so"):
        assert b"liblayercold.so" in library.read_bytes()
