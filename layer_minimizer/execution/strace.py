"""Reads what strace wrote: which files a process and its children opened, listed, or asked about."""

from __future__ import annotations

import functools
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.execution.process import run
from layer_minimizer.model.trace import Use

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CALL = re.compile(
    rb"^(?:\d+ +)?(?:<\.\.\. )?(?P<call>\w+)(?: resumed>)?\(?"
    rb"(?:(?:AT_FDCWD|-?\d+)(?:<(?P<folder>(?:[^>\\]|\\.)*)>)?, )?"
    # The value of an open is followed by the file's name, in which anything may stand.
    rb'"(?P<path>(?:[^"\\]|\\.)*)"(?P<rest>.*?\)) += (?P<value>-?\d+)'
)
_PAUSED = re.compile(rb"^(?P<pid>\d+) +(?P<start>.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(rb"^(?P<pid>\d+) +<\.\.\. \w+ resumed>(?P<end>.*)$")
_ESCAPE = re.compile(rb"\\(?:x(?P<hex>[0-9a-f]{2})|(?P<octal>[0-3][0-7]{2}|[0-7]{1,2})|(?P<letter>.))", re.DOTALL)
_LETTERS = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"v": b"\v", b"f": b"\f"}
_OPENS = {b"open", b"openat", b"openat2", b"execve", b"execveat"}
_ASKS = {
    b"stat", b"lstat", b"newfstatat", b"statx", b"access", b"faccessat", b"faccessat2", b"readlink", b"readlinkat",
}  # fmt: skip
_WRITING = (b"O_WRONLY", b"O_CREAT")


def options(log: Path) -> tuple[str, ...]:
    """Return the options that make strace write the log that `read` understands."""
    return ("-qq", "-y", "-s", "0", "-e", "trace=%file", "-e", "signal=none", "-o", str(log), "--")


def read(log: Path, folder: str) -> Iterator[tuple[str, Use, bool]]:
    """Yield (absolute path, use, whether the call succeeded) for every call in ``log`` that names a file.

    ``folder`` is what relative paths refer to where a call does not say it.
    """
    start = os.fsencode(folder)
    with log.open("rb") as lines:
        for line in _whole(lines):
            found = _CALL.match(line)
            if not found:
                continue
            use = _use(found["call"], found["rest"])
            path = _unescape(found["path"])
            if use is None or not path:
                continue
            if not path.startswith(b"/"):
                path = (_unescape(found["folder"]) if found["folder"] else start) + b"/" + path
            yield os.fsdecode(os.path.normpath(path)), use, int(found["value"]) >= 0


def _whole(lines: Sequence[bytes] | Iterator[bytes]) -> Iterator[bytes]:
    """Join the halves of calls that another thread's call interrupted."""
    paused: dict[bytes, bytes] = {}
    for raw in lines:
        line = raw.rstrip(b"\n")
        if stopped := _PAUSED.match(line):
            paused[stopped["pid"]] = stopped["start"]
        elif (resumed := _RESUMED.match(line)) and resumed["pid"] in paused:
            yield paused.pop(resumed["pid"]) + resumed["end"]
        else:
            yield line


def _use(call: bytes, rest: bytes) -> Use | None:
    if call in _OPENS:
        if any(flag in rest for flag in _WRITING):
            return None
        return Use.LIST if b"O_DIRECTORY" in rest else Use.OPEN
    return Use.STAT if call in _ASKS else None


def _unescape(text: bytes) -> bytes:
    if b"\\" not in text:
        return text

    def plain(found: re.Match[bytes]) -> bytes:
        if found["hex"]:
            return bytes([int(found["hex"], 16)])
        if found["octal"]:
            return bytes([int(found["octal"], 8)])
        letter: bytes = found["letter"]
        return _LETTERS.get(letter, letter)

    return _ESCAPE.sub(plain, text)


@functools.cache
def strace_command() -> tuple[str, ...] | None:
    """Return the start of a command line that observes system calls with strace, or None where strace cannot work."""
    program = shutil.which("strace")
    if program is None:
        return None
    # As the parent of the traced process (without -D) strace stays until the last child that the process left behind
    # has ended. Stopping only at the calls of interest is much faster; older versions and some kernels do not know how.
    for options in (("-D", "--seccomp-bpf"), ("-D",), ("--seccomp-bpf",), ()):
        command = (program, "-f", *options)
        with tempfile.TemporaryDirectory(prefix="layer_minimizer-") as folder:
            log = Path(folder) / "log"
            tried = [*command, "-e", "trace=%file", "-o", str(log), "true"]
            ended = run(tried, os.environ, Path(folder), timeout=10, output=Path(folder) / "out")
            if ended.returncode == 0 and log.exists() and log.stat().st_size:
                return command
    return None
