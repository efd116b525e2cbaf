"""Removes what a command leaves behind that was killed: its processes, its scratch folder, its unfinished files.

usage: python -I -S _keeper.py '{"mark": "NAME=VALUE", "folder": PATH, "parts": [PATH, ...]}' < PIPE

A program of its own, since SIGKILL cannot be caught, in a session of its own, so that no signal to the command's group
ends it. The command holds the pipe's other end: when that is closed, the command has ended, however it did. Processes
are recognized by ``mark``, which the command has in its environment for its children. ``parts`` may have wildcards.
"""

import contextlib
import glob
import json
import os
import shutil
import signal
import sys
import time

# A process can start another one while it is being killed; one in an uninterruptible system call is not waited for.
KILLS = 200
# Where layers restore cold files, see native/src/coldstore.h.
PUT_BACK = "/tmp/.layer_minimizer-"  # noqa: S108 - the only folder that a Lambda function can write to


def marked(mark: bytes) -> list[int]:
    """Return the living processes that have ``mark`` in their environment; a zombie's cannot be read any more."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            # One that has ended, or another user's, cannot be read.
            with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as environ:
                if mark in environ.read().split(b"\0"):
                    found.append(int(name))
    return found


def end_all(mark: bytes) -> None:
    """Kill the processes that have ``mark``."""
    for _ in range(KILLS):
        left = marked(mark)
        if not left:
            return
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def remove(path: str) -> None:
    """Remove a file or a folder, if it is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        os.unlink(path)


def main() -> None:
    """Wait for the command's end, and clean up."""
    wanted = json.loads(sys.argv[1])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    while os.read(0, 1):
        pass
    end_all(os.fsencode(wanted["mark"]))
    for restored in glob.glob(PUT_BACK + "*"):
        # By a run on a layer that was unpacked in that folder.
        with contextlib.suppress(OSError):
            if os.readlink(restored + "/.root").startswith(wanted["folder"] + "/"):
                remove(restored)
    remove(wanted["folder"])
    for part in wanted["parts"]:
        for path in glob.glob(part):
            remove(path)


if __name__ == "__main__":
    main()
