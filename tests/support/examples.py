"""Copies of the examples, each of which writes to its own folder: tests with copies can run side by side."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from .places import EXAMPLES, MINIMIZE

if TYPE_CHECKING:
    from collections.abc import Mapping


def copy_example(name: str, folder: Path) -> Path:
    """Copy an example, without what it has made, and what all examples share to ``folder``; return the example's."""
    folder.mkdir(exist_ok=True)
    shutil.copy(EXAMPLES / "common.sh", folder)
    return Path(shutil.copytree(EXAMPLES / name, folder / name, ignore=shutil.ignore_patterns("out", "__pycache__")))


def run_example(
    example: Path, *arguments: str | Path, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the example in this folder with the installed tool."""
    environment = {**os.environ, **(variables or {}), "MINIMIZE": str(MINIMIZE)}
    return subprocess.run(
        [example / "run.sh", *arguments], env=environment, text=True, capture_output=True, check=False
    )


def environment_of(done: subprocess.CompletedProcess[str]) -> Path:
    """Return the environment that the run of an example says that it has used."""
    line = next(line for line in done.stderr.splitlines() if " the environment " in line)
    return Path(line.split(" the environment ")[1])
