"""The values that flow from stage to stage, and the JSON form of those that are saved. No I/O here.

Paths of installed files are *site-relative* POSIX strings (``numpy/__init__.py``), so that traces of different
machines can be merged. Bytes that are no UTF-8 appear in them as surrogate escapes, as everywhere in Python.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from layer_minimizer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

TRACE_FORMAT = 1
PLAN_FORMAT = 1
# What the harness calls the one invocation of a handler for which there is no event.
_NO_EVENT = "(no event)"


# ---- what must keep working ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """One invocation of the handler: its JSON event, and what the context object should say."""

    name: str
    payload: Any
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Workload:
    """What must keep working: the entry file, its models, and the events it is called with.

    ``handler`` is the function's name, or empty for "``handler``, else ``lambda_handler``, else a plain script".
    """

    entry: Path
    handler: str = ""
    models: tuple[Path, ...] = ()
    events: tuple[Event, ...] = ()


# ---- where it runs ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The Python whose installed distributions are minimized.

    ``base_executable`` is the interpreter that a virtual environment was made from (itself when there is none);
    ``site_dirs`` are its site-packages folders in the order of ``sys.path``; ``path_entries`` are folders that
    ``.pth`` files put on ``sys.path`` beside them; ``hidden_dirs`` are further site-packages folders that must be
    out of reach when a layer is verified (those of the base interpreter and of the user); ``library_dir`` is a folder
    that the dynamic loader looks into first, or empty.
    """

    executable: str
    base_executable: str
    version: tuple[int, int, int]
    soabi: str
    machine: str
    site_dirs: tuple[str, ...]
    path_entries: tuple[str, ...]
    stdlib_dirs: tuple[str, ...]
    hidden_dirs: tuple[str, ...]
    user_base: str
    library_dir: str = ""

    @property
    def folder(self) -> str:
        """Name of the version's folder in a layer, ``python3.11``."""
        return f"python{self.version[0]}.{self.version[1]}"

    @property
    def avoid(self) -> tuple[str, ...]:
        """Folders that are no part of a function although they may lie below the entry's."""
        return (*self.site_dirs, *self.hidden_dirs)

    @property
    def cache_tag(self) -> str:
        """What the names of its bytecode files have in their middle, ``cpython-311``."""
        return f"cpython-{self.version[0]}{self.version[1]}"


# ---- facts of one run ---------------------------------------------------------------------------------------------


class Use(StrEnum):
    """What a process did with a file."""

    OPEN = "open"  # opened for reading
    MAP = "map"  # mapped as a shared library
    TEXT = "text"  # a module's source was read though its bytecode was at hand
    STAT = "stat"  # its existence, kind or size was asked for
    LIST = "list"  # a folder whose entries were listed
    SPEC = "spec"  # found as the file of a module, whether or not that module was then loaded


@dataclass(frozen=True, slots=True)
class TracedFile:
    """An installed file or folder, and everything that was done with it."""

    path: str
    uses: frozenset[Use]


@dataclass(frozen=True, slots=True)
class TracedModule:
    """A module that was looked up, where it was found, and who asked for it first.

    ``path`` is empty for modules of the standard library and of the workload itself. ``startup`` says that a
    ``.pth`` file or a site customisation had imported it before the workload began.
    """

    name: str
    path: str
    importer: str
    line: int
    startup: bool = False


@dataclass(frozen=True, slots=True)
class TracedMetadata:
    """A distribution that was asked for by name (``importlib.metadata.version("x")``), and the module that asked."""

    distribution: str
    asked_by: str


@dataclass(frozen=True, slots=True)
class TracedDistribution:
    """A distribution (normalised name) that was installed where a run happened.

    ``tops`` are the first parts of its files' paths, where they are known.
    """

    name: str
    version: str
    tops: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What one event gave: its JSON text, or a script's standard output."""

    event: str
    value: str


@dataclass(frozen=True, slots=True)
class LibraryPages:
    """The pages of a shared library that a run touched, of those that could be left out of its file.

    ``size`` is the file's, by which another build of the library is told; ``runs`` are (first page, number) pairs.
    """

    path: str
    size: int
    runs: tuple[tuple[int, int], ...]

    @staticmethod
    def of(path: str, size: int, pages: Iterable[int]) -> LibraryPages:
        """Put page numbers into runs."""
        runs: list[tuple[int, int]] = []
        for page in sorted(pages):
            if runs and page == sum(runs[-1]):
                runs[-1] = (runs[-1][0], runs[-1][1] + 1)
            else:
                runs.append((page, 1))
        return LibraryPages(path, size, tuple(runs))

    def pages(self) -> frozenset[int]:
        """Give the numbers of the pages."""
        return frozenset(page for first, count in self.runs for page in range(first, first + count))


@dataclass(frozen=True, slots=True)
class ForeignRoot:
    """A top-level package or module that lies outside the site-packages folders, as an editable install's does.

    ``name`` is its path in a layer (``foo`` or ``foo.py``), ``source`` the absolute path of the folder or file.
    """

    name: str
    source: str


@dataclass(frozen=True, slots=True)
class TracedStandIn:
    """A module that another stood in for, and that was not needed. ``table``: see ``_runtime/standin.py``.

    ``touched`` are (name, kind) pairs of what was taken from the stand-in, ``seconds`` what it took to execute the real
    module, without what that imported, in a run under observers.
    """

    name: str
    path: str
    table: Mapping[str, Any]
    touched: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0

    def to_json(self) -> list[Any]:
        """Give the form in which it is saved in a trace or a plan."""
        return [self.name, self.path, dict(self.table), self.touched, self.seconds]

    @staticmethod
    def from_json(row: list[Any]) -> TracedStandIn:
        """Read the saved form."""
        name, path, table, touched, seconds = row
        return TracedStandIn(name, path, table, tuple((attribute, kind) for attribute, kind in touched), seconds)


@dataclass(frozen=True, slots=True)
class Trace:
    """The facts of one or several runs of a workload. No opinion about what follows from them.

    ``stand_ins`` are modules that others have stood in for, ``asleep`` those that only such modules would import.
    ``task`` are the files of the workload's own folder, by their names in it. ``machine`` is the kind of processor,
    ``distributions`` what was installed there; both may be unknown.
    """

    python: str
    observers: tuple[str, ...]
    kind: str
    modules: tuple[TracedModule, ...]
    files: tuple[TracedFile, ...]
    metadata: tuple[TracedMetadata, ...]
    foreign: tuple[ForeignRoot, ...]
    unplaced: tuple[str, ...]
    processes: int
    results: tuple[Result, ...]
    seconds: float
    workload: Workload
    libraries: tuple[LibraryPages, ...] = ()
    stand_ins: tuple[TracedStandIn, ...] = ()
    asleep: tuple[TracedModule, ...] = ()
    task: tuple[TracedFile, ...] = ()
    machine: str = ""
    distributions: tuple[TracedDistribution, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Give the form in which a trace is saved."""
        return {
            "format": TRACE_FORMAT,
            "python": self.python,
            "observers": list(self.observers),
            "kind": self.kind,
            "modules": [[m.name, m.path, m.importer, m.line, m.startup] for m in self.modules],
            "files": [[f.path, sorted(f.uses)] for f in self.files],
            "metadata": [[m.distribution, m.asked_by] for m in self.metadata],
            "foreign": [[r.name, r.source] for r in self.foreign],
            "unplaced": list(self.unplaced),
            "processes": self.processes,
            "results": [[r.event, r.value] for r in self.results],
            "seconds": self.seconds,
            "libraries": [[library.path, library.size, library.runs] for library in self.libraries],
            "stand_ins": [module.to_json() for module in self.stand_ins],
            "asleep": [[m.name, m.path, m.importer, m.line, m.startup] for m in self.asleep],
            "task": [[f.path, sorted(f.uses)] for f in self.task],
            "machine": self.machine,
            "distributions": [[d.name, d.version, list(d.tops)] for d in self.distributions],
            "workload": {
                "entry": str(self.workload.entry),
                "handler": self.workload.handler,
                "models": [str(m) for m in self.workload.models],
                "events": [[e.name, e.payload, dict(e.context)] for e in self.workload.events],
            },
        }

    @staticmethod
    def from_json(data: Any, path_type: type[Path]) -> Trace:
        """Read a saved trace.

        Raises:
            UsageError: ``data`` is not a trace, or one of another format.
        """
        if not isinstance(data, dict) or "modules" not in data:
            raise UsageError("it is not a trace: make one with --save-trace")
        if data.get("format") != TRACE_FORMAT:
            raise UsageError(
                f"it has format {data.get('format')!r}, this version reads format {TRACE_FORMAT}: trace again"
            )
        try:
            saved = data["workload"]
            return Trace(
                python=data["python"],
                observers=tuple(data["observers"]),
                kind=data["kind"],
                modules=tuple(TracedModule(*row) for row in data["modules"]),
                files=tuple(TracedFile(path, frozenset(map(Use, uses))) for path, uses in data["files"]),
                metadata=tuple(TracedMetadata(*row) for row in data["metadata"]),
                foreign=tuple(ForeignRoot(*row) for row in data["foreign"]),
                unplaced=tuple(data["unplaced"]),
                processes=data["processes"],
                results=tuple(Result(*row) for row in data["results"]),
                seconds=data["seconds"],
                workload=Workload(
                    entry=path_type(saved["entry"]),
                    handler=saved["handler"],
                    models=tuple(path_type(model) for model in saved["models"]),
                    events=tuple(Event(*row) for row in saved["events"]),
                ),
                libraries=tuple(
                    LibraryPages(path, size, tuple((first, count) for first, count in runs))
                    for path, size, runs in data.get("libraries", ())
                ),
                stand_ins=tuple(map(TracedStandIn.from_json, data.get("stand_ins", ()))),
                asleep=tuple(TracedModule(*row) for row in data.get("asleep", ())),
                task=tuple(TracedFile(path, frozenset(map(Use, uses))) for path, uses in data.get("task", ())),
                machine=data.get("machine", ""),
                distributions=tuple(
                    TracedDistribution(name, version, tuple(tops))
                    for name, version, tops in data.get("distributions", ())
                ),
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise UsageError(f"a part of the trace is damaged ({type(exc).__name__}: {exc}): trace again") from exc


# ---- what is installed --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InstalledFile:
    """A file that could go into a layer.

    ``source`` is its absolute path on this machine; ``link`` the target of a symbolic link that stays within the
    site, else empty; ``distribution`` the normalised name of the owner, empty when no RECORD claims the file.
    """

    path: str
    size: int
    distribution: str
    source: str
    executable: bool = False
    link: str = ""


@dataclass(frozen=True, slots=True)
class Distribution:
    """An installed distribution: ``name`` is normalised (PEP 503), ``metadata`` its dist-info or egg-info path.

    ``groups`` are those of its entry points, without the programs that it brings.
    """

    name: str
    version: str
    metadata: str
    editable: bool = False
    has_record: bool = True
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PthFile:
    """What a ``.pth`` file does: code it runs, and the site-relative folders that it puts on ``sys.path``."""

    path: str
    runs_code: bool
    folders: tuple[str, ...]
    leaves_site: bool


@dataclass(frozen=True, slots=True)
class Inventory:
    """All there is to choose from, in the order of paths."""

    files: tuple[InstalledFile, ...]
    distributions: tuple[Distribution, ...]
    pth: tuple[PthFile, ...]
    folders: frozenset[str]
    shadowed: tuple[InstalledFile, ...] = ()
    warnings: tuple[str, ...] = ()


# ---- verdicts -----------------------------------------------------------------------------------------------------


class Verdict(StrEnum):
    """Whether a file goes into the layer."""

    KEPT = "kept"
    COLD = "cold"  # compressed in the layer, for whoever asks for it
    DROPPED = "dropped"


class Reason(StrEnum):
    """Why a file is kept or dropped. The names are part of the report's format."""

    TRACED = "TRACED"  # the run used it
    PACKAGE = "PACKAGE"  # __init__ of a package that holds a kept file
    NEEDED = "NEEDED"  # a kept shared library loads it
    METADATA = "METADATA"  # metadata of a distribution that the run looked up
    PICKLED = "PICKLED"  # a model names a class or function of it
    RULE = "RULE"  # a rule about its distribution
    STATIC = "STATIC"  # kept code could import it
    INCLUDED = "INCLUDED"  # --include
    STARTUP = "STARTUP"  # a .pth file of a distribution that is used, and what it imports
    LINKED = "LINKED"  # target of a kept symbolic link
    REPAIRED = "REPAIRED"  # the layer's own run asked for it
    STAND_IN = "STAND_IN"  # imported and never needed: another module stands in for it
    ASLEEP = "ASLEEP"  # only modules that others stand in for import it
    LOADABLE = "LOADABLE"  # code in C could open it by its path, where nothing serves cold files
    REACHABLE = "REACHABLE"  # nothing asked for its distribution, but code in the layer names that
    UNTOUCHED = "UNTOUCHED"  # nothing asked for it, but for other files of its distribution
    DEVELOPMENT = "DEVELOPMENT"  # only a compiler or a shell reads it
    UNUSED = "UNUSED"  # nothing asked for it
    EXCLUDED = "EXCLUDED"  # --exclude
    PROVIDED = "PROVIDED"  # another layer brings it
    SCANNED = "SCANNED"  # read only because all installed distributions were listed
    IDLE = "IDLE"  # imported at interpreter start by a distribution that is not used
    SHADOWED = "SHADOWED"  # a folder earlier on sys.path has a file of this name


# What was left out on the user's word, or because Python would not find it, is not put back.
FINAL_REASONS = (Reason.EXCLUDED, Reason.PROVIDED, Reason.SHADOWED)


@dataclass(frozen=True, slots=True)
class Decision:
    """One file's verdict. ``evidence`` is a sentence; ``cause`` the path or module that it follows from, or empty."""

    path: str
    size: int
    distribution: str
    verdict: Verdict
    reason: Reason
    evidence: str
    cause: str = ""


@dataclass(frozen=True, slots=True)
class NotExercised:
    """A module that kept code could import and no trace saw."""

    module: str
    importer: str
    line: int


@dataclass(frozen=True, slots=True)
class KeepPlan:
    """A verdict for every installed file, and the empty folders that the run looked into.

    ``chains`` are the modules on the way from what is kept to the entry, ``stand_ins`` those that others stand in for,
    without their tables.
    """

    python: str
    decisions: tuple[Decision, ...]
    folders: tuple[str, ...]
    chains: tuple[TracedModule, ...]
    stand_ins: tuple[TracedStandIn, ...] = ()

    @property
    def kept(self) -> tuple[Decision, ...]:
        """The decisions for files that go into the layer."""
        return tuple(d for d in self.decisions if d.verdict is Verdict.KEPT)

    @property
    def cold(self) -> tuple[Decision, ...]:
        """The decisions for files that go into the layer's cold store."""
        return tuple(d for d in self.decisions if d.verdict is Verdict.COLD)

    @property
    def kept_bytes(self) -> int:
        """Unzipped size of the layer in bytes."""
        return sum(d.size for d in self.decisions if d.verdict is Verdict.KEPT)

    def to_json(self) -> dict[str, Any]:
        """Give the form in which a plan is saved."""
        return {
            "format": PLAN_FORMAT,
            "python": self.python,
            "decisions": [list(dataclasses.astuple(d)) for d in self.decisions],
            "folders": list(self.folders),
            "chains": [[m.name, m.path, m.importer, m.line, m.startup] for m in self.chains],
            "stand_ins": [module.to_json() for module in self.stand_ins],
        }

    @staticmethod
    def from_json(data: Any) -> KeepPlan:
        """Read a saved plan.

        Raises:
            UsageError: ``data`` is not a plan, or one of another format.
        """
        if not isinstance(data, dict) or "decisions" not in data:
            raise UsageError("it is not a plan: make one with --save-plan")
        if data.get("format") != PLAN_FORMAT:
            raise UsageError(f"it has format {data.get('format')!r}, this version reads format {PLAN_FORMAT}")
        try:
            return KeepPlan(
                python=data["python"],
                decisions=tuple(
                    Decision(path, size, owner, Verdict(verdict), Reason(reason), evidence, cause)
                    for path, size, owner, verdict, reason, evidence, cause in data["decisions"]
                ),
                folders=tuple(data["folders"]),
                chains=tuple(TracedModule(*row) for row in data["chains"]),
                stand_ins=tuple(map(TracedStandIn.from_json, data["stand_ins"])),
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise UsageError(f"a part of the plan is damaged ({type(exc).__name__}: {exc})") from exc


# ---- outcome ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LayerArchive:
    """A layer's zip that exists."""

    path: Path
    sha256: str
    files: int
    unzipped_bytes: int
    zipped_bytes: int


@dataclass(frozen=True, slots=True)
class FunctionArchive:
    """A function's zip that exists. ``model_bytes`` of it are models; ``left_out`` lies beside the entry, not in it."""

    archive: LayerArchive
    model_bytes: int
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Library:
    """What became of a shared library; all sizes in bytes.

    ``file`` is its original size, ``mapped`` what the loader maps of it, ``hot`` how much of that stays, ``shipped``
    the size in the layer, ``cold`` that of its compressed store, ``dropped`` what no store brings back, ``problem`` why
    it is shipped whole.
    """

    path: str
    file: int
    mapped: int
    hot: int
    shipped: int
    cold: int
    dropped: int
    problem: str


@dataclass(frozen=True, slots=True)
class Bundled:
    """A library of this machine in the layer's ``lib`` folder, since Lambda's runtime is not known to have it."""

    name: str
    source: str
    needed_by: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Proof:
    """What the verifying runs showed, of which there were ``runs``.

    ``isolated`` says that the original environment was out of reach by a mount. ``shipped`` are the bytes that each
    installed file has in the layer, in whatever form; ``bundled`` are files of this machine in it; ``warnings`` say
    what the runs could not show.
    """

    events: int
    mismatches: int
    repaired: tuple[str, ...]
    isolated: bool
    runs: int
    seconds: float
    cold_faults: int = 0
    shipped: Mapping[str, int] = field(default_factory=dict)
    libraries: tuple[Library, ...] = ()
    bundled: tuple[Bundled, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Size:
    """A number of files, bytes and distributions."""

    files: int
    bytes: int
    distributions: int


@dataclass(frozen=True, slots=True)
class ImportTimes:
    """Seconds that the imports of each distribution take, each module without what that imports.

    Under the empty name are the entry's own, those of the standard library and all else that no distribution owns.
    """

    before: Mapping[str, float]
    after: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Give the report's form of it."""
        return {
            name: {"seconds": round(sum(seconds.values()), 4), "distributions": dict(seconds)}
            for name, seconds in (("before", self.before), ("after", self.after))
        }


def merge_traces(traces: Iterable[Trace]) -> Trace:
    """Unite the facts of several runs: what one of them used, the union uses.

    Events and results are those of the first trace's entry. A trace of another entry says what else must be there,
    when several functions share a layer.

    Raises:
        UsageError: the runs are of different Python versions, or gave different results for the same event.
    """
    first, *others = traces
    for other in others:
        first = _merge(first, other)
    return first


def _merge(one: Trace, two: Trace) -> Trace:
    if one.python.rsplit(".", 1)[0] != two.python.rsplit(".", 1)[0]:
        raise UsageError(f"the traces are of Python {one.python} and {two.python}: a layer is for one version")
    same_entry = one.workload.entry.name == two.workload.entry.name
    if same_entry and one.kind != two.kind:
        raise UsageError(f"one trace is of a {one.kind}, another of a {two.kind}: they have no common entry")
    events, results = _merge_events(one, two) if same_entry else (one.workload.events, one.results)
    models = (*one.workload.models, *two.workload.models) if same_entry else one.workload.models
    modules: dict[str, TracedModule] = {}
    for module in (*one.modules, *two.modules):
        known = modules.setdefault(module.name, module)
        # A module that one run imported for its own sake is not a mere companion of the interpreter's start.
        if (known.startup and not module.startup) or (module.path and not known.path):
            modules[module.name] = module
    asked = {m.distribution: m for m in (*two.metadata, *one.metadata)}
    return Trace(
        python=one.python,
        observers=tuple(sorted({*one.observers, *two.observers})),
        kind=one.kind,
        modules=tuple(modules.values()),
        files=_merge_files((*one.files, *two.files)),
        metadata=tuple(asked[name] for name in sorted(asked)),
        foreign=tuple({r.name: r for r in (*two.foreign, *one.foreign)}.values()),
        unplaced=tuple(sorted({*one.unplaced, *two.unplaced})),
        processes=one.processes + two.processes,
        results=results,
        seconds=one.seconds + two.seconds,
        workload=Workload(
            one.workload.entry,
            one.workload.handler,
            tuple(dict.fromkeys(models)),
            events,
        ),
        libraries=_merge_libraries((*one.libraries, *two.libraries)),
        stand_ins=_merge_stand_ins(one, two),
        asleep=tuple({m.name: m for m in (*two.asleep, *one.asleep) if m.name not in modules}.values()),
        task=_merge_files((*one.task, *two.task)) if same_entry else one.task,
        machine=one.machine or two.machine,
        distributions=tuple({d.name: d for d in (*two.distributions, *one.distributions)}.values()),
    )


def _merge_files(files: Iterable[TracedFile]) -> tuple[TracedFile, ...]:
    uses: dict[str, frozenset[Use]] = {}
    for file in files:
        uses[file.path] = uses.get(file.path, frozenset()) | file.uses
    return tuple(TracedFile(path, used) for path, used in sorted(uses.items()))


def _merge_stand_ins(one: Trace, two: Trace) -> tuple[TracedStandIn, ...]:
    """Give the modules that no run has needed: what one run has stood in for, another may have imported for real."""
    found = {module.name: module for module in (*two.stand_ins, *one.stand_ins)}
    for trace in (one, two):
        own = {module.name for module in trace.stand_ins}
        for module in trace.modules:
            if module.name not in own:
                found.pop(module.name, None)
    return tuple(found[name] for name in sorted(found))


def _merge_libraries(libraries: Iterable[LibraryPages]) -> tuple[LibraryPages, ...]:
    """Unite touched pages by library; of one that was there in two builds the pages mean nothing together."""
    pages: dict[str, set[int]] = {}
    sizes: dict[str, set[int]] = {}
    for library in libraries:
        pages.setdefault(library.path, set()).update(library.pages())
        sizes.setdefault(library.path, set()).add(library.size)
    return tuple(
        LibraryPages.of(path, max(sizes[path]), pages[path]) for path in sorted(pages) if len(sizes[path]) == 1
    )


def _merge_events(one: Trace, two: Trace) -> tuple[tuple[Event, ...], tuple[Result, ...]]:
    """Unite events and their results; of two different events with one name the second is renamed."""
    events = {event.name: event for event in one.workload.events}
    results = {result.event: result.value for result in one.results}
    others = {event.name: event for event in two.workload.events}
    for result in two.results:
        name, event = result.event, others.get(result.event)
        while name in results and events.get(name) != (event and replace(event, name=name)):
            name += "'"
        if results.setdefault(name, result.value) != result.value:
            raise UsageError(f"the traces disagree on the result of {name!r}: has the entry changed? Trace both again")
        if event is not None:
            events[name] = replace(event, name=name)
    if events and _NO_EVENT in results:
        # One of the runs was given no event, which the runner makes up only where there is no other.
        events.setdefault(_NO_EVENT, Event(_NO_EVENT, {}))
    return tuple(events.values()), tuple(Result(name, value) for name, value in results.items())
