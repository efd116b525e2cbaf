"""Programs from the npm registry, installed once in the cache."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from .places import cache

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 600


def node_modules(*packages: str) -> Path:
    """Return a cached folder ``node_modules`` with these packages, such as ``serverless@3``, or skip the test."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node or npm is not installed")
    name = f"npm-{hashlib.sha256(' '.join(packages).encode()).hexdigest()[:12]}"
    folder = cache() / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            part = folder.with_name(f"part-{name}")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            command = [npm, "install", "--prefix", part, "--no-audit", "--no-fund", "--ignore-scripts", *packages]
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
            assert done.returncode == 0, done.stderr
            part.rename(folder)
    return folder / "node_modules"
