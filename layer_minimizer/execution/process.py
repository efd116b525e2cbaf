"""Run a process on this machine: with a time limit, optionally with hidden folders, and kill all that it started."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import select
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

_SANDBOX = Path(__file__).parents[1] / "payload" / "sandbox"
# From CPython 3.15 on: which imports wait for the first use of their names (https://peps.python.org/pep-0810/).
LAZY_IMPORTS_VARIABLE = "PYTHON_LAZY_IMPORTS"
# All other PYTHON* variables are removed, since they do not exist in Lambda. PYTHONUSERBASE is where the user's
# packages are installed: the interpreter must find them. Lazy imports are traced as the function has them.
_KEPT_PYTHON_VARIABLES = {
    "PYTHONHASHSEED", "PYTHONIOENCODING", "PYTHONUSERBASE", "PYTHONUTF8", "PYTHONWARNINGS", LAZY_IMPORTS_VARIABLE,
}  # fmt: skip
# sys.stderr may be replaced by something without a file descriptor, as in a notebook.
_STANDARD_ERROR = 2
# The file that the probe writes to, in every process of a run, and its options; the value is unique to the run.
PROBE_VARIABLE = "LAYER_MINIMIZER_PROBE"
# The file with the tables of the modules that a run replaces by stand-ins.
STAND_INS_VARIABLE = "LAYER_MINIMIZER_STAND_INS"
# The file that says in which order which folders are listed, see payload/probe/listing.py.
LISTING_VARIABLE = "LAYER_MINIMIZER_LISTING"
# Seconds to wait for the remaining output of a run that has ended.
_GRACE_SECONDS = 5
# The longest time (ms) for which the kernel's poll can wait.
_LONGEST_POLL = (1 << 31) - 1
# Longer lines (bytes) are passed on in parts.
_LONGEST_LINE = 1 << 20
# Processes can start others while they are killed, so the search is repeated; but a process in an uninterruptible
# system call is not waited for.
_KILLS = 100
# Exit code of payload/sandbox when the namespace cannot be created.
NOT_ISOLATED = 125


def lazy_imports(version: tuple[int, ...]) -> str:
    """Return what the environment says about lazy imports to a Python of this version; empty if it says nothing."""
    return os.environ.get(LAZY_IMPORTS_VARIABLE, "") if version >= (3, 15) else ""


@dataclass(frozen=True, slots=True)
class Completed:
    """How a process ended.

    Attributes:
        returncode: its exit code; negative for a signal, as in subprocess.
        seconds: how long it ran.
        timed_out: whether it was killed at the time limit.
    """

    returncode: int
    seconds: float
    timed_out: bool = False

    @property
    def ending(self) -> str:
        """How the process ended, for messages: "ended with exit code 1"."""
        if self.timed_out:
            return f"did not end within {self.seconds:.0f} s and was stopped"
        if self.returncode < 0:
            return f"was killed by {signal.Signals(-self.returncode).name}"
        return f"ended with exit code {self.returncode}"


@dataclass(frozen=True, slots=True)
class Isolation:
    """Folders that a process cannot read or write.

    Attributes:
        hide: folders that appear empty, except for the paths in ``show``.
        show: paths below hidden folders that remain visible.
        read_only: folders in which nothing can be written.
    """

    hide: tuple[str, ...] = ()
    show: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()


def clean_environment() -> dict[str, str]:
    """Return this process' environment without the variables that configure this tool's own Python."""
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
    on_output: Callable[[str], None] | None = None,
    isolation: Isolation | None = None,
) -> Completed:
    """Run ``command`` to its end in ``folder``, and kill every process that it leaves behind.

    Its standard output and error go to the file ``output``, or in complete lines to the function ``on_output``, or else
    to this process' standard error, because standard output is reserved for results.

    Raises:
        RunnerError: the program cannot be started.
    """
    if isolation is not None:
        command = [sys.executable, "-I", str(_SANDBOX), "hidden", json.dumps(_as_json(isolation)), *command]
    with _target(output, on_output) as target:
        return _run(command, environment, folder, target, timeout)


@contextmanager
def _target(output: Path | None, on_output: Callable[[str], None] | None) -> Iterator[int]:
    """Yield the file descriptor for a process' standard output and error."""
    if output is not None:
        with output.open("wb") as file:
            yield file.fileno()
    elif on_output is None:
        yield _STANDARD_ERROR
    else:
        read_end, write_end = os.pipe()
        reader = threading.Thread(target=_read_lines, args=(read_end, on_output), daemon=True)
        reader.start()
        try:
            yield write_end
        finally:
            os.close(write_end)
            # A process that could not be killed may keep the pipe open.
            reader.join(_GRACE_SECONDS)


def _read_lines(source: int, on_output: Callable[[str], None]) -> None:
    """Call ``on_output`` with the complete lines that arrive from a pipe, until its other end is closed."""
    rest = b""
    with open(source, "rb", buffering=0) as stream:
        while data := stream.read(1 << 16):
            *lines, rest = re.split(rb"\r?\n|\r", rest + data)
            if len(rest) > _LONGEST_LINE:
                lines, rest = [*lines, rest], b""
            if lines:
                on_output(b"\n".join(lines).decode(errors="backslashreplace"))
    if rest:
        on_output(rest.decode(errors="backslashreplace"))


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
        _wait(process, timeout)
    except subprocess.TimeoutExpired:
        timed_out = True
    finally:
        _end_session(process, environment.get(PROBE_VARIABLE, ""))
    return Completed(process.returncode, time.monotonic() - begun, timed_out)


def _wait(process: subprocess.Popen[bytes], timeout: float) -> None:
    """Wait for the end of a process.

    Without a pidfd (Linux 5.3, also when Python was built), Python asks for it up to twenty times a second.

    Raises:
        TimeoutExpired: it still runs after ``timeout`` seconds.
    """
    try:
        end = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        process.wait(timeout)
        return
    try:
        poll = select.poll()
        poll.register(end, select.POLLIN)
        if not poll.poll(min(timeout * 1000, _LONGEST_POLL)):
            raise subprocess.TimeoutExpired(process.args, timeout)
    finally:
        os.close(end)
    process.wait()


def _as_json(isolation: Isolation) -> dict[str, list[str]]:
    return {
        "hide": list(isolation.hide),
        "show": list(isolation.show),
        "read_only": list(isolation.read_only),
    }


def _end_session(process: subprocess.Popen[bytes], mark: str) -> None:
    """Kill what is left of the process' session: daemons that the handler started, or everything after Ctrl-C.

    A daemon in a session of its own is recognized by ``mark``, which only processes of this run have in their
    environment.
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
    """Return the ids of the processes that have ``variable`` in their environment; zombies have none."""
    # payload/reaper.py has a copy of this function: it runs as a program of its own and cannot import this package.
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as environ:
                if variable in environ.read().split(b"\0"):
                    found.append(int(name))
    return found


@functools.cache
def can_isolate() -> bool:
    """Return whether mount namespaces can be created here: as root, or where user namespaces are allowed."""
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
