"""The command ``minimize``, run in this process or in one of its own.

Here it saves the interpreter's start and all imports, which take longer than most of what is asked of it. What the
command sees is the same: arguments, variables, folder, files as standard streams, Python's own filters of warnings,
no memory of earlier runs. What it may change in the process is as before afterwards. Signals, streams that are closed
or broken, terminals, and what is set up before Python starts take a process of their own.
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
# What only the start of an interpreter reads.
_AT_START = ("PYTHON", "LC_", "LANG", "MALLOC_", "LD_")


@dataclass
class Ended:
    """How the command ended and what it said."""

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
    """Run the command here, or ``apart`` where a prefix or variables that a starting Python reads ask for it."""
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
    """Run the command in a process of its own."""
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
    """Run the command in this process, which is afterwards as it was before."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, contextlib.ExitStack() as kept:
        kept.enter_context(_streams(out.fileno(), err.fileno()))
        kept.enter_context(_logging())
        kept.enter_context(_signals(seconds))
        kept.enter_context(_surroundings(variables, folder))
        kept.enter_context(warnings.catch_warnings())
        _filter_as_python_does()
        sys.argv[:] = [str(PACKAGE / "__main__.py"), *arguments]
        code = _code()
        if "botocore" in sys.modules:
            gc.collect()  # it leaves sockets to be closed with what holds them
        kept.close()
        for file in (out, err):
            file.seek(0)
        said = [file.read().decode("utf-8", "backslashreplace") for file in (out, err)]
    return Ended(code, *said)


def _code() -> int:
    """Be the command, and return the exit code that Python would give the process."""
    _forget()
    try:
        main.run()
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001 - a process ends with these, too
        traceback.print_exc()
        code = 1
    finally:
        _forget()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    if isinstance(code, int):
        return code
    if code is not None:
        sys.stderr.write(f"{code}\n")
        sys.stderr.flush()
    return int(code is not None)


def _forget() -> None:
    """Empty what the package's functions remember of earlier calls, as it is in a process that has just begun."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "layer_minimizer":
            for value in vars(module).values():
                clear = getattr(value, "cache_clear", None)
                if callable(clear):
                    clear()


def _filter_as_python_does() -> None:
    warnings.resetwarnings()
    for category in (ResourceWarning, ImportWarning, PendingDeprecationWarning, DeprecationWarning):
        warnings.simplefilter("ignore", category)
    warnings.filterwarnings("default", category=DeprecationWarning, module="__main__")


@contextlib.contextmanager
def _streams(out: int, err: int) -> Iterator[None]:
    """Let files be the standard streams, as the operating system and as Python has them."""
    before = sys.stdin, sys.stdout, sys.stderr
    for stream in before[1:]:
        stream.flush()
    saved = [os.dup(number) for number in range(3)]
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        for number, file in enumerate((nothing, out, err)):
            os.dup2(file, number)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - closed with nothing to close
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
    """Let the log begin anew, without what listens to it here."""
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
    """Keep what signals do, and end what does not end by itself."""

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
def _surroundings(variables: Mapping[str, str], folder: Path) -> Iterator[None]:
    """Keep variables, folder, arguments, the mask of new files, and the paths of modules."""
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
