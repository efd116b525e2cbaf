"""Where a workload runs: starts a process on this machine, ends it for sure, and can hide folders from it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from layer_minimizer.core.errors import RunnerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

# Runs in traced programs and in layers alike.
_SANDBOX = Path(__file__).parents[1] / "payload" / "sandbox"
# What else the interpreter reads from its environment would make the run another one than Lambda's.
# The user's site is where packages lie: the interpreter must find them.
_KEPT_PYTHON_VARIABLES = {"PYTHONHASHSEED", "PYTHONIOENCODING", "PYTHONUSERBASE", "PYTHONUTF8", "PYTHONWARNINGS"}
# sys.stderr may be replaced by something without a file descriptor, as in a notebook.
_STANDARD_ERROR = 2
# Tells the probe in every process of a run where to write; no two runs have the same value.
PROBE_VARIABLE = "LAYER_MINIMIZER_PROBE"
# Names the file with the tables of the modules that a trial run stands in for.
STAND_INS_VARIABLE = "LAYER_MINIMIZER_STAND_INS"
# How long the lines of a run that has ended are waited for, in seconds, and how long one may be, in bytes.
_PATIENCE = 5
_LONGEST_LINE = 1 << 20
# A process can start another one while it is being killed; one in an uninterruptible system call is not waited for.
_KILLS = 100
# Exit code of _sandbox when the namespace cannot be made.
NOT_ISOLATED = 125


@dataclass(frozen=True, slots=True)
class Completed:
    """How a process ended. ``returncode`` is negative for a signal, as in subprocess."""

    returncode: int
    seconds: float
    timed_out: bool = False

    @property
    def ending(self) -> str:
        """Say in words how the process ended."""
        if self.timed_out:
            return f"did not end within {self.seconds:.0f} s and was stopped"
        if self.returncode < 0:
            return f"was killed by {signal.Signals(-self.returncode).name}"
        return f"ended with exit code {self.returncode}"


@dataclass(frozen=True, slots=True)
class Isolation:
    """What a process must not see, or must not change.

    ``hide`` are folders that appear empty but for the paths in ``show`` below them; ``read_only`` are folders that
    nothing can be written to.
    """

    hide: tuple[str, ...] = ()
    show: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()


def clean_environment() -> dict[str, str]:
    """Return this process' environment without what would leak this tool's own Python into another interpreter."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTHON") or name in _KEPT_PYTHON_VARIABLES
    }


def run(  # noqa: PLR0913 - what a process is started with
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    *,
    timeout: float,
    output: Path | None = None,
    heard: Callable[[str], None] | None = None,
    isolation: Isolation | None = None,
) -> Completed:
    """Run ``command`` to its end in ``folder``; whatever happens, none of its processes outlives the call.

    Its standard output and error go to ``output``, or in whole lines to ``heard``, or to this process' standard error
    when there is neither: standard output is for results.

    Raises:
        RunnerError: the program cannot be started.
    """
    if isolation is not None:
        command = [sys.executable, "-I", str(_SANDBOX), "hidden", json.dumps(_as_json(isolation)), *command]
    with _target(output, heard) as target:
        return _run(command, environment, folder, target, timeout)


@contextmanager
def _target(output: Path | None, heard: Callable[[str], None] | None) -> Iterator[int]:
    """Yield the descriptor that a process writes to."""
    if output is not None:
        with output.open("wb") as file:
            yield file.fileno()
    elif heard is None:
        yield _STANDARD_ERROR
    else:
        ours, theirs = os.pipe()
        reader = threading.Thread(target=_listen, args=(ours, heard), daemon=True)
        reader.start()
        try:
            yield theirs
        finally:
            os.close(theirs)
            # A process that could not be killed may hold the other end.
            reader.join(_PATIENCE)


def _listen(source: int, heard: Callable[[str], None]) -> None:
    """Hand over the lines that come from a pipe, as text, until its other end is closed."""
    rest = b""
    with open(source, "rb", buffering=0) as stream:
        while data := stream.read(1 << 16):
            *lines, rest = re.split(rb"\r?\n|\r", rest + data)
            if len(rest) > _LONGEST_LINE:
                lines, rest = [*lines, rest], b""
            if lines:
                heard(b"\n".join(lines).decode(errors="backslashreplace"))
    if rest:
        heard(rest.decode(errors="backslashreplace"))


def _run(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, target: int, timeout: float
) -> Completed:
    begun = time.monotonic()
    try:
        process = subprocess.Popen(  # noqa: S603 - running the user's own program is the purpose
            command,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=target,
            stderr=target,
            start_new_session=True,
        )
    except OSError as exc:
        raise RunnerError(f"cannot start {command[0]}: {exc.strerror or exc}") from exc
    timed_out = False
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        timed_out = True
    finally:
        _end_session(process, environment.get(PROBE_VARIABLE, ""))
    return Completed(process.returncode, time.monotonic() - begun, timed_out)


def _as_json(isolation: Isolation) -> dict[str, list[str]]:
    return {
        "hide": list(isolation.hide),
        "show": list(isolation.show),
        "read_only": list(isolation.read_only),
    }


def _end_session(process: subprocess.Popen[bytes], mark: str) -> None:
    """Kill what is left of the process' session: a daemon of the handler's, or everything after Ctrl-C.

    A daemon with a session of its own is told by ``mark``, which is in the environment of this run alone.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for _ in range(_KILLS):
        if not mark or not (left := _marked(f"{PROBE_VARIABLE}={mark}".encode())):
            break
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def _marked(variable: bytes) -> list[int]:
    """Return the living processes that have ``variable`` in their environment; a zombie's cannot be read any more."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as environ:
                if variable in environ.read().split(b"\0"):
                    found.append(int(name))
    return found


@functools.cache
def can_isolate() -> bool:
    """Return whether mount namespaces can be made here: as root, or where user namespaces are allowed."""
    with tempfile.TemporaryDirectory(prefix="layer_minimizer-") as folder:
        inside = Path(folder) / "inside"
        inside.mkdir()
        (inside / "file").touch()
        test = ["test", "!", "-e", str(inside / "file")]
        isolation = Isolation(hide=(str(inside),), read_only=(str(inside),))
        log = Path(folder) / "log"
        try:
            ended = run(test, os.environ, Path(folder), timeout=30, output=log, isolation=isolation)
        except RunnerError:
            return False
    return ended.returncode == 0
