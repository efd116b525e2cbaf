"""Run a workload once under observers, and return what they recorded: raw facts with absolute paths."""

from __future__ import annotations

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
from layer_minimizer.execution.probe_facts import parse_fact
from layer_minimizer.execution.task_root import make_task_root
from layer_minimizer.model.function_variables import function_variables
from layer_minimizer.model.places import Places

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from layer_minimizer.model.trace import ListedFolder, Use
    from layer_minimizer.model.workload import Workload

_MEMORY = 3008  # MiB
DEFAULT_TIMEOUT = 900.0


class Observer(StrEnum):
    """How a run is observed: by a probe inside the interpreter, or by the system calls of all its processes."""

    PROBE = "probe"
    STRACE = "strace"


def choose_observers(wanted: str) -> tuple[Observer, ...]:
    """Return the observers for ``auto``, ``probe`` or ``strace``. The probe is always used: only it observes modules.

    Raises:
        RunnerError: strace is requested, but is missing or not permitted to trace here.
    """
    if wanted == "probe":
        return (Observer.PROBE,)
    if strace.strace_command() is not None:
        return (Observer.PROBE, Observer.STRACE)
    if wanted == "strace":
        raise RunnerError(f"--observe strace: strace cannot be used: {strace.problem()}")
    return (Observer.PROBE,)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the harness reported of a run.

    Attributes:
        kind: whether the entry is a handler or a script.
        phase: what was done last: ``parse``, ``import``, ``script``, or the name of an event.
        results: (event, result) pairs in the order of the events.
        error: the traceback of the entry's error, or empty.
        refused: why the harness cannot run the entry, or empty.
        init_seconds: how long the import of a handler's module took; 0 for a script.
        peak_bytes: the peak memory (resident set) of the process.
    """

    kind: str
    phase: str
    results: tuple[tuple[str, str], ...]
    error: str
    refused: str
    init_seconds: float = 0.0
    peak_bytes: int = 0


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run: how it ended, its results, and the files of the observers.

    Attributes:
        ended: exit code and duration of the process.
        outcome: what the harness reported; None if the process ended before that.
        root: the folder in which the workload ran.
        facts: the file of the probe's records.
        calls: the log of strace, if it was used.
        output: what the program printed; empty if that was shown while it ran.
        study: the file with the descriptions of modules, if they were requested.
        import_times: the file with the times of imports, if they were measured.
    """

    ended: process.Completed
    outcome: Outcome | None
    root: Path
    facts: Path
    calls: Path | None
    output: str
    study: Path | None = None
    import_times: Path | None = None

    def places(self, site: Iterable[str]) -> Places:
        """Return the folders of this run, with the names that stand for them in results; ``site``: site-packages."""
        scratch = self.root.parent
        return Places.of(site=site, task=str(self.root), tmp=str(scratch / "tmp"), home=str(scratch / "home"))

    def probe_facts(self) -> Iterator[tuple[Any, ...]]:
        """Yield the probe's records in their order; ``payload/probe/probe.py`` describes their forms."""
        with self.facts.open(encoding="ascii") as lines:
            for line in lines:
                if line.endswith("\n"):  # else incomplete: the disk was full, or the process was killed
                    yield from parse_fact(line)

    def system_calls(self) -> Iterator[tuple[str, Use, bool]]:
        """Yield (absolute path, use, success) for every file system call; nothing without strace."""
        if self.calls is not None:
            yield from strace.read(self.calls, str(self.root))


@dataclass(frozen=True, slots=True)
class Listing:
    """An order in which the files of folders are listed. The system has none: each copy of a folder can have its own.

    Attributes:
        order: ``reversed`` (by name, the other way round) or ``given``.
        folders: absolute real paths, each with the names of its files in order if that is given. In ``reversed``, a
            path that ends with ``/`` stands for all folders below it, too.
    """

    order: str
    folders: tuple[tuple[str, ...], ...]

    @staticmethod
    def reversed(folders: Iterable[str], *, below: bool = False) -> Listing:
        """Return the reversed order of these folders; ``below``: and of all folders in them."""
        end = "/" if below else ""
        return Listing("reversed", tuple((f"{os.path.realpath(folder)}{end}",) for folder in folders))

    @staticmethod
    def given(folders: Iterable[ListedFolder], roots: Sequence[str]) -> Listing:
        """Return the order that ``folders`` have, for the site-packages folders ``roots``."""
        named = [(os.path.join(root, each.path), each.names) for root in roots for each in folders]
        return Listing("given", tuple((os.path.realpath(folder), *names) for folder, names in named))

    def encode(self) -> bytes:
        """Return the contents of the file that ``payload/probe/listing.py`` reads."""
        blocks = ((self.order,), *self.folders)
        return "\0\0".join("\0".join(block) for block in blocks).encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run a workload.

    It has more than 12 fields because tracing, the search for stand-ins, verification and timing all use this one way
    of running a workload, each with a few options of its own.

    Attributes:
        python: the interpreter's executable.
        observers: what observes the run.
        user_base: the value of PYTHONUSERBASE, or empty.
        sys_path_front: folders put in front of ``sys.path``.
        path_entries: folders put on PYTHONPATH, which child processes inherit.
        isolation: folders that the run cannot read or write.
        avoid: folders that do not belong to the function even if they are below the entry's folder.
        timeout: the time limit in seconds.
        show_output: send the program's output to standard error while it runs, instead of returning it.
        page_tracer: records which pages of shared libraries are touched.
        restore_log: file to which the runtime of a layer writes what it restores.
        libraries: a folder for LD_LIBRARY_PATH.
        study_folders: folders whose modules are described, see ``payload/probe/study.py``.
        brief_study: leave out what an earlier run has described, and no other can change: signatures.
        standard_modules: modules of the standard library that are described, too.
        stand_in_tables: file with the tables of the modules to be replaced by stand-ins: a line of JSON with what all
            need, then for each module a line with its name and its table, both JSON, a tab between them.
        check_file: file with the namespaces of the original modules, which a check after the run compares.
        max_registry_bytes: how many bytes of modules that fill registries may be loaded anyway; None: not checked.
        modules_only: observe only which modules are imported and what becomes of stand-ins.
        bytecode: a folder for the interpreter's bytecode cache, which several runs may share (CPython 3.8 and later).
        installed_bytecode: link from there to the bytecode that is installed, instead of compiling every module.
        time_imports: measure the time of imports, and observe nothing else.
        listing: the order in which folders are listed; None: as the system lists them.
        snapshot: do between the import of the handler and the first event what a layer does before a snapshot.
    """

    python: str
    observers: tuple[Observer, ...]
    user_base: str = ""
    sys_path_front: tuple[str, ...] = ()
    path_entries: tuple[str, ...] = ()
    isolation: process.Isolation | None = None
    avoid: tuple[str, ...] = ()
    timeout: float = DEFAULT_TIMEOUT
    show_output: bool = False
    page_tracer: PageTracer | None = None
    restore_log: Path | None = None
    libraries: Path | None = None
    study_folders: tuple[str, ...] = ()
    brief_study: bool = False
    standard_modules: tuple[str, ...] = ()
    stand_in_tables: Path | None = None
    check_file: Path | None = None
    max_registry_bytes: int | None = None
    modules_only: bool = False
    bytecode: Path | None = None
    installed_bytecode: bool = False
    time_imports: bool = False
    listing: Listing | None = None
    snapshot: bool = False

    @property
    def studies(self) -> bool:
        """Whether modules are described."""
        return bool(self.study_folders or self.standard_modules)


@dataclass(frozen=True, slots=True)
class PageTracer:
    """Records which pages of shared libraries a run touches.

    Attributes:
        library: the auditing library, see ld.so(8), LD_AUDIT.
        table: the file in which it marks the pages.
    """

    library: Path
    table: Path


def run_observed(workload: Workload, settings: RunOptions, scratch: Path) -> RunRecord:
    """Run ``workload`` once in a fresh interpreter. All files are written to ``scratch``, which must not exist yet.

    Raises:
        RunnerError: the interpreter or an observer cannot be started.
        TraceError: the scratch folder cannot be written.
    """
    root = scratch / "task"
    facts, result, stdout = scratch / "facts", scratch / "result.json", scratch / "stdout"
    import_times = scratch / "import_times.json"
    harness_settings = {
        "root": str(root),
        "module": workload.entry.stem,
        "handler": workload.handler,
        "events": [[e.name, e.payload, dict(e.context)] for e in workload.events],
        "front": list(settings.sys_path_front),
        "result": str(result),
        "stdout": str(stdout),
        "study": str(scratch / "study.json") if settings.studies else "",
        "sites": list(settings.study_folders),
        "brief": settings.brief_study,
        "standard": list(settings.standard_modules),
        "check": str(settings.check_file or ""),
        "room": settings.max_registry_bytes,
        "timed": str(import_times) if settings.time_imports else "",
    }
    with scratch_errors(TraceError, f"cannot write into {scratch}"):
        scratch.mkdir(parents=True)
        for folder in ("home", "tmp"):
            (scratch / folder).mkdir()
        facts.touch()
        (scratch / "settings.json").write_text(json.dumps(harness_settings))
        if settings.listing:
            (scratch / "listing").write_bytes(settings.listing.encode())
    make_task_root(workload, root, settings.avoid)
    probe = copy_probe(scratch)
    command = [
        settings.python,
        *([] if settings.bytecode else ["-B"]),
        str(probe / "harness.py"),
        str(scratch / "settings.json"),
    ]
    calls = scratch / "calls" if Observer.STRACE in settings.observers else None
    environment = _environment(workload, settings, scratch, facts)
    if calls is not None:
        command = _under_strace(command, environment, calls)
    log = None if settings.show_output else scratch / "log"
    ended = process.run(
        command,
        environment,
        root,
        timeout=settings.timeout,
        output=log,
        on_output=progress.output_callback(workload.entry.name) if settings.show_output else None,
        isolation=settings.isolation,
    )
    output = log.read_text(errors="replace") if log else ""
    if ended.returncode == process.NOT_ISOLATED and settings.isolation is not None:
        raise RunnerError(output.strip())
    study = scratch / "study.json" if settings.studies else None
    times = import_times if import_times.exists() else None
    return RunRecord(ended, _read_outcome(result, stdout), root, facts, calls, output, study, times)


def _under_strace(command: Sequence[str], environment: dict[str, str], calls: Path) -> list[str]:
    """Return the command that traces ``command``; what is for the loader of that alone leaves ``environment``.

    strace may be a program for another processor than the interpreter.
    """
    own = {name: environment.pop(name) for name in ("LD_AUDIT",) if name in environment}
    return [*(strace.strace_command() or ()), *strace.options(calls, own), *command]


def _environment(workload: Workload, settings: RunOptions, scratch: Path, facts: Path) -> dict[str, str]:
    """Return the environment of the process: the user's, with Lambda's variables and a home folder without caches.

    A cache in the home folder (matplotlib's list of fonts, downloaded weights) would let the run succeed here with
    files that no Lambda function has, and the trace would lack the files that a cold start reads.
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
    # This folder starts the probe; with it, timed imports would mostly measure the probe.
    startup = [] if settings.time_imports else [str(scratch / "probe" / "startup")]
    environment |= {
        "HOME": str(scratch / "home"),
        "TMPDIR": str(scratch / "tmp"),
        "LAMBDA_TASK_ROOT": str(scratch / "task"),
        "_HANDLER": f"{workload.entry.stem}.{workload.handler or 'handler'}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join([*startup, *settings.path_entries]),
        process.PROBE_VARIABLE: f"{facts}:{_probe_options(settings)}",
    }
    environment |= _observer_variables(settings, scratch)
    if settings.bytecode:
        del environment["PYTHONDONTWRITEBYTECODE"]
    if settings.user_base:
        environment["PYTHONUSERBASE"] = settings.user_base
    if workload.models:
        environment["MODEL_PATH"] = str(scratch / "task" / workload.models[0].name)
    return environment


def _probe_options(settings: RunOptions) -> str:
    """Return the options behind the name of the file in PROBE_VARIABLE, see ``start`` in payload/probe/probe.py."""
    chosen = {
        "s": Observer.STRACE not in settings.observers,
        "b": settings.installed_bytecode,
        "m": settings.modules_only,
    }
    return "".join(letter for letter, wanted in chosen.items() if wanted)


def _observer_variables(settings: RunOptions, scratch: Path) -> dict[str, str]:
    """Return the variables that configure the observers and the dynamic loader of the process."""
    environment: dict[str, str] = {}
    if settings.page_tracer:
        environment |= {
            "LD_AUDIT": str(settings.page_tracer.library),
            "LAYER_MINIMIZER_PAGES": str(settings.page_tracer.table),
        }
    if settings.bytecode:
        environment["PYTHONPYCACHEPREFIX"] = str(settings.bytecode)
    if settings.stand_in_tables:
        environment[process.STAND_INS_VARIABLE] = str(settings.stand_in_tables)
    if settings.listing:
        environment[process.LISTING_VARIABLE] = str(scratch / "listing")
    if settings.restore_log:
        environment["LAYER_MINIMIZER_LOG"] = str(settings.restore_log)
    if settings.snapshot:
        environment["AWS_LAMBDA_INITIALIZATION_TYPE"] = "snap-start"
    if settings.libraries:
        own = os.environ.get("LD_LIBRARY_PATH")
        environment["LD_LIBRARY_PATH"] = f"{settings.libraries}:{own}" if own else str(settings.libraries)
    return environment


def _read_outcome(result: Path, stdout: Path) -> Outcome | None:
    try:
        report = json.loads(result.read_bytes())
    except (OSError, ValueError):
        return None
    rows: Iterable[tuple[str, str]] = report["results"]
    if report["kind"] == "script" and not report["error"] and not report["refused"]:
        rows = [("stdout", stdout.read_text("utf-8", errors="backslashreplace"))]
    results = tuple((name, value) for name, value in rows)
    return Outcome(
        kind=report["kind"],
        phase=report["phase"],
        results=results,
        error=report["error"],
        refused=report["refused"],
        init_seconds=report.get("init_seconds", 0.0),
        peak_bytes=report.get("peak_kib", 0) << 10,
    )


def free_space_hint(folder: Path) -> str:
    """Return a sentence about the disk if it is nearly full, a frequent cause of unexplained failures; else empty."""
    free = shutil.disk_usage(folder).free
    if free > 1 << 20:
        return ""
    return f" The file system of {folder} has {free} bytes left; set TMPDIR to a folder with more space."
