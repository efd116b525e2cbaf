"""The trace: what a workload used, and its results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from layer_minimizer.model import codec
from layer_minimizer.model.places import Places
from layer_minimizer.model.workload import Result, Workload

TRACE_FORMAT = 1


# ---- facts of one run ---------------------------------------------------------------------------------------------


class Use(StrEnum):
    """What a process did with a file."""

    OPEN = "open"  # opened for reading
    MAP = "map"  # mapped as a shared library
    TEXT = "text"  # a module's source was read although its bytecode was valid
    STAT = "stat"  # its existence, type or size was checked
    LIST = "list"  # a folder whose entries were listed
    NATIVE = "native"  # opened by code in C or by another program, and not by Python code; only strace shows it
    SPEC = "spec"  # found as the file of a module, whether or not that module was then loaded


@dataclass(frozen=True, slots=True)
class TracedFile:
    """An installed file or folder, and how it was used.

    Attributes:
        path: its path relative to site-packages.
        uses: what was done with it.
    """

    path: str
    uses: frozenset[Use]


@dataclass(frozen=True, slots=True)
class ListedFolder:
    """A folder and the order in which the system listed its files.

    Attributes:
        path: its path relative to site-packages, ``.`` for site-packages itself.
        names: the names of its files and folders.
    """

    path: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TracedModule:
    """A module that was looked up and found.

    Attributes:
        name: its dotted name.
        path: its file relative to site-packages; empty for modules of the standard library and of the workload.
        importer: the module that looked it up first.
        line: the line of the import in that module.
        startup: whether that was at interpreter start, by a ``.pth`` file or ``sitecustomize``.
    """

    name: str
    path: str
    importer: str
    line: int
    startup: bool = False


@dataclass(frozen=True, slots=True)
class TracedMetadata:
    """A distribution whose metadata was looked up by name, as with ``importlib.metadata.version("x")``.

    Attributes:
        distribution: the normalized name.
        asked_by: the module that looked it up.
    """

    distribution: str
    asked_by: str


@dataclass(frozen=True, slots=True)
class TracedDistribution:
    """A distribution that was installed in the environment of a run.

    Attributes:
        name: its normalized name.
        version: its version.
        tops: its top-level files and folders, if they are known.
    """

    name: str
    version: str
    tops: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LibraryPages:
    """The pages of a shared library that a run touched, of those that could be omitted.

    Attributes:
        path: the path of the library relative to site-packages.
        size: the size of its file in bytes; another build of the library has another size.
        runs: (first page, number of pages) of consecutive pages.
    """

    path: str
    size: int
    runs: tuple[tuple[int, int], ...]

    @staticmethod
    def of(path: str, size: int, pages: Iterable[int]) -> LibraryPages:
        """Return the value for a set of page numbers."""
        runs: list[tuple[int, int]] = []
        for page in sorted(pages):
            if runs and page == sum(runs[-1]):
                runs[-1] = (runs[-1][0], runs[-1][1] + 1)
            else:
                runs.append((page, 1))
        return LibraryPages(path, size, tuple(runs))

    def pages(self) -> frozenset[int]:
        """Return the numbers of the pages."""
        return frozenset(page for first, count in self.runs for page in range(first, first + count))


@dataclass(frozen=True, slots=True)
class MissingObserver:
    """What was to observe a run, and did not.

    Attributes:
        observer: ``probe``, ``strace``, ``pages`` (of shared libraries) or ``calls`` (of functions).
        cause: why it did not.
    """

    observer: str
    cause: str


@dataclass(frozen=True, slots=True)
class ForeignRoot:
    """A top-level package or module outside of site-packages, such as that of an editable install.

    Attributes:
        name: its path in a layer (``foo`` or ``foo.py``).
        source: the absolute path of the folder or file.
    """

    name: str
    source: str


@dataclass(frozen=True, slots=True)
class TracedStandIn:
    """A module that was replaced by a stand-in in a traced run, without loading the original module.

    Attributes:
        name: its dotted name.
        path: its file relative to site-packages; empty for a module of the standard library.
        table: what the stand-in needs to know of the module, see ``payload/runtime/standin.py``.
        touched: (name, kind) of the attributes that were read from the stand-in.
        seconds: how long executing the original module took in an observed run, without its imports.
    """

    name: str
    path: str
    table: Mapping[str, Any]
    touched: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The facts about one or several runs of a workload.

    It has more than 12 fields because it is the saved document itself: format 1 has all of them at the top level.

    Attributes:
        python: the version folder of the interpreter, such as ``python3.11``.
        observers: the observers of the runs.
        missing_observers: what was to observe a run, and did not.
        kind: whether the entry is a handler or a script.
        modules: the modules, in the order in which they were looked up.
        files: the used files of site-packages.
        metadata: distributions whose metadata was looked up.
        foreign: packages and modules outside of site-packages.
        unplaced: absolute paths of modules that cannot go into a layer.
        processes: the number of traced processes.
        results: the result of each event.
        seconds: the duration of the run.
        libraries: the touched pages of shared libraries.
        page_size: the bytes of such a page, as the kernel has them.
        stand_ins: modules that were replaced by stand-ins.
        asleep: modules that only those modules would import.
        task: the used files of the workload's own folder, by their paths in it.
        machine: the architecture; empty if it is not known.
        distributions: the installed distributions; empty if they are not known.
        places: folders of the run that lie elsewhere in others, with names for them: see `Places`.
        listed: the folders that the run listed, if the results depend on their order.
        lazy_imports: the value of PYTHON_LAZY_IMPORTS, if the interpreter reads it; else empty.
        workload: the workload.
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
    libraries: tuple[LibraryPages, ...] = ()
    page_size: int = 4096
    stand_ins: tuple[TracedStandIn, ...] = ()
    asleep: tuple[TracedModule, ...] = ()
    task: tuple[TracedFile, ...] = ()
    machine: str = ""
    distributions: tuple[TracedDistribution, ...] = ()
    places: tuple[tuple[str, str], ...] = ()
    listed: tuple[ListedFolder, ...] = ()
    lazy_imports: str = ""
    missing_observers: tuple[MissingObserver, ...] = ()
    workload: Workload

    def named_results(self) -> tuple[Result, ...]:
        """Return the results with names in place of the folders of this run, to compare them with those of another."""
        places = Places(self.places)
        return tuple(Result(each.event, places.rename(each.value)) for each in self.results)

    def to_json(self) -> dict[str, Any]:
        """Return the form in which a trace is saved."""
        return codec.encode_document(self, TRACE_FORMAT)

    @staticmethod
    def from_json(data: Any) -> Trace:
        """Read a saved trace.

        Raises:
            UsageError: ``data`` is not a trace, or one of another format.
        """
        return codec.decode_document(Trace, data, TRACE_FORMAT, name="trace", has="modules", remedy=": trace again")


def read_libraries(trace: Trace) -> frozenset[str]:
    """Return the shared libraries that Python code read as files, for instance to copy them."""
    return frozenset(
        file.path
        for file in trace.files
        if Use.OPEN in file.uses and Use.NATIVE not in file.uses and ".so" in file.path.rpartition("/")[2]
    )


def untraced_libraries(trace: Trace) -> set[str]:
    """Return the libraries that a run loaded without recording the pages that it touched."""
    return set() if trace.libraries else {file.path for file in trace.files if Use.MAP in file.uses}
