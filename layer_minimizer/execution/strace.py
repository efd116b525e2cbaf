"""Read the log of strace: which files a process and its children opened, listed, or checked for existence."""

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
    from collections.abc import Iterator, Mapping, Sequence

_CALL = re.compile(
    rb"^(?:\d+ +)?(?:<\.\.\. )?(?P<call>\w+)(?: resumed>)?\(?"
    rb"(?:(?:AT_FDCWD|-?\d+)(?:<(?P<folder>(?:[^>\\]|\\.)*)>)?, )?"
    # The value of an open is followed by the file's name, which can contain any character.
    rb'"(?P<path>(?:[^"\\]|\\.)*)"(?P<rest>.*?\)) += (?P<value>-?\d+)'
)
_PAUSED = re.compile(rb"^(?P<pid>\d+) +(?P<start>.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(rb"^(?P<pid>\d+) +<\.\.\. \w+ resumed>(?P<end>.*)$")
_ESCAPE = re.compile(rb"\\(?:x(?P<hex>[0-9a-f]{2})|(?P<octal>[0-3][0-7]{2}|[0-7]{1,2})|(?P<letter>.))", re.DOTALL)
_LETTERS = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"v": b"\v", b"f": b"\f"}
_OPENS = {b"open", b"openat", b"openat2", b"execve", b"execveat"}
_STATS = {
    b"stat", b"lstat", b"newfstatat", b"statx", b"access", b"faccessat", b"faccessat2", b"readlink", b"readlinkat",
}  # fmt: skip
_WRITING = (b"O_WRONLY", b"O_CREAT")


def options(log: Path, variables: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the options with which strace writes a log that `read` can parse.

    ``variables``: for the environment of the traced program, and not for that of strace.
    """
    given = [word for name, value in (variables or {}).items() for word in ("-E", f"{name}={value}")]
    return ("-qq", "-y", "-s", "0", "-e", "trace=%file", "-e", "signal=none", *given, "-o", str(log), "--")


def read(log: Path, folder: str) -> Iterator[tuple[str, Use, bool]]:
    """Yield (absolute path, use, whether the call succeeded) for every call in ``log`` that names a file.

    ``folder`` is the folder of relative paths, for calls without a folder of their own.
    """
    start = os.fsencode(folder)
    with log.open("rb") as lines:
        for line in _joined_lines(lines):
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


def _joined_lines(lines: Sequence[bytes] | Iterator[bytes]) -> Iterator[bytes]:
    """Yield the lines, with calls joined that another thread's call had split into two lines."""
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
    return Use.STAT if call in _STATS else None


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


def strace_command() -> tuple[str, ...] | None:
    """Return the strace command to put in front of a command line; None if strace is missing or cannot trace here."""
    return try_out()[0]


def problem() -> str:
    """Return why `strace_command` returns None; empty if it returns a command."""
    return try_out()[1]


@functools.cache
def try_out() -> tuple[tuple[str, ...] | None, str]:
    """Return the command, or None and the reason."""
    program = shutil.which("strace")
    if program is None:
        return None, "it is not installed"
    printed = ""
    # Without -D strace is the parent of the traced process, and ends only when all of its children have ended.
    # --seccomp-bpf stops only at the traced calls, which is much faster; older versions and some kernels lack it.
    for options in (("-D", "--seccomp-bpf"), ("-D",), ("--seccomp-bpf",), ()):
        command = (program, "-f", *options)
        with tempfile.TemporaryDirectory(prefix="layer_minimizer-") as folder:
            log = Path(folder) / "log"
            tried = [*command, "-e", "trace=%file", "-o", str(log), "true"]
            ended = run(tried, os.environ, Path(folder), timeout=10, output=Path(folder) / "out")
            if ended.returncode == 0 and log.exists() and log.stat().st_size:
                return command, ""
            printed = (Path(folder) / "out").read_text(errors="replace").strip()
    said = f": {printed.splitlines()[0]}" if printed else ""
    return None, f"it cannot trace processes here{said}"
