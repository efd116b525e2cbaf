"""Runs a workload once in the user's own environment, and turns what the observers saw into a `Trace`."""

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_minimizer.core.errors import RunnerError, TraceError
from layer_minimizer.execution.facts import Facts, read_facts, traced_files
from layer_minimizer.execution.observed_run import (
    Observer,
    Outcome,
    PageTracer,
    RunOptions,
    RunRecord,
    free_space_hint,
    run_observed,
)
from layer_minimizer.model.trace import ForeignRoot, LibraryPages, Trace, TracedFile, TracedMetadata, TracedStandIn, Use
from layer_minimizer.model.workload import Event, Result, Workload
from layer_minimizer.native import pagetrace, parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from layer_minimizer.model.interpreter import Interpreter

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Study:
    """What a run shows of modules beside what it used: tables by module name, and the modules whose code ran.

    ``seconds`` are those that the execution of each module took by itself, ``classes`` is the file with the signatures
    of all methods, ``names`` that with the namespaces at the end.

    Of a run with stand-ins: ``woken`` are those that had to load the real module, with the reason (see
    ``payload/runtime/standin.py``); ``implicit`` modules that were expected to be loaded and that nobody has imported;
    ``members`` (module, class, method) of which a stand-in told the signature; ``touched`` (name, kind) pairs of what
    was taken from each; ``unfit`` those that a check found not to be replaceable, with the reason (see
    ``payload/probe/standins.py``); ``fills`` those that fill what modules of other packages hold, by these packages,
    and ``room`` the bytes that are left for more of them.
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
    room: int = 0


@dataclass(frozen=True, slots=True)
class Tracer:
    """Runs workloads where everything is installed.

    ``libraries`` are those whose pages are watched. ``bytecode`` is the interpreter's cache for all runs; the first of
    them fills it.
    """

    interpreter: Interpreter
    observers: tuple[Observer, ...]
    timeout: float
    libraries: tuple[tuple[str, Path], ...] = ()
    bytecode: Path | None = None

    def trace(self, workload: Workload, scratch: Path) -> Trace:
        """Run ``workload``, and record what it used.

        Raises:
            TraceError: the workload raises, is killed, or does not end within ``timeout`` seconds.
            RunnerError: the interpreter or an observer cannot be started.
        """
        trace, _ = self._run(workload, scratch, RunOptions(**self._settings(scratch), shown=True))
        return trace

    def study(self, workload: Workload, scratch: Path) -> tuple[Trace, Study]:
        """Do as `trace`, and find out what every module of the site is, and whose code runs.

        Raises:
            TraceError, RunnerError: as `trace`.
        """
        settings = RunOptions(**self._settings(scratch), shown=True, study=self.interpreter.site_dirs)
        return self._run(workload, scratch, settings)

    def warm(self, workload: Workload, scratch: Path) -> Trace:
        """Do as `trace` once the cache of bytecode is filled: whoever opens a module's source now reads its text.

        Raises:
            TraceError, RunnerError: as `trace`.
        """
        trace, _ = self._run(workload, scratch, RunOptions(**self._settings(scratch)))
        return texts_marked(trace)

    def stand_in(  # noqa: PLR0913 - all that such a run takes
        self,
        workload: Workload,
        scratch: Path,
        tables: Mapping[str, Any],
        *,
        expected: Mapping[str, list[str]],
        study: Study,
        check: bool = False,
        room: int | None = None,
    ) -> tuple[Trace | None, Study]:
        """Do as `trace`, with stand-ins for the modules of ``tables``; there is no trace of a workload that fails.

        ``expected`` are the names of submodules by package that are loaded in a run without stand-ins, ``study`` what
        that run has shown. ``check``: find out what is not replaceable, once all events have been handled;
        ``room``: what fills registries is neither, as far as it has no more bytes together.

        Raises:
            TraceError, RunnerError: as `trace`.
        """
        scratch.parent.mkdir(parents=True, exist_ok=True)
        file = scratch.with_name("stand_ins.json")
        file.write_text(json.dumps({"tables": tables, "expected": expected, "classes": str(study.classes)}))
        names = study.names if check else None
        settings = RunOptions(**self._settings(scratch), stand_ins=file, check=names, room=room)
        observation = run_observed(workload, settings, scratch)
        try:
            return self._read(observation, workload, settings)
        except TraceError as exc:
            log.debug("with stand-ins for %d modules: %s", len(tables), exc)
            return None, _read_study(observation, observation_facts(observation, self.interpreter))

    def _settings(self, scratch: Path) -> dict[str, Any]:
        interpreter = self.interpreter
        return {
            "python": interpreter.executable,
            "observers": self.observers,
            "user_base": interpreter.user_base,
            "avoid": interpreter.avoid,
            "timeout": self.timeout,
            "bytecode": self.bytecode,
            "page_tracer": _page_tracer(self.libraries, scratch) if self.libraries else None,
            "libraries": Path(interpreter.library_dir) if interpreter.library_dir else None,
        }

    def _run(self, workload: Workload, scratch: Path, settings: RunOptions) -> tuple[Trace, Study]:
        return self._read(run_observed(workload, settings, scratch), workload, settings)

    def _read(self, observation: RunRecord, workload: Workload, settings: RunOptions) -> tuple[Trace, Study]:
        outcome = require_success(observation, workload)
        facts = observation_facts(observation, self.interpreter)
        study = _read_study(observation, facts)
        if outcome.kind == "handler" and not workload.events:
            # Said outright, so that this trace can be united with others that have events.
            workload = replace(workload, events=tuple(Event(name, {}) for name, _ in outcome.results))
        trace = Trace(
            python=".".join(map(str, self.interpreter.version)),
            observers=tuple(sorted(self.observers)),
            kind=outcome.kind,
            modules=facts.modules(),
            files=traced_files(facts.uses),
            metadata=tuple(TracedMetadata(name, asker) for name, asker in sorted(facts.metadata.items())),
            foreign=tuple(ForeignRoot(name, source) for name, source in sorted(facts.foreign.items())),
            unplaced=tuple(sorted(facts.unplaced)),
            processes=facts.processes,
            results=tuple(Result(name, value) for name, value in outcome.results),
            seconds=observation.ended.seconds,
            workload=workload,
            libraries=_touched(self.libraries, settings.page_tracer),
            stand_ins=tuple(
                TracedStandIn(name, facts.found[name].path, {})
                for name in sorted(facts.stood_in - facts.woken.keys())
                if name in facts.found
            ),
            task=traced_files(facts.task),
        )
        return trace, study


def texts_marked(trace: Trace) -> Trace:
    """Mark the modules whose source was opened, in a run that had bytecode for all of them."""
    modules = {module.path for module in trace.modules}
    read = [
        file for file in trace.files if file.path in modules and file.path.endswith(".py") and Use.OPEN in file.uses
    ]
    marked = {file.path: TracedFile(file.path, file.uses | {Use.TEXT}) for file in read}
    return replace(trace, files=tuple(marked.get(file.path, file) for file in trace.files))


def _read_study(observation: RunRecord, facts: Facts) -> Study:
    if observation.study is None or not observation.study.exists():
        return Study(
            tables={},
            ran=frozenset(),
            woken=facts.woken,
            implicit=frozenset(facts.implicit),
            members=frozenset(facts.members),
            touched={name: tuple(sorted(pairs)) for name, pairs in facts.touched.items()},
            unfit=facts.unfit,
            fills=facts.fills,
            room=facts.room,
        )
    said = json.loads(observation.study.read_bytes())
    # What a layer below has compressed is not installed: nothing of ours could stand in for it.
    tables = {name: table for name, table in said["tables"].items() if os.path.exists(table["file"])}
    ran = set(said["ran"]) if said["ran"] is not None else {table["file"] for table in tables.values()}
    used = frozenset(name for name, table in tables.items() if table["file"] in ran)
    return Study(
        tables=tables,
        ran=used,
        woken=facts.woken,
        classes=Path(f"{observation.study}.classes"),
        names=Path(f"{observation.study}.names"),
        seconds=said["seconds"],
    )


def _page_tracer(libraries: Iterable[tuple[str, Path]], scratch: Path) -> PageTracer:
    """Prepare the watching of pages. The tracer is copied: the loader splits the variable that names it at colons."""
    source = parts.page_tracer()
    if source is None:
        raise RunnerError(parts.missing())
    scratch.parent.mkdir(parents=True, exist_ok=True)
    tracer = PageTracer(scratch.with_name("pagetrace.so"), scratch.with_name("pages"))
    shutil.copyfile(source, tracer.library)
    for path, problem in pagetrace.make_table(libraries, tracer.table).items():
        log.debug("pages of %s are not watched: %s", path, problem)
    return tracer


def _touched(libraries: Iterable[tuple[str, Path]], tracer: PageTracer | None) -> tuple[LibraryPages, ...]:
    if tracer is None:
        return ()
    sizes = {path: file.stat().st_size for path, file in libraries}
    touched = pagetrace.read_table(tracer.table, libraries)
    return tuple(LibraryPages.of(path, sizes[path], touched[path]) for path in sorted(touched))


def require_success(observation: RunRecord, workload: Workload) -> Outcome:
    """Return the outcome of a run that went well.

    Raises:
        TraceError: it did not; the text is the user's own traceback where there is one.
    """
    name, outcome, ended = workload.entry.name, observation.outcome, observation.ended
    if outcome is None or ended.timed_out:
        hint = " Give it longer with --timeout." if ended.timed_out else free_space_hint(observation.root)
        raise TraceError(f"{name} {ended.ending} before it had given a result.{hint}{_tail(observation.said)}")
    if outcome.refused:
        raise TraceError(outcome.refused)
    if outcome.error:
        where = {"import": "while it was imported", "script": "", "parse": "while it was read"}
        during = where.get(outcome.phase, f"on event {outcome.phase!r}")
        # The run happened in a copy of the entry's folder; the user knows the original.
        said = outcome.error.rstrip().replace(f"{observation.root}/", f"{workload.entry.parent}/")
        raise TraceError(f"{name} raised {during}".rstrip() + f":\n{said}")
    return outcome


def _tail(said: str) -> str:
    lines = said.strip().splitlines()[-15:]
    return "\nIts last lines were:\n" + "\n".join(lines) if lines else ""


def observation_facts(observation: RunRecord, interpreter: Interpreter, site_dirs: Iterable[str] = ()) -> Facts:
    """Return what the observers of a run saw; see `read_facts`."""
    calls = observation.system_calls()
    return read_facts(observation.probe_facts(), interpreter, observation.root, calls=calls, site_dirs=site_dirs)
