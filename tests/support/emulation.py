"""Commands in which programs for arm64 run on another machine, without a change to the machine."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from . import debian

_EMULATOR = "qemu-aarch64-static"


@functools.cache
def prefix() -> tuple[str, ...]:
    """Return what to put in front of a command so that programs for arm64 run in it, or skip the test."""
    if platform.machine() == "aarch64":
        pytest.skip("this machine runs programs for arm64 itself")
    emulator = shutil.which(_EMULATOR)
    if emulator is None:
        pytest.skip(f"there is no {_EMULATOR} (Debian: qemu-user-static)")
    if os.geteuid():
        pytest.skip("not root, who can register an emulator in a user namespace")
    made = (sys.executable, "-I", str(Path(__file__).with_name("binfmt.py")), emulator)
    tried = subprocess.run([*made, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no emulator can be registered in a user namespace (Linux 6.7): {tried.stderr.strip()}")
    return made


def arm64_root() -> Path:
    """Return the folder of a Debian system for arm64 with Python 3.11, or skip the test."""
    return debian.tree_of("bookworm", "python3,libstdc++6,base-files", "--architectures=arm64")
