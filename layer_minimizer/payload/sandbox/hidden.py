"""Runs a command in a mount namespace in which some folders are empty or read-only.

Asked for with ``{"hide": [...], "show": [...], "read_only": [...]}``. A program of its own, since a namespace belongs
to a process: root makes it directly, other users inside a user namespace where the kernel allows it. Only the standard
library, with ctypes for unshare(2) and mount(2) (Python has them from 3.12 on).
"""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from typing import NoReturn

FAILED = 125
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
# Mount flags that must be kept by a remount in a user namespace (statvfs bit, mount flag).
LOCKED = ((os.ST_NOSUID, 2), (os.ST_NODEV, 4), (os.ST_NOEXEC, 8), (os.ST_NOATIME, 1024), (os.ST_RELATIME, 1 << 21))

libc = ctypes.CDLL(None, use_errno=True)


def check(status: int, what: str) -> None:
    """Raise the error that a function of the C library reports with its status.

    Raises:
        OSError: it failed.
    """
    if status != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """Mount ``source`` on ``target`` with the flags and data of the system call.

    Raises:
        OSError: it failed.
    """
    arguments = (os.fsencode(source), os.fsencode(target), kind.encode() if kind else None)
    check(libc.mount(*arguments, ctypes.c_ulong(flags), data.encode() or None), f"mount {source} on {target}")


def enter_namespace() -> None:
    """Create a mount namespace, whose changes are not visible to other processes."""
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        check(libc.unshare(CLONE_NEWNS), "unshare")
    else:
        check(libc.unshare(CLONE_NEWNS | CLONE_NEWUSER), "unshare")
        for file, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{file}", "w") as out:
                out.write(text)
    mount("none", "/", None, MS_REC | MS_PRIVATE)


def hide(folder: str, shown: list[str]) -> None:
    """Hide the content of ``folder`` except for the paths in ``shown``."""
    with tempfile.TemporaryDirectory(prefix="layer_minimizer-") as original:
        mount(folder, original, None, MS_BIND | MS_REC)
        mount("none", folder, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
        for path in shown:
            _show(os.path.join(original, os.path.relpath(path, folder)), path)
        check(libc.umount2(os.fsencode(original), 2), f"umount {original}")


def _show(source: str, target: str) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
        return
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    mount(source, target, None, MS_BIND)


def protect(folder: str) -> None:
    """Make ``folder`` read-only."""
    mount(folder, folder, None, MS_BIND)
    make_read_only(folder, os.statvfs(folder).f_flag)


def make_read_only(place: str, have: int) -> None:
    """Make the mount at ``place`` read-only; ``have`` are its flags from statvfs."""
    locked = sum(flag for bit, flag in LOCKED if have & bit)
    mount("none", place, None, MS_BIND | MS_REMOUNT | MS_RDONLY | locked)


def fail(error: Exception) -> NoReturn:
    """Exit with the code for a file system that cannot be created."""
    sys.stderr.write(f"cannot isolate the run: {error}\n")
    sys.exit(FAILED)


def run(wanted: dict[str, list[str]], command: list[str]) -> NoReturn:
    """Create the namespace, and replace this process by the command."""
    try:
        enter_namespace()
        for folder in wanted["hide"]:
            hide(folder, [path for path in wanted["show"] if path.startswith(folder + "/")])
        for folder in wanted["read_only"]:
            protect(folder)
        os.chdir(os.getcwd())  # the folder may be covered by a mount made after this process entered it
    except OSError as exc:
        fail(exc)
    os.execvp(command[0], command)  # noqa: S606 - intended
