"""Runs a command in a file system like that of a Lambda function: read-only except for /tmp, without network.

Asked for with ``{"root": DIR, "system": DIR, "binds": [[SOURCE, TARGET]], "hide": [...], "tmp": BYTES}``. ``root`` is
an empty folder, which outside of this process stays empty; ``system`` has the system for another processor, or is an
empty text for this machine's; ``binds`` are paths of this machine and where they appear; ``hide`` are folders that
appear empty. The command shares its processes and its network (loopback alone) with no other process. Its user is
Lambda's where this is root, and otherwise the calling user under that user's name. It ends with its parent, and
everything that it started ends with it.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import struct
import sys
from typing import Any, NoReturn

from hidden import (
    CLONE_NEWNS,
    CLONE_NEWUSER,
    FAILED,
    MS_BIND,
    MS_NODEV,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    check,
    fail,
    libc,
    make_read_only,
    mount,
)

CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = 1 << 26, 1 << 27, 1 << 29, 1 << 30
MS_NOEXEC = 8
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
# The user of a function in Lambda, as printed by getent.
USER, GROUP = 993, 990
DEVICES = ("null", "zero", "random", "urandom", "full", "tty")
# The machine's folders that programs need to run; home folders and the rest stay hidden.
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/sys")
CONFIGURATION = (
    "alternatives", "ca-certificates", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "mime.types",
    "nsswitch.conf", "pki", "protocols", "services", "ssl",
)  # fmt: skip
# LD_LIBRARY_PATH: for an interpreter in /var/lang, as in Lambda's images.
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LD_LIBRARY_PATH": "/var/lang/lib"}


def enter_namespaces() -> None:
    """Create new namespaces; the next child is the first process in them."""
    user, group = os.geteuid(), os.getegid()
    apart = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
    check(libc.unshare(apart if user == 0 else apart | CLONE_NEWUSER), "unshare")
    if user != 0:
        for file, text in (("setgroups", "deny"), ("uid_map", f"{USER} {user} 1"), ("gid_map", f"{GROUP} {group} 1")):
            with open(f"/proc/self/{file}", "w") as out:
                out.write(text)
    mount("none", "/", None, MS_REC | MS_PRIVATE)


def raise_loopback() -> None:
    """Enable the loopback interface, the only network of the processes inside."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


def bind(source: str, target: str) -> None:
    """Bind-mount ``source`` at ``target``, a path in the new root."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    mount(source, target, None, MS_BIND | MS_REC)


def build(root: str, wanted: dict[str, Any]) -> None:
    """Mount system folders of this machine and the given folders in the new root."""
    mount("none", root, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    os.mkdir(f"{root}/etc")
    for path in (*SYSTEM, *(f"/etc/{name}" for name in CONFIGURATION)):
        source = path if path == "/sys" else wanted["system"] + path
        if os.path.islink(source):
            os.symlink(os.readlink(source), root + path)
        elif os.path.exists(source):
            bind(source, root + path)
    for source, target in wanted["binds"]:
        bind(source, root + target)
    for name in DEVICES:
        bind(f"/dev/{name}", f"{root}/dev/{name}")
    os.symlink("/proc/self/fd", f"{root}/dev/fd")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.symlink(f"/proc/self/fd/{number}", f"{root}/dev/{name}")
    for name in ("proc", "tmp"):
        os.mkdir(f"{root}/{name}")


def hide(folder: str) -> None:
    """Hide the content of a folder in the new root, if the folder exists."""
    if os.path.isdir(folder):
        mount("none", folder, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")


def protect(root: str) -> None:
    """Make every mount read-only, and keep its other flags."""
    with open("/proc/self/mountinfo", errors="surrogateescape") as lines:
        places = [re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), line.split()[4]) for line in lines]
    for place in places:
        if place == root or place.startswith(f"{root}/"):
            try:
                have = os.statvfs(place).f_flag
            except OSError:  # covered by another mount, or not readable
                continue
            if not have & os.ST_RDONLY and not place.startswith(f"{root}/dev/"):
                make_read_only(place, have)


def enter_root(root: str, tmp: int) -> None:
    """Mount the writable folders and /proc, and switch to the new root."""
    mount("none", os.path.join(root, "tmp"), "tmpfs", MS_NOSUID | MS_NODEV, f"mode=1777,size={tmp}")
    mount("proc", f"{root}/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    os.chdir(root)
    check(libc.syscall(pivot_root(), b".", b"."), "pivot_root")
    check(libc.umount2(b".", MNT_DETACH), "umount the old root")
    os.chdir("/var/task")


def pivot_root() -> int:
    """Return the number of pivot_root, for which glibc has no function."""
    return {"x86_64": 155, "aarch64": 41}[os.uname().machine]


def drop_rights() -> None:
    """Change to an ordinary user, and exit with the parent process."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(GROUP, GROUP, GROUP)
        os.setresuid(USER, USER, USER)
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def run(wanted: dict[str, Any], command: list[str]) -> NoReturn:
    """Create the file system, run the command in it, and exit with its status."""
    os.umask(0o022)
    try:
        enter_namespaces()
        raise_loopback()
        build(wanted["root"], wanted)
        for folder in wanted["hide"]:
            hide(wanted["root"] + folder)
        protect(wanted["root"])
    except (OSError, KeyError) as exc:
        fail(exc)
    # The new PID namespace starts with a child process.
    child = os.fork()
    if child == 0:
        try:
            enter_root(wanted["root"], wanted["tmp"])
            drop_rights()
            os.execve(command[0], command, ENVIRONMENT)  # noqa: S606
        except (OSError, KeyError) as exc:
            sys.stderr.write(f"cannot isolate the run: {exc}\n")
        os._exit(FAILED)
    _, status = os.waitpid(child, 0)
    sys.exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
