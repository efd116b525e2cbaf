"""Runs a workload once in the user's own environment, and turns what the observers saw into a `Trace`."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_minimizer.errors import RunnerError, TraceError
from layer_minimizer.inventory import normalize
from layer_minimizer.model import (
    Event,
    ForeignRoot,
    LibraryPages,
    Result,
    Trace,
    TracedFile,
    TracedMetadata,
    TracedModule,
    TracedStandIn,
    Use,
)
from layer_minimizer.native import pagetrace, parts
from layer_minimizer.observation import Observation, Outcome, PageTracer, RunSettings, free_space_hint, observe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from layer_minimizer.model import Interpreter, Workload
    from layer_minimizer.observation import Observer

log = logging.getLogger(__name__)
_BYTECODE = re.compile(r"^(?P<folder>(?:.*/)?)__pycache__/(?P<name>[^/]+?)\.[^./]+(?:\.opt-\d)?\.pyc$")
_PROBE_USES = {"open": Use.OPEN, "list": Use.LIST, "stat": Use.STAT, "library": Use.MAP}


@dataclass(frozen=True, slots=True)
class Study:
    """What a run shows of modules beside what it used: tables by module name, and the modules whose code ran.

    ``seconds`` are those that the execution of each module took by itself, ``classes`` is the file with the signatures
    of all methods, ``names`` that with the namespaces at the end.

    Of a run with stand-ins: ``woken`` are those that had to load the real module, with the reason (see
    ``_runtime/standin.py``); ``implicit`` modules that were expected to be loaded and that nobody has imported;
    ``members`` (module, class, method) of which a stand-in told the signature; ``touched`` (name, kind) pairs of what
    was taken from each; ``unfit`` those that a check found not to be replaceable, with the reason (see
    ``_probe/standins.py``); ``fills`` those that fill what modules of other packages hold, by these packages, and
    ``room`` the bytes that are left for more of them.
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
        trace, _ = self._run(workload, scratch, RunSettings(**self._settings(scratch), shown=True))
        return trace

    def study(self, workload: Workload, scratch: Path) -> tuple[Trace, Study]:
        """Do as `trace`, and find out what every module of the site is, and whose code runs.

        Raises:
            TraceError, RunnerError: as `trace`.
        """
        settings = RunSettings(**self._settings(scratch), shown=True, study=self.interpreter.site_dirs)
        return self._run(workload, scratch, settings)

    def warm(self, workload: Workload, scratch: Path) -> Trace:
        """Do as `trace` once the cache of bytecode is filled: whoever opens a module's source now reads its text.

        Raises:
            TraceError, RunnerError: as `trace`.
        """
        trace, _ = self._run(workload, scratch, RunSettings(**self._settings(scratch)))
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
        settings = RunSettings(**self._settings(scratch), stand_ins=file, check=names, room=room)
        observation = observe(workload, settings, scratch)
        try:
            return self._read(observation, workload, settings)
        except TraceError as exc:
            log.debug("with stand-ins for %d modules: %s", len(tables), exc)
            return None, _read_study(observation, read_facts(observation, self.interpreter))

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

    def _run(self, workload: Workload, scratch: Path, settings: RunSettings) -> tuple[Trace, Study]:
        return self._read(observe(workload, settings, scratch), workload, settings)

    def _read(self, observation: Observation, workload: Workload, settings: RunSettings) -> tuple[Trace, Study]:
        outcome = require_success(observation, workload)
        facts = read_facts(observation, self.interpreter)
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


def traced_files(uses: Mapping[str, set[Use]]) -> tuple[TracedFile, ...]:
    """Give what was done with each file, in the order of their names."""
    return tuple(TracedFile(path, frozenset(used)) for path, used in sorted(uses.items()))


def texts_marked(trace: Trace) -> Trace:
    """Mark the modules whose source was opened, in a run that had bytecode for all of them."""
    modules = {module.path for module in trace.modules}
    read = [
        file for file in trace.files if file.path in modules and file.path.endswith(".py") and Use.OPEN in file.uses
    ]
    marked = {file.path: TracedFile(file.path, file.uses | {Use.TEXT}) for file in read}
    return replace(trace, files=tuple(marked.get(file.path, file) for file in trace.files))


def _read_study(observation: Observation, facts: Facts) -> Study:
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


def require_success(observation: Observation, workload: Workload) -> Outcome:
    """Give the outcome of a run that went well.

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


@dataclass(slots=True)
class Facts:
    """What a run used, by site-relative paths; ``task``: files of the workload's own folder, by their names in it."""

    uses: dict[str, set[Use]] = field(default_factory=dict)
    task: dict[str, set[Use]] = field(default_factory=dict)
    found: dict[str, TracedModule] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    foreign: dict[str, str] = field(default_factory=dict)
    unplaced: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    absolute: set[str] = field(default_factory=set)
    stood_in: set[str] = field(default_factory=set)
    woken: dict[str, str] = field(default_factory=dict)
    implicit: set[str] = field(default_factory=set)
    members: set[tuple[str, str, str]] = field(default_factory=set)
    touched: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    unfit: dict[str, str] = field(default_factory=dict)
    fills: dict[str, tuple[str, ...]] = field(default_factory=dict)
    room: int = 0
    processes: int = 0
    checked: bool = False

    def use(self, path: str, use: Use) -> None:
        """Note that ``path`` was used."""
        self.uses.setdefault(path, set()).add(use)

    def modules(self) -> tuple[TracedModule, ...]:
        """Give the modules in the order in which they were found."""
        return tuple(self.found.values())


def read_facts(observation: Observation, interpreter: Interpreter, site_dirs: Iterable[str] = ()) -> Facts:
    """Make the observers' facts site-relative.

    ``site_dirs`` are the folders that count as the site where they are not the interpreter's own: a layer's, in a
    verifying run. `Facts.absolute` holds every path that was opened, for those who must know.
    """
    places = _Places(interpreter, tuple(site_dirs) or interpreter.site_dirs, str(observation.root))
    facts = Facts()
    for fact in observation.probe_facts():
        _take_probe_fact(facts, fact, places)
    for path, use, succeeded in observation.system_calls():
        if succeeded:
            _take_use(facts, path, use, places)
        elif use is Use.OPEN:
            for relative in places.in_site(path):
                facts.missing.add(relative)
    return facts


def _take_probe_fact(facts: Facts, fact: tuple[str, ...], places: _Places) -> None:
    kind = fact[0]
    if facts.checked and kind != "note":
        return
    if kind in _PROBE_USES:
        _take_use(facts, fact[1], _PROBE_USES[kind], places)
    elif kind == "module":
        _take_module(facts, TracedModule(fact[1], fact[2], fact[3], int(fact[4])), places)
    elif kind in ("startup", "loaded"):
        if fact[1] not in facts.found:
            _take_module(facts, TracedModule(fact[1], fact[2], "", 0, startup=kind == "startup"), places)
    elif kind == "distribution":
        facts.metadata.setdefault(normalize(fact[1]), fact[2])
    elif kind == "missing":
        facts.missing.add(fact[1])
    elif kind == "note":
        _take_note(facts, fact[1])
    elif kind == "process":
        facts.processes += 1


def _take_note(facts: Facts, text: str) -> None:
    what, _, rest = text.partition(" ")
    name, _, reason = rest.partition(" ")
    if what == "woke":
        facts.woken.setdefault(name, reason)
    elif what == "stand-in":
        facts.stood_in.add(name)
    elif what == "implicit":
        facts.implicit.add(name)
    elif what == "member":
        attribute, _, method = reason.partition(" ")
        facts.members.add((name, attribute, method))
    elif what in ("late", "effect"):
        facts.unfit.setdefault(name, f"{what}: {reason}")
    elif what == "fills":
        facts.fills[name] = tuple(reason.split())
    elif what == "room":
        facts.room = int(name)
    elif what == "check":
        facts.checked = True  # what follows are the doings of a check
    elif what == "touched":
        kind, _, attribute = reason.partition(" ")
        facts.touched.setdefault(name, set()).add((attribute, kind))


def _take_use(facts: Facts, path: str, use: Use, places: _Places) -> None:
    if use in (Use.OPEN, Use.MAP):
        facts.absolute.add(path)
    if name := places.in_task(path):
        facts.task.setdefault(name, set()).add(use)
    relatives = places.in_site(path)
    for relative in relatives or _in_foreign(facts, path):
        facts.use(relative, use)


def source_of(path: str) -> str:
    """Give the source of a file of bytecode, else the path itself."""
    cached = _BYTECODE.match(path)
    return f"{cached['folder']}{cached['name']}.py" if cached else path


def _in_foreign(facts: Facts, path: str) -> Iterator[str]:
    """Give the layer's name of a file below a package that lies outside of the site."""
    for name, source in facts.foreign.items():
        if path == source or path.startswith(f"{source}/"):
            yield f"{name}{source_of(path).removeprefix(source)}"


def _take_module(facts: Facts, module: TracedModule, places: _Places) -> None:
    """Place a module's file: in the site, in a package outside of it, or nowhere that a layer could have."""
    # Modules that a program makes up may claim any file (torch.ops says "_ops.py").
    origin = module.path if module.path.startswith("/") else ""
    if name := places.in_task(origin):
        facts.task.setdefault(name, set()).add(Use.SPEC)
    relative = next(iter(places.in_site(origin)), "") if origin else ""
    if relative:
        facts.use(relative, Use.SPEC)
    elif origin and not places.is_known(origin) and os.path.isfile(origin):
        root = _foreign_root(module.name, origin)
        if root is None:
            facts.unplaced.add(origin)
        else:
            facts.foreign.setdefault(root.name, root.source)
            relative = f"{root.name}{origin.removeprefix(root.source)}"
            facts.use(relative, Use.SPEC)
    facts.found[module.name] = TracedModule(module.name, relative, module.importer, module.line, module.startup)


def _foreign_root(name: str, origin: str) -> ForeignRoot | None:
    """Find the top-level package or module that ``origin`` belongs to, by walking up the module's dotted name."""
    folder, file = origin.rsplit("/", 1)
    parts = name.split(".")
    if file.startswith("__init__."):
        wanted = parts
    elif file.split(".", 1)[0] == parts[-1]:
        wanted = parts[:-1]
        if not wanted:
            return ForeignRoot(file, origin)
    else:
        return None
    if folder.split("/")[-len(wanted) :] != wanted:
        return None
    top = folder.rsplit("/", len(wanted) - 1)[0] if len(wanted) > 1 else folder
    return ForeignRoot(wanted[0], top)


class _Places:
    """Tells where an absolute path lies: the site, the standard library, the workload itself."""

    def __init__(self, interpreter: Interpreter, site_dirs: tuple[str, ...], root: str) -> None:
        self._sites = tuple(f"{folder}/" for folder in site_dirs)
        scratch = os.path.dirname(root)
        self._task = f"{root}/"
        self._known = tuple(f"{os.path.realpath(f)}/" for f in (*interpreter.stdlib_dirs, root, scratch))
        self._real = cache(os.path.realpath)

    def _names(self, path: str) -> Iterator[str]:
        """Give the path as it was used, and with its folder's links resolved."""
        yield path
        folder, _, name = path.rpartition("/")
        real = self._real(folder)
        if real != folder:
            yield f"{real}/{name}"

    def in_site(self, path: str) -> list[str]:
        """Give the site-relative names of ``path``, none when it lies elsewhere. Bytecode counts as its source."""
        found = []
        for name in self._names(path):
            for site in self._sites:
                if name.startswith(site) and len(name) > len(site):
                    relative = source_of(name[len(site) :])
                    if not relative.endswith("__pycache__") and relative not in found:
                        found.append(relative)
                    break
        return found

    def in_task(self, path: str) -> str:
        """Give the name of ``path`` in the workload's own folder, empty when it lies elsewhere."""
        return source_of(path[len(self._task) :]) if path.startswith(self._task) else ""

    def is_known(self, path: str) -> bool:
        """Say whether ``path`` is part of the standard library or of the run's own scratch folder."""
        return any(name.startswith(self._known) for name in self._names(path))
