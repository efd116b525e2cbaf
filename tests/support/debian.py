"""Debian systems as tar files and folders, created with mmdebstrap and cached."""

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
# A mirror may be a snapshot, in which the index of a release that moves has expired.
_OF_ANY_AGE = '--aptopt=Acquire::Check-Valid-Until "false"'


class DebianError(Exception):
    """Packages of Debian cannot be had here."""


@functools.cache
def mirrors() -> list[str]:
    """Return the mirrors that apt is configured with, and an empty string for mmdebstrap's default."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    try:
        shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        shown = ""
    return [*sorted({line for line in shown.splitlines() if line.rstrip("/").endswith("/debian")}), ""]


def tar_of(suite: str, packages: str) -> Path:
    """Return a cached tar of a release with these packages and their dependencies, or skip the test."""
    return _of(suite, packages, ".tar", "minbase")


def tree_of(suite: str, packages: str, *more: str) -> Path:
    """Return the cached root folder of a release with these packages unpacked, or skip the test.

    ``more``: further options of mmdebstrap.
    """
    return _of(suite, packages, "", "extract", *more)


def _of(suite: str, packages: str, suffix: str, variant: str, *more: str) -> Path:
    digest = hashlib.sha256(" ".join((packages, *more)).encode()).hexdigest()[:12]
    try:
        return cached(f"debian-{suite}-{digest}{suffix}", lambda part: unpack(part, suite, packages, variant, *more))
    except DebianError as exc:
        pytest.skip(str(exc))


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """Return the path in the cache of what ``make`` creates at the path that it is given: once, atomically."""
    made = cache() / name
    made.parent.mkdir(parents=True, exist_ok=True)
    with made.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            part = made.with_name(f"part-{name}")
            _remove(part)
            make(part)
            part.rename(made)
    return made


def unpack(part: Path, suite: str, packages: str, variant: str, *more: str) -> None:
    """Put these packages of a release and their dependencies into a folder or tar, as mmdebstrap's ``variant`` says.

    Raises:
        DebianError: mmdebstrap is missing, or no mirror has them.
    """
    maker = shutil.which("mmdebstrap")
    if maker is None:
        raise DebianError("mmdebstrap, which creates Debian images without a registry, is not installed")
    output = ""
    for mirror in mirrors():
        command = [
            maker,
            "--quiet",
            f"--variant={variant}",
            f"--include={packages}",
            _OF_ANY_AGE,
            *more,
            suite,
            str(part),
        ]
        try:
            done = subprocess.run(
                [*command, mirror] if mirror else command,
                check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            output = f"timeout after {SECONDS} seconds"
        else:
            if done.returncode == 0:
                return
            output = next((line for line in done.stderr.splitlines() if line.startswith("E")), done.stderr.strip())
        _remove(part)
    raise DebianError(f"mmdebstrap cannot create Debian {suite} here: {output[-500:]}")


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part)
    part.unlink(missing_ok=True)
