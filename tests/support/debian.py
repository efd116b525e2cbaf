"""Debian as tars and trees, made with mmdebstrap and kept in the cache."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from .places import cache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECONDS = 900


@functools.cache
def mirrors() -> list[str]:
    """Return the mirrors that apt has been told of; the empty text stands for the one that mmdebstrap knows."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    try:
        shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        shown = ""
    return [*sorted({line for line in shown.splitlines() if line.rstrip("/").endswith("/debian")}), ""]


def tar_of(suite: str, packages: str) -> Path:
    """Return a tar of a release with these packages and what they need, made now if it was not there, or skip."""
    return _kept(suite, packages, ".tar", lambda part: _fill(part, suite, packages, "minbase"))


def tree_of(suite: str, packages: str) -> Path:
    """Return the root of a release that has these packages unpacked, made now if it was not there, or skip."""
    return _kept(suite, packages, "", lambda part: _fill(part, suite, packages, "extract"))


def _kept(suite: str, packages: str, suffix: str, make: Callable[[Path], None]) -> Path:
    """Return what lies in the cache, or comes there whole; another list of packages is another one."""
    digest = hashlib.sha256(packages.encode()).hexdigest()[:12]
    kept = cache() / f"debian-{suite}-{digest}{suffix}"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with kept.with_name(f"{kept.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            part = kept.with_name(f"part-{kept.name}")
            _remove(part)
            make(part)
            part.rename(kept)
    return kept


def _fill(part: Path, suite: str, packages: str, variant: str) -> None:
    maker = shutil.which("mmdebstrap")
    if maker is None:
        pytest.skip("there is no mmdebstrap, which makes a Debian without a registry")
    said = ""
    for mirror in mirrors():
        command = [maker, "--quiet", f"--variant={variant}", f"--include={packages}", suite, str(part)]
        try:
            done = subprocess.run(
                [*command, mirror] if mirror else command,
                check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            said = f"no end after {SECONDS} seconds"
        else:
            if done.returncode == 0:
                return
            said = next((line for line in done.stderr.splitlines() if line.startswith("E")), done.stderr.strip())
        _remove(part)
    pytest.skip(f"mmdebstrap cannot make Debian {suite} here: {said[-500:]}")


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part)
    part.unlink(missing_ok=True)
