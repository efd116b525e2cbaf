"""Runs the command ``minimize`` in this process or in a new process.

In this process it is faster, since starting the interpreter and importing take longer than most tests. The command
gets the same arguments, environment variables, working directory, files as standard streams, warning filters and empty
caches as in a new process, and the state of this process is restored afterwards. Tests of signals, of closed or broken
streams, of terminals, and of settings that Python reads at startup need a new process.
"""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import os
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from layer_minimizer.cli import main

from .places import PACKAGE, TOOL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

SECONDS = 120
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP, signal.SIGCONT)
# Prefixes of variables that are read only when an interpreter starts.
_AT_START = ("PYTHON", "LC_", "LANG", "MALLOC_", "LD_")


@dataclass
class Ended:
    """The exit code and the output of the command."""

    code: int
    out: str
    err: str


def run(
    arguments: Sequence[str],
    variables: Mapping[str, str],
    folder: Path,
    *,
    prefix: Sequence[str] = (),
    apart: bool = False,
    seconds: float = SECONDS,
) -> Ended:
    """Run the command here; in a new process if ``apart``, with a prefix, or if Python's startup variables differ."""
    at_start = {name: value for name, value in variables.items() if name.startswith(_AT_START)}
    if apart or prefix or any(os.environ.get(name) != value for name, value in at_start.items()):
        return run_apart(arguments, variables, folder, prefix=prefix, seconds=seconds)
    return run_here(arguments, variables, folder, seconds=seconds)


def run_apart(
    arguments: Sequence[str],
    variables: Mapping[str, str],
    folder: Path,
    *,
    prefix: Sequence[str] = (),
    seconds: float = SECONDS,
) -> Ended:
    """Run the command in a new process."""
    done = subprocess.run(
        [*prefix, *TOOL, *arguments],
        env=dict(variables),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=seconds,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def run_here(
    arguments: Sequence[str], variables: Mapping[str, str], folder: Path, *, seconds: float = SECONDS
) -> Ended:
    """Run the command in this process, and restore the state of the process."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, contextlib.ExitStack() as kept:
        kept.enter_context(_streams(out.fileno(), err.fileno()))
        kept.enter_context(_logging())
        kept.enter_context(_signals(seconds))
        kept.enter_context(_environment(variables, folder))
        kept.enter_context(warnings.catch_warnings())
        _set_default_warning_filters()
        sys.argv[:] = [str(PACKAGE / "__main__.py"), *arguments]
        code = _code()
        if "botocore" in sys.modules:
            gc.collect()  # its sockets are closed when their owners are collected
        kept.close()
        for file in (out, err):
            file.seek(0)
        output = [file.read().decode("utf-8", "backslashreplace") for file in (out, err)]
    return Ended(code, *output)


def _code() -> int:
    """Run the command, and return the exit code that a process would have."""
    _clear_caches()
    try:
        main.run()
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001 - these end a process, too
        traceback.print_exc()
        code = 1
    finally:
        _clear_caches()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    if isinstance(code, int):
        return code
    if code is not None:
        sys.stderr.write(f"{code}\n")
        sys.stderr.flush()
    return int(code is not None)


def _clear_caches() -> None:
    """Empty the caches of the package's functions, as in a new process."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "layer_minimizer":
            for value in vars(module).values():
                clear = getattr(value, "cache_clear", None)
                if callable(clear):
                    clear()


def _set_default_warning_filters() -> None:
    warnings.resetwarnings()
    for category in (ResourceWarning, ImportWarning, PendingDeprecationWarning, DeprecationWarning):
        warnings.simplefilter("ignore", category)
    warnings.filterwarnings("default", category=DeprecationWarning, module="__main__")


@contextlib.contextmanager
def _streams(out: int, err: int) -> Iterator[None]:
    """Make files the standard streams, both as file descriptors and in ``sys``."""
    before = sys.stdin, sys.stdout, sys.stderr
    for stream in before[1:]:
        stream.flush()
    saved = [os.dup(number) for number in range(3)]
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        for number, file in enumerate((nothing, out, err)):
            os.dup2(file, number)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - it does not own the descriptor
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8", "strict", write_through=True)
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), "utf-8", "backslashreplace", write_through=True)
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
        for number, file in enumerate(saved):
            os.dup2(file, number)
            os.close(file)
        os.close(nothing)


@contextlib.contextmanager
def _logging() -> Iterator[None]:
    """Run without the log handlers of this process, and restore logging afterwards."""
    root, own = logging.getLogger(), logging.getLogger("layer_minimizer")
    before = [(each, each.handlers[:], each.level, each.disabled, each.propagate) for each in (root, own)]
    root.handlers[:] = []
    try:
        yield
    finally:
        for logger, handlers, level, disabled, propagate in before:
            logger.handlers[:] = handlers
            logger.setLevel(level)
            logger.disabled, logger.propagate = disabled, propagate


@contextlib.contextmanager
def _signals(seconds: float) -> Iterator[None]:
    """Set default signal handlers and a timeout, and restore the handlers afterwards."""

    def end(_number: int, _frame: object) -> None:
        raise TimeoutError(f"the command did not end within {seconds} seconds")

    before: dict[int, Any] = {number: signal.getsignal(number) for number in (*_SIGNALS, signal.SIGALRM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _environment(variables: Mapping[str, str], folder: Path) -> Iterator[None]:
    """Set environment variables and working directory, and restore them, umask, ``sys.argv`` and ``sys.path``."""
    environment, argv, path, temporary = dict(os.environ), sys.argv[:], sys.path[:], tempfile.tempdir
    here, mask = os.getcwd(), os.umask(0)
    os.umask(mask)
    try:
        os.environ.clear()
        os.environ.update(variables)
        os.chdir(folder)
        tempfile.tempdir = None
        yield
    finally:
        os.umask(mask)
        os.chdir(here)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv[:], sys.path[:], tempfile.tempdir = argv, path, temporary
