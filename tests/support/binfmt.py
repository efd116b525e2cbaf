"""Runs a command in a user namespace whose kernel runs programs for aarch64 by an emulator.

usage: python -I binfmt.py EMULATOR COMMAND...

Exit code 125 means that such a namespace cannot be made here: it needs root, and Linux 6.7, from which on a namespace
can have a binfmt_misc of its own.
"""

import ctypes
import os
import sys

CLONE_NEWNS, CLONE_NEWUSER, MS_REC, MS_PRIVATE = 0x00020000, 0x10000000, 16384, 1 << 18
PLACE = "/proc/sys/fs/binfmt_misc"
# The head of a 64-bit program or library for the machine 183, and which bits of it count. Flags: the program's argv[0]
# is kept (O: it is opened for the emulator), and the emulator is found in all mount namespaces (F).
HEAD = rb"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
MASK = rb"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"

libc = ctypes.CDLL(None, use_errno=True)


def check(status: int, what: str) -> None:
    """Exit if a function of the C library has failed."""
    if status:
        sys.stderr.write(f"{what}: {os.strerror(ctypes.get_errno())}\n")
        sys.exit(125)


def main() -> None:
    """Replace this process by the command."""
    emulator, command = sys.argv[1], sys.argv[2:]
    ready, go = os.pipe()
    done, say = os.pipe()
    parent = os.getpid()
    if os.fork() == 0:  # only a process outside of it can map more than one user into a user namespace
        os.read(ready, 1)
        for file in ("uid_map", "gid_map"):
            with open(f"/proc/{parent}/{file}", "w") as out:
                out.write("0 0 65536")
        os.write(say, b"x")
        os._exit(0)
    check(libc.unshare(CLONE_NEWNS | CLONE_NEWUSER), "unshare")
    os.write(go, b"x")
    os.close(say)
    if not os.read(done, 1):
        sys.exit(125)
    os.wait()
    check(libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None), "mount")
    check(libc.mount(b"none", PLACE.encode(), b"binfmt_misc", ctypes.c_ulong(0), None), f"mount {PLACE}")
    with open(f"{PLACE}/register", "wb") as register:
        register.write(b":".join([b"", b"qemu-aarch64", b"M", b"", HEAD, MASK, os.fsencode(emulator), b"OF"]))
    os.execvp(command[0], command)


main()
