"""Runs a command in a mount namespace of its own, in which some folders are empty or read-only.

usage: python -I _isolate.py '{"hide": [...], "show": [...], "read_only": [...]}' COMMAND...

A program of its own, since a namespace belongs to a process: root makes it directly, everybody else inside a user
namespace where the kernel allows it. Exit code 125 means that the namespace could not be made; otherwise the
command's own. Only the standard library, with ctypes for unshare(2) and mount(2) (Python has them from 3.12 on).
"""

import ctypes
import json
import os
import sys
import tempfile

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
# Flags of a mount that a user namespace may not take away when it remounts (statvfs bit, mount flag).
LOCKED = ((os.ST_NOSUID, 2), (os.ST_NODEV, 4), (os.ST_NOEXEC, 8), (os.ST_NOATIME, 1024), (os.ST_RELATIME, 1 << 21))

_libc = ctypes.CDLL(None, use_errno=True)


def _check(status: int, what: str) -> None:
    if status != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def _mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    arguments = (os.fsencode(source), os.fsencode(target), kind.encode() if kind else None)
    _check(_libc.mount(*arguments, ctypes.c_ulong(flags), data.encode() or None), f"mount {source} on {target}")


def enter_namespace() -> None:
    """Leave the mounts that this process shares with others; nothing done from here on is seen outside."""
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        _check(_libc.unshare(CLONE_NEWNS), "unshare")
    else:
        _check(_libc.unshare(CLONE_NEWNS | CLONE_NEWUSER), "unshare")
        for file, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{file}", "w") as out:
                out.write(text)
    _mount("none", "/", None, MS_REC | MS_PRIVATE)


def hide(folder: str, shown: list[str]) -> None:
    """Make ``folder`` appear empty but for the paths ``shown`` below it."""
    with tempfile.TemporaryDirectory(prefix="layer_minimizer-") as aside:
        _mount(folder, aside, None, MS_BIND | MS_REC)
        _mount("none", folder, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
        for path in shown:
            _show(os.path.join(aside, os.path.relpath(path, folder)), path)
        _check(_libc.umount2(os.fsencode(aside), 2), f"umount {aside}")


def _show(source: str, target: str) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
        return
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    _mount(source, target, None, MS_BIND)


def protect(folder: str) -> None:
    """Make ``folder`` read-only."""
    _mount(folder, folder, None, MS_BIND)
    have = os.statvfs(folder).f_flag
    locked = sum(flag for bit, flag in LOCKED if have & bit)
    _mount("none", folder, None, MS_BIND | MS_REMOUNT | MS_RDONLY | locked)


def main() -> None:
    """Build the namespace that argv[1] describes and become the command."""
    wanted, command = json.loads(sys.argv[1]), sys.argv[2:]
    try:
        enter_namespace()
        for folder in wanted["hide"]:
            hide(folder, [path for path in wanted["show"] if path.startswith(folder + "/")])
        for folder in wanted["read_only"]:
            protect(folder)
        os.chdir(os.getcwd())  # the folder may be covered by a mount made after this process entered it
    except OSError as exc:
        sys.stderr.write(f"cannot isolate the run: {exc}\n")
        sys.exit(125)
    os.execvp(command[0], command)  # noqa: S606 - becoming the command is the purpose


if __name__ == "__main__":
    main()
