"""What a workload used: modules, files, metadata, pages of libraries."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from layer_minimizer.core.errors import UsageError
from layer_minimizer.model.workload import Event, Result, Workload

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

TRACE_FORMAT = 1


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
    """A module that another stood in for, and that was not needed. ``table``: see ``payload/runtime/standin.py``.

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


def unwatched(trace: Trace) -> set[str]:
    """Give the libraries that a run has loaded without anybody watching which of their pages it needs."""
    return set() if trace.libraries else {file.path for file in trace.files if Use.MAP in file.uses}
