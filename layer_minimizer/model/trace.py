"""What a workload used: modules, files, metadata, pages of libraries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from layer_minimizer.model import codec
from layer_minimizer.model.workload import Result, Workload

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
        """Return the numbers of the pages."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The facts of one or several runs of a workload. No opinion about what follows from them.

    ``stand_ins`` are modules that others have stood in for, ``asleep`` those that only such modules would import.
    ``task`` are the files of the workload's own folder, by their names in it. ``machine`` is the kind of processor,
    ``distributions`` what was installed there; both may be unknown. It has so many fields because it is the saved
    document itself, whose format 1 has them side by side.
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
    stand_ins: tuple[TracedStandIn, ...] = ()
    asleep: tuple[TracedModule, ...] = ()
    task: tuple[TracedFile, ...] = ()
    machine: str = ""
    distributions: tuple[TracedDistribution, ...] = ()
    workload: Workload

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


def unwatched(trace: Trace) -> set[str]:
    """Return the libraries that a run has loaded without anybody watching which of their pages it needs."""
    return set() if trace.libraries else {file.path for file in trace.files if Use.MAP in file.uses}
