"""Runs a command in the file system of an unpacked container image: read-only except for /tmp, without network.

Asked for with ``{"root": DIR, "binds": [[SOURCE, TARGET]], "folder": DIR, "environment": {...}}``. ``root`` is the
unpacked image, in which the mount points are made; ``folder`` is the working directory in it. The command is an
ordinary user that the image does not know, and ends with its parent.
"""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

from hidden import FAILED, MS_BIND, MS_NODEV, MS_NOSUID, MS_REC, check, fail, libc, mount
from lambda_root import (
    DEVICES,
    MNT_DETACH,
    MS_NOEXEC,
    bind,
    drop_rights,
    enter_namespaces,
    pivot_root,
    protect,
    raise_loopback,
)


def prepare(root: str, wanted: dict[str, Any]) -> None:
    """Mount what is not in the image into its root folder."""
    mount(root, root, None, MS_BIND | MS_REC)
    for folder in ("proc", "tmp", "dev"):
        os.makedirs(f"{root}/{folder}", exist_ok=True)
    mount("none", f"{root}/dev", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    for name in DEVICES:
        bind(f"/dev/{name}", f"{root}/dev/{name}")
    os.symlink("/proc/self/fd", f"{root}/dev/fd")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.symlink(f"/proc/self/fd/{number}", f"{root}/dev/{name}")
    for source, target in wanted["binds"]:
        bind(source, root + target)
    protect(root)


def enter(root: str, folder: str) -> None:
    """Mount /tmp and /proc, and switch to the new root."""
    mount("none", os.path.join(root, "tmp"), "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    mount("proc", f"{root}/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    os.chdir(root)
    check(libc.syscall(pivot_root(), b".", b"."), "pivot_root")
    check(libc.umount2(b".", MNT_DETACH), "umount the old root")
    os.chdir(folder)


def run(wanted: dict[str, Any], command: list[str]) -> NoReturn:
    """Create the file system, run the command in it, and exit with its status."""
    os.umask(0o022)
    root = os.path.realpath(wanted["root"])
    try:
        enter_namespaces()
        raise_loopback()
        prepare(root, wanted)
    except (OSError, KeyError) as exc:
        fail(exc)
    # The new PID namespace starts with a child process.
    child = os.fork()
    if child == 0:
        try:
            enter(root, wanted["folder"])
            drop_rights()
            os.execve(command[0], command, wanted["environment"])  # noqa: S606
        except (OSError, KeyError) as exc:
            sys.stderr.write(f"cannot isolate the run: {exc}\n")
        os._exit(FAILED)
    _, status = os.waitpid(child, 0)
    sys.exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
