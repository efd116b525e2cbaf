"""Runs a workload once under observers, and collects what they saw: raw facts with absolute paths."""

from __future__ import annotations

import ast
import json
import os
import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_minimizer.core import progress
from layer_minimizer.core.errors import RunnerError, TraceError
from layer_minimizer.core.files import scratch_errors
from layer_minimizer.execution import process, strace
from layer_minimizer.execution.probe import copy_probe
from layer_minimizer.execution.task_root import make_task_root
from layer_minimizer.model.function_variables import function_variables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from layer_minimizer.model.trace import Use
    from layer_minimizer.model.workload import Workload

_MEMORY = 3008  # MiB
DEFAULT_TIMEOUT = 900.0


class Observer(StrEnum):
    """What watches a run: a probe inside the interpreter, and the system calls of all its processes."""

    PROBE = "probe"
    STRACE = "strace"


def choose_observers(wanted: str) -> tuple[Observer, ...]:
    """Return the observers for ``auto``, ``probe`` or ``strace``. The probe always runs: it alone knows of modules.

    Raises:
        RunnerError: strace is asked for and is missing, or may not trace here.
    """
    if wanted == "probe":
        return (Observer.PROBE,)
    if strace.strace_command() is not None:
        return (Observer.PROBE, Observer.STRACE)
    if wanted == "strace":
        raise RunnerError("--observe strace: strace is not installed, or tracing is forbidden here (ptrace)")
    return (Observer.PROBE,)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the harness said of a run: results in the order of events, or an error and where it happened."""

    kind: str
    phase: str
    results: tuple[tuple[str, str], ...]
    error: str
    refused: str


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run: how it ended, what it gave, and where the observers wrote what they saw.

    ``outcome`` is None when the process ended before it could say anything.
    """

    ended: process.Completed
    outcome: Outcome | None
    root: Path
    facts: Path
    calls: Path | None
    said: str
    study: Path | None = None
    timed: Path | None = None

    def probe_facts(self) -> Iterator[tuple[Any, ...]]:
        """Return the probe's facts in the order in which they happened; ``payload/probe/probe.py`` has their forms."""
        with self.facts.open(encoding="ascii") as lines:
            for line in lines:
                if line.endswith("\n"):  # else the disk was full, or the process was killed while it wrote
                    yield from parse_fact(line)

    def system_calls(self) -> Iterator[tuple[str, Use, bool]]:
        """Yield (absolute path, use, success) for every file system call, nothing without that observer."""
        if self.calls is not None:
            yield from strace.read(self.calls, str(self.root))


def parse_fact(line: str) -> Iterator[tuple[Any, ...]]:
    """Read one line. A process that was killed while it wrote leaves half a fact, with another one's behind it."""
    at = 0
    while at >= 0:
        try:
            yield ast.literal_eval(line[at:])
        except (SyntaxError, ValueError):
            at = line.find("('", at + 1)
        else:
            return


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run a workload: with which interpreter, observed by what, with which folders in front of sys.path.

    ``path_entries`` are put on PYTHONPATH; child processes inherit them. ``avoid`` are folders that are no part of
    the function although they may lie below the entry's folder. ``shown`` sends what the program prints to standard
    error while it runs; otherwise it is kept, and given back as ``RunRecord.said``. ``study`` are folders whose
    modules are to be described (see ``payload/probe/study.py``); ``stand_ins`` a file with tables of modules to be
    stood in for, ``check`` one with the namespaces that their real modules leave behind, and ``room`` the bytes of
    those that may be real for what they fill (None: it does not matter); ``bytecode`` a folder for the interpreter's
    cache, which several runs may share (CPython 3.8 and later);
    ``timed`` says that imports are timed, and that nothing else is observed;
    ``restored`` the file in which a layer's runtime tells what it restores; ``libraries`` a folder that the dynamic
    loader looks into.
    """

    python: str
    observers: tuple[Observer, ...]
    user_base: str = ""
    front: tuple[str, ...] = ()
    path_entries: tuple[str, ...] = ()
    isolation: process.Isolation | None = None
    avoid: tuple[str, ...] = ()
    timeout: float = DEFAULT_TIMEOUT
    shown: bool = False
    page_tracer: PageTracer | None = None
    restored: Path | None = None
    libraries: Path | None = None
    study: tuple[str, ...] = ()
    stand_ins: Path | None = None
    check: Path | None = None
    room: int | None = None
    bytecode: Path | None = None
    timed: bool = False


@dataclass(frozen=True, slots=True)
class PageTracer:
    """Records which pages of shared libraries are touched: the auditing library, and the table that it marks."""

    library: Path
    table: Path


def run_observed(workload: Workload, settings: RunOptions, scratch: Path) -> RunRecord:
    """Run ``workload`` once in a fresh interpreter. ``scratch`` must not exist; all that is written lies in it.

    Raises:
        RunnerError: the interpreter or an observer cannot be started.
        TraceError: the scratch folder cannot be written.
    """
    root = scratch / "task"
    facts, result, stdout = scratch / "facts", scratch / "result.json", scratch / "stdout"
    timed = scratch / "import_times.json"
    said_to_harness = {
        "root": str(root),
        "module": workload.entry.stem,
        "handler": workload.handler,
        "events": [[e.name, e.payload, dict(e.context)] for e in workload.events],
        "front": list(settings.front),
        "result": str(result),
        "stdout": str(stdout),
        "study": str(scratch / "study.json") if settings.study else "",
        "sites": list(settings.study),
        "check": str(settings.check or ""),
        "room": settings.room,
        "timed": str(timed) if settings.timed else "",
    }
    with scratch_errors(TraceError, f"cannot write into {scratch}"):
        scratch.mkdir(parents=True)
        for folder in ("home", "tmp"):
            (scratch / folder).mkdir()
        facts.touch()
        (scratch / "settings.json").write_text(json.dumps(said_to_harness))
    make_task_root(workload, root, settings.avoid)
    probe = copy_probe(scratch)
    command = [
        settings.python,
        *([] if settings.bytecode else ["-B"]),
        str(probe / "harness.py"),
        str(scratch / "settings.json"),
    ]
    calls = scratch / "calls" if Observer.STRACE in settings.observers else None
    if calls is not None:
        command = [*(strace.strace_command() or ()), *strace.options(calls), *command]
    log = None if settings.shown else scratch / "log"
    ended = process.run(
        command,
        _environment(workload, settings, scratch, facts),
        root,
        timeout=settings.timeout,
        output=log,
        heard=progress.output_listener(workload.entry.name) if settings.shown else None,
        isolation=settings.isolation,
    )
    said = log.read_text(errors="replace") if log else ""
    if ended.returncode == process.NOT_ISOLATED and settings.isolation is not None:
        raise RunnerError(said.strip())
    study = scratch / "study.json" if settings.study else None
    times = timed if timed.exists() else None
    return RunRecord(ended, _read_outcome(result, stdout), root, facts, calls, said, study, times)


def _environment(workload: Workload, settings: RunOptions, scratch: Path, facts: Path) -> dict[str, str]:
    """Return the process' environment: the user's, with Lambda's variables, and without this machine's caches.

    A cache in the home folder (matplotlib's list of fonts, downloaded weights) would let the run pass here with files
    that no Lambda function has, and would hide from the trace what a cold start reads.
    """
    home = Path.home()
    function = workload.entry.parent.name or "function"
    environment = process.clean_environment()
    for name in [name for name in environment if name.startswith("XDG_") and name.endswith("_HOME")]:
        del environment[name]
    for name, file in (("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config")):
        if (home / ".aws" / file).exists():
            environment.setdefault(name, str(home / ".aws" / file))
    environment = function_variables(function, _MEMORY) | environment
    # What starts the probe; where imports are timed, the probe's notes would be most of the time.
    startup = [] if settings.timed else [str(scratch / "probe" / "startup")]
    environment |= {
        "HOME": str(scratch / "home"),
        "TMPDIR": str(scratch / "tmp"),
        "LAMBDA_TASK_ROOT": str(scratch / "task"),
        "_HANDLER": f"{workload.entry.stem}.{workload.handler or 'handler'}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join([*startup, *settings.path_entries]),
        process.PROBE_VARIABLE: f"{facts}:{0 if Observer.STRACE in settings.observers else 1}",
    }
    environment |= _watching(settings)
    if settings.bytecode:
        del environment["PYTHONDONTWRITEBYTECODE"]
    if settings.user_base:
        environment["PYTHONUSERBASE"] = settings.user_base
    if workload.models:
        environment["MODEL_PATH"] = str(scratch / "task" / workload.models[0].name)
    return environment


def _watching(settings: RunOptions) -> dict[str, str]:
    """Return the variables that tell the process' observers, and its loader, what to do."""
    environment: dict[str, str] = {}
    if settings.page_tracer:
        environment |= {
            "LD_AUDIT": str(settings.page_tracer.library),
            "LAYER_MINIMIZER_PAGES": str(settings.page_tracer.table),
        }
    if settings.bytecode:
        environment["PYTHONPYCACHEPREFIX"] = str(settings.bytecode)
    if settings.stand_ins:
        environment[process.STAND_INS_VARIABLE] = str(settings.stand_ins)
    if settings.restored:
        environment["LAYER_MINIMIZER_LOG"] = str(settings.restored)
    if settings.libraries:
        own = os.environ.get("LD_LIBRARY_PATH")
        environment["LD_LIBRARY_PATH"] = f"{settings.libraries}:{own}" if own else str(settings.libraries)
    return environment


def _read_outcome(result: Path, stdout: Path) -> Outcome | None:
    try:
        said = json.loads(result.read_bytes())
    except (OSError, ValueError):
        return None
    rows: Iterable[tuple[str, str]] = said["results"]
    if said["kind"] == "script" and not said["error"] and not said["refused"]:
        rows = [("stdout", stdout.read_text("utf-8", errors="backslashreplace"))]
    results = tuple((name, value) for name, value in rows)
    return Outcome(said["kind"], said["phase"], results, said["error"], said["refused"])


def free_space_hint(folder: Path) -> str:
    """Return a sentence about the disk when it is nearly full, since that explains most of what cannot be explained."""
    free = shutil.disk_usage(folder).free
    if free > 1 << 20:
        return ""
    return f" The file system of {folder} has {free} bytes left; set TMPDIR to a folder with more room."
