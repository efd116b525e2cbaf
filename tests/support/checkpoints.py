"""Snapshots of processes with CRIU: a process ends with one, and each restored copy goes on from there.

Lambda takes its snapshots of the whole virtual machine, with /tmp; of these only the process is one here, and /tmp is
what a test makes of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from .debian import tree_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

SECONDS = 60


@dataclass(frozen=True, slots=True)
class Criu:
    """A CRIU that works with this kernel."""

    command: tuple[str, ...]

    def dump(self, process: subprocess.Popen[bytes], images: Path) -> None:
        """Take a snapshot of a process, which ends with it."""
        images.mkdir()
        self._run("dump", "--tree", str(process.pid), "--images-dir", str(images))
        process.wait(SECONDS)

    def restore(self, images: Path) -> subprocess.Popen[bytes]:
        """Start a restored copy: with its process number, in a namespace in which that is free."""
        apart = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
        log = images.parent / f"{images.name}-{time.monotonic_ns()}.log"
        restore = (*self.command, "restore", "--images-dir", str(images), "--log-file", str(log))
        return subprocess.Popen((*apart, *restore), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(
            (*self.command, *arguments, "--log-file", "criu.log"),
            check=False, capture_output=True, text=True, timeout=SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def criu() -> Criu:
    """Return a CRIU that works here, or skip the test."""
    return find_criu()


def find_criu() -> Criu:
    """Return a CRIU that works here, installed or Debian's newest, or skip the test."""
    if os.geteuid():
        pytest.skip("only root can restore processes")
    if (found := shutil.which("criu")) and _works(installed := (found,)):
        return Criu(installed)
    # An old one does not know new kernels.
    root = tree_of("sid", "criu")
    libraries = root / "usr/lib" / f"{os.uname().machine}-linux-gnu"
    loader = next(iter([*libraries.glob("ld-linux-*.so.*"), *(root / "usr/lib").glob("ld-linux-*.so.*")]))
    own = (str(loader), "--library-path", str(libraries), str(root / "usr/sbin/criu"))
    if not _works(own):
        pytest.skip("CRIU does not work with this kernel")
    return Criu(own)


def _works(command: Sequence[str]) -> bool:
    done = subprocess.run([*command, "check"], check=False, capture_output=True, timeout=SECONDS)
    return done.returncode == 0


def start(command: Sequence[str | Path], folder: Path, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a process of which a snapshot can be taken: no terminal, its output in the file ``output``."""
    with (folder / "output").open("wb") as output:
        return subprocess.Popen(
            list(map(str, command)), cwd=folder, env=dict(variables), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip


def wait_for(file: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until a process has written a file."""
    for _ in _attempts():
        if file.exists():
            return
        assert process.poll() is None, f"the process ended ({process.returncode}) and wrote no {file.name}"
    raise AssertionError(f"{file.name} was not written in {SECONDS} seconds")


def _attempts() -> Iterator[int]:
    for attempt in range(SECONDS * 50):
        yield attempt
        time.sleep(0.02)
