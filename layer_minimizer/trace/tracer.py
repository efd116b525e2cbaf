"""Run a workload once in the user's own environment, and convert the observers' records to a `Trace`."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tomllib
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_minimizer.core.errors import RunnerError, TraceError
from layer_minimizer.execution import process
from layer_minimizer.execution.facts import Facts, read_facts, traced_files
from layer_minimizer.execution.observed_run import (
    Listing,
    Observer,
    Outcome,
    PageTracer,
    RunOptions,
    RunRecord,
    free_space_hint,
    run_observed,
)
from layer_minimizer.model.trace import (
    ForeignRoot,
    LibraryPages,
    MissingObserver,
    Trace,
    TracedFile,
    TracedMetadata,
    TracedStandIn,
    Use,
)
from layer_minimizer.model.workload import Event, Result, Workload
from layer_minimizer.native import pagetrace, parts
from layer_minimizer.trace import observers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from layer_minimizer.model.interpreter import Interpreter

log = logging.getLogger(__name__)
# The kinds of names in tables that are values; see payload/runtime/standin.py.
_VALUES = ("value", "tuple", "list")


@dataclass(frozen=True, slots=True)
class Study:
    """What a run shows about modules, in addition to its trace.

    Each of its many fields is one kind of record that the probe writes.

    ``tables``: description of each module by name (see ``payload/probe/study.py``).
    ``ran``: modules whose functions were called while the events were handled.
    ``classes``: file with the signatures of all methods.
    ``names``: file with the modules' namespaces at the end of the run.
    ``seconds``: execution time of each module, without its imports.

    Only for runs with stand-ins:

    ``woken``: stand-ins that had to load the real module, with the reason (see ``payload/runtime/standin.py``).
    ``implicit``: modules that code expected to be loaded but did not import itself.
    ``members``: (module, class, method) of each signature that was requested from a stand-in.
    ``touched``: (name, kind) pairs of the attributes that were read from each stand-in.
    ``unfit``: modules that the check found not to be replaceable, with the reason (see ``payload/probe/standins.py``).
    ``fills``: modules that fill registries of other packages, with these packages.
    ``environ``: environment variables that modules set, as in `SearchResult`.
    ``remaining_bytes``: what is left of ``max_registry_bytes`` (see `Tracer.trace_with_stand_ins`).

    ``watched``: whether ``ran`` is known; else it has all modules.
    """

    tables: Mapping[str, Mapping[str, Any]]
    ran: frozenset[str]
    woken: Mapping[str, str]
    implicit: frozenset[str] = frozenset()
    members: frozenset[tuple[str, str, str]] = frozenset()
    classes: Path = Path()
    names: Path = Path()
    seconds: Mapping[str, float] = field(default_factory=dict)
    touched: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    unfit: Mapping[str, str] = field(default_factory=dict)
    fills: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    environ: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    remaining_bytes: int = 0
    watched: bool = True

    def agreed_with(self, again: Study, *, restores: bool) -> Study:
        """Return what this run and another one show: a value that differs between them is none of the module's own.

        A module that was used in one of them alone was used by chance: a timer, a collection of garbage. It counts as
        used unless a stand-in ``restores`` it whenever that happens again.
        """
        tables = {
            name: {**table, "names": _agreed_names(table["names"], again.tables.get(name, table)["names"])}
            for name, table in self.tables.items()
        }
        both = restores and self.watched and again.watched
        return replace(self, tables=tables, ran=self.ran & again.ran if both else self.ran | again.ran)


def _agreed_names(names: Mapping[str, Any], again: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _agreed_kind(kind, again.get(name, kind)) for name, kind in names.items()}


def _agreed_kind(kind: list[Any], again: list[Any]) -> list[Any]:
    if kind == again or kind[0] not in _VALUES:
        return kind
    if kind[0] == again[0] == "list" and sorted(kind[1]) == sorted(again[1]):
        return ["list", sorted(kind[1])]  # the order is that of a set: another one in each process
    return ["other"]


@cache
def standard_modules() -> tuple[str, ...]:
    """Return the modules of the standard library that stand-ins may replace."""
    data = tomllib.loads(resources.files(__package__).joinpath("standard_modules.toml").read_text("utf-8"))
    return tuple(data["modules"])


@dataclass(frozen=True, slots=True)
class Tracer:
    """Runs workloads in the full environment.

    ``listing``: the order in which folders are listed; None: as the system lists them.
    ``libraries``: (site-relative path, file) of the libraries whose pages are traced.
    ``constants``: those of them of which pages with constants are traced, too: libraries for a GPU.
    ``bytecode``: folder for the interpreter's bytecode cache; the first run fills it, all later runs use it.
    """

    interpreter: Interpreter
    observers: tuple[Observer, ...]
    timeout: float
    libraries: tuple[tuple[str, Path], ...] = ()
    constants: frozenset[str] = frozenset()
    bytecode: Path | None = None
    listing: Listing | None = None

    def trace(self, workload: Workload, scratch: Path) -> Trace:
        """Run ``workload`` and return its trace.

        Raises:
            TraceError: the workload raises, is killed, or does not finish within ``timeout`` seconds.
            RunnerError: the interpreter or an observer cannot be started.
        """
        trace, _ = self._run(workload, scratch, RunOptions(**self._settings(scratch), show_output=True))
        return trace

    def study(self, workload: Workload, scratch: Path) -> tuple[Trace, Study]:
        """Run as `trace` does; also return a description of every imported module, and which modules' functions ran.

        With a ``bytecode`` folder, that is filled with what is installed: the trace need not have the opened sources.

        Raises:
            TraceError, RunnerError: as `trace`.
        """
        settings = RunOptions(
            **self._settings(scratch),
            **self._studied(),
            show_output=True,
            installed_bytecode=self.bytecode is not None,
        )
        return self._run(workload, scratch, settings)

    def run_again(self, workload: Workload, scratch: Path, *, studied: bool) -> tuple[Trace, Study]:
        """Run as `study` or `trace` does, without showing what the workload prints; the study is without signatures.

        Raises:
            TraceError, RunnerError: as `trace`.
        """
        studied_folders = self._studied() if studied else {}
        settings = RunOptions(**self._settings(scratch), **studied_folders, brief_study=True)
        return self._run(workload, scratch, settings)

    def trace_with_bytecode(self, workload: Workload, scratch: Path) -> Trace:
        """Run as `trace` does, with the bytecode cache filled: source files that are opened now are read as text.

        Raises:
            TraceError, RunnerError: as `trace`.
        """
        trace, _ = self._run(workload, scratch, RunOptions(**self._settings(scratch)))
        return mark_read_sources(trace)

    def trace_with_stand_ins(  # noqa: PLR0913 - the parameters of a run with stand-ins
        self,
        workload: Workload,
        scratch: Path,
        tables: Mapping[str, Any],
        *,
        expected: Mapping[str, list[str]],
        study: Study,
        modules_only: bool = False,
        check: bool = False,
        max_registry_bytes: int | None = None,
    ) -> tuple[Trace | None, Study]:
        """Run as `trace` does, with stand-ins for the modules in ``tables``; the trace is None if the workload fails.

        Args:
            workload: What to run.
            scratch: Folder for the run; it must not exist.
            tables: Descriptions of the modules to replace, by name.
            expected: Submodules by package that a run without stand-ins loads.
            study: The study of a run without stand-ins.
            modules_only: Do not trace files, for a run of which only modules and results are of interest.
            check: After all events, load each replaced module, and report those that cannot be replaced.
            max_registry_bytes: In the check, report the smallest modules that fill registries as not replaceable, up
                to this total size.

        Raises:
            TraceError, RunnerError: as `trace`.
        """
        scratch.parent.mkdir(parents=True, exist_ok=True)
        file = scratch.with_name("stand_ins")
        known = json.dumps({"expected": expected, "classes": str(study.classes)})
        lines = (f"{json.dumps(name)}\t{json.dumps(table)}" for name, table in tables.items())
        file.write_text("\n".join((known, *lines)))
        names = study.names if check else None
        settings = RunOptions(
            **self._settings(scratch),
            stand_in_tables=file,
            modules_only=modules_only,
            installed_bytecode=check and self.bytecode is not None,  # the check imports more than the first run has
            check_file=names,
            max_registry_bytes=max_registry_bytes,
        )
        record = run_observed(workload, settings, scratch)
        try:
            return self._read(record, workload, settings)
        except TraceError as exc:
            log.debug("with stand-ins for %d modules: %s", len(tables), exc)
            return None, _read_study(record, run_facts(record, self.interpreter))

    def _studied(self) -> dict[str, Any]:
        return {"study_folders": self.interpreter.site_dirs, "standard_modules": standard_modules()}

    def _settings(self, scratch: Path) -> dict[str, Any]:
        interpreter = self.interpreter
        return {
            "python": interpreter.executable,
            "observers": self.observers,
            "user_base": interpreter.user_base,
            "avoid": interpreter.avoid,
            "timeout": self.timeout,
            "bytecode": self.bytecode,
            "listing": self.listing,
            "page_tracer": self._page_tracer(scratch) if self.libraries else None,
            "libraries": Path(interpreter.library_dir) if interpreter.library_dir else None,
        }

    def _run(self, workload: Workload, scratch: Path, settings: RunOptions) -> tuple[Trace, Study]:
        return self._read(run_observed(workload, settings, scratch), workload, settings)

    def _read(self, record: RunRecord, workload: Workload, settings: RunOptions) -> tuple[Trace, Study]:
        outcome = require_success(record, workload)
        facts = run_facts(record, self.interpreter)
        study = _read_study(record, facts)
        missing = [*observers.silent(record, facts, settings.page_tracer, (path for path, _ in self.libraries))]
        if not study.watched:
            missing.append(MissingObserver(observers.CALLS, "the program uses sys.setprofile or sys.monitoring itself"))
        if outcome.kind == "handler" and not workload.events:
            # Name the empty event explicitly, so that this trace can be merged with traces that have events.
            workload = replace(workload, events=tuple(Event(name, {}) for name, _ in outcome.results))
        trace = Trace(
            python=".".join(map(str, self.interpreter.version)),
            observers=tuple(sorted(self.observers)),
            kind=outcome.kind,
            modules=facts.modules(),
            files=traced_files(facts.uses),
            metadata=tuple(TracedMetadata(name, reader) for name, reader in sorted(facts.metadata.items())),
            foreign=tuple(ForeignRoot(name, source) for name, source in sorted(facts.foreign.items())),
            unplaced=tuple(sorted(facts.unplaced)),
            processes=facts.processes,
            results=tuple(Result(name, value) for name, value in outcome.results),
            seconds=record.ended.seconds,
            workload=workload,
            libraries=self._touched_pages(settings.page_tracer),
            page_size=self.interpreter.page_size,
            stand_ins=tuple(
                TracedStandIn(name, facts.modules_by_name[name].path, {})
                for name in sorted(facts.stand_ins - facts.loaded_originals.keys())
                if name in facts.modules_by_name
            ),
            task=traced_files(facts.task),
            lazy_imports=process.lazy_imports(self.interpreter.version),
            places=record.places(self.interpreter.site_dirs).folders,
            missing_observers=tuple(missing),
        )
        return trace, study

    def _page_tracer(self, scratch: Path) -> PageTracer:
        """Prepare page tracing. The library is copied, because the loader splits LD_PRELOAD paths at colons."""
        source = parts.page_tracer(self.interpreter.machine)
        if source is None:
            raise RunnerError(parts.unavailable_reason(self.interpreter.machine))
        scratch.parent.mkdir(parents=True, exist_ok=True)
        tracer = PageTracer(scratch.with_name("pagetrace.so"), scratch.with_name("pages"))
        shutil.copyfile(source, tracer.library)
        refused = pagetrace.make_table(self.libraries, tracer.table, self.constants, self.interpreter.page_size)
        for path, problem in refused.items():
            log.debug("pages of %s are not traced: %s", path, problem)
        return tracer

    def _touched_pages(self, tracer: PageTracer | None) -> tuple[LibraryPages, ...]:
        if tracer is None:
            return ()
        sizes = {path: file.stat().st_size for path, file in self.libraries}
        touched = pagetrace.read_table(tracer.table, self.libraries)
        return tuple(LibraryPages.of(path, sizes[path], touched[path]) for path in sorted(touched))


def mark_read_sources(trace: Trace) -> Trace:
    """Add ``Use.TEXT`` to modules whose source was opened although the run had bytecode for all modules."""
    modules = {module.path for module in trace.modules}
    read = [
        file for file in trace.files if file.path in modules and file.path.endswith(".py") and Use.OPEN in file.uses
    ]
    marked = {file.path: TracedFile(file.path, file.uses | {Use.TEXT}) for file in read}
    return replace(trace, files=tuple(marked.get(file.path, file) for file in trace.files))


def _read_study(record: RunRecord, facts: Facts) -> Study:
    if record.study is None or not record.study.exists():
        return Study(
            tables={},
            ran=frozenset(),
            woken=facts.loaded_originals,
            implicit=frozenset(facts.implicit),
            members=frozenset(facts.members),
            touched={name: tuple(sorted(pairs)) for name, pairs in facts.touched.items()},
            unfit=facts.not_replaceable,
            fills=facts.filled_registries,
            environ=facts.set_variables,
            remaining_bytes=facts.remaining_bytes,
        )
    data = json.loads(record.study.read_bytes())
    # Modules in the compressed archive of a base layer are not installed files: no stand-in can replace them.
    tables = {name: table for name, table in data["tables"].items() if os.path.exists(table["file"])}
    ran = set(data["ran"]) if data["ran"] is not None else {table["file"] for table in tables.values()}
    used = frozenset(name for name, table in tables.items() if table["file"] in ran)
    return Study(
        tables=tables,
        ran=used,
        woken=facts.loaded_originals,
        classes=Path(f"{record.study}.classes"),
        names=Path(f"{record.study}.names"),
        seconds=data["seconds"],
        watched=data["ran"] is not None,
    )


def require_success(record: RunRecord, workload: Workload) -> Outcome:
    """Return the outcome of a successful run.

    Raises:
        TraceError: the run failed; the message contains the user's traceback, if there is one.
    """
    name, outcome, ended = workload.entry.name, record.outcome, record.ended
    if outcome is None or ended.timed_out:
        hint = " Increase the limit with --timeout." if ended.timed_out else free_space_hint(record.root)
        raise TraceError(f"{name} {ended.ending} before it returned a result.{hint}{_tail(record.output)}")
    if outcome.refused:
        raise TraceError(outcome.refused)
    if outcome.error:
        where = {"import": "while it was imported", "script": "", "parse": "while it was read"}
        during = where.get(outcome.phase, f"on event {outcome.phase!r}")
        # The workload ran in a copy of the entry's folder: show the original paths.
        error = outcome.error.rstrip().replace(f"{record.root}/", f"{workload.entry.parent}/")
        raise TraceError(f"{name} raised {during}".rstrip() + f":\n{error}")
    return outcome


def _tail(output: str) -> str:
    lines = output.strip().splitlines()[-15:]
    return "\nThe last lines of its output:\n" + "\n".join(lines) if lines else ""


def run_facts(record: RunRecord, interpreter: Interpreter, site_dirs: Iterable[str] = ()) -> Facts:
    """Return the facts that the observers of a run recorded; see `read_facts`."""
    calls = record.system_calls()
    return read_facts(record.probe_facts(), interpreter, record.root, calls=calls, site_dirs=site_dirs)
