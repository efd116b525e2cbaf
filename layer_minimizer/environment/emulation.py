"""Interpreters for another processor, which QEMU's user emulation runs: what they need, and what to do without it.

The kernel starts the emulator for such programs if it is registered (binfmt_misc). The rest of their system, from the
dynamic loader on, lies in a folder that QEMU searches before this machine's: QEMU_LD_PREFIX.
"""

from __future__ import annotations

import errno
import os
import platform
from pathlib import Path

from layer_minimizer.native.elf_image import MACHINES

# Read by QEMU, and by every process that this tool starts: https://www.qemu.org/docs/master/user/main.html
PREFIX = "QEMU_LD_PREFIX"
_LOADERS = {"x86_64": "lib64/ld-linux-x86-64.so.2", "aarch64": "lib/ld-linux-aarch64.so.1"}
_HEAD_BYTES = 20


def foreign_machine(program: str) -> str:
    """Return the architecture that a program is for; empty if it is this machine's, or not known."""
    try:
        with open(program, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return ""
    machine = MACHINES.get(int.from_bytes(head[18:], "little"), "") if head.startswith(b"\x7fELF") else ""
    return "" if machine == platform.machine() else machine


def prepare(program: str) -> None:
    """Let QEMU find the system of an interpreter for another processor: the outermost folder above it with a loader.

    Not the nearest: /lib may be a link to /usr/lib, so that /usr has one, too.

    It is set in this process' environment, since what is started may start the interpreter, too: uv does.
    """
    machine = foreign_machine(program)
    if not machine or os.environ.get(PREFIX) or os.path.exists(f"/{_LOADERS[machine]}"):
        return
    for folder in reversed(Path(os.path.realpath(program)).parents[:-1]):
        if os.path.lexists(folder / _LOADERS[machine]):
            os.environ[PREFIX] = str(folder)
            return


def system_root(program: str) -> str:
    """Return the folder with the system of an interpreter for another processor; empty for one of this machine."""
    root = os.path.realpath(os.environ.get(PREFIX) or "/")
    inside = root != "/" and os.path.realpath(program).startswith(f"{root}/")
    return root if inside and foreign_machine(os.path.realpath(program)) else ""


def hint(program: str, error: BaseException | None) -> str:
    """Return what to do if a program could not be started because it is for another processor; else an empty string."""
    machine = foreign_machine(program)
    if not machine or not isinstance(error, OSError) or error.errno != errno.ENOEXEC:
        return ""
    return (
        f": it is for {machine}, and this kernel knows no emulator for that (binfmt_misc). On Debian and Ubuntu, "
        "install qemu-user-static and binfmt-support; minimize help packages describes the rest"
    )
