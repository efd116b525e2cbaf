"""Find out whether a workload gives the same results twice, and whether they depend on the order of files in folders.

The system lists the files of a folder in no particular order: that of a layer differs from that of the environment. So
the second run lists the folders in site-packages the other way round. If its results are those of the first run, they
depend neither on chance nor on that order.
"""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from layer_minimizer.core.errors import TraceError, VerifyError
from layer_minimizer.execution.observed_run import Listing
from layer_minimizer.model.results import Mismatch, compare_results, explain_nondeterminism
from layer_minimizer.model.trace import ListedFolder, Use

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from layer_minimizer.model.interpreter import Interpreter
    from layer_minimizer.model.trace import Trace
    from layer_minimizer.trace.tracer import Study, Tracer

log = logging.getLogger(__name__)
# How many runs may be spent on finding the folders.
_MAX_RUNS = 12


def check_repeatable(
    first: Trace, tracer: Tracer, tolerance: float, scratch: Path, *, studied: bool = False
) -> tuple[tuple[str, ...], Study | None]:
    """Run the workload again, with the files of folders in another order.

    Return the folders, relative to site-packages, on whose order of files the results depend; usually none. If the runs
    are ``studied``, return also the study of one with the same results.

    Raises:
        VerifyError: a second run gives other results, or fails.
        RunnerError: the interpreter cannot be started.
    """
    runs = _Runs(first, tracer, tolerance, scratch, studied)
    sites = tracer.interpreter.site_dirs
    if runs.same(Listing.reversed(sites, below=True)):
        return (), runs.study
    runs.require_same()
    return tuple(sorted(_that_matter(_listed(first), runs))), runs.study


def listed_folders(trace: Trace, interpreter: Interpreter) -> tuple[ListedFolder, ...]:
    """Return the order in which the system lists each folder in site-packages that a run listed."""
    found: dict[str, ListedFolder] = {}
    for path in _listed(trace):
        for site in interpreter.site_dirs:
            with contextlib.suppress(OSError):
                names = tuple(os.listdir(os.path.join(site, path)))
                found.setdefault(path, ListedFolder(path, names))
    return tuple(found.values())


def _listed(trace: Trace) -> list[str]:
    return [".", *sorted(file.path for file in trace.files if Use.LIST in file.uses)]


def warn_of_order(folders: Sequence[str]) -> str:
    """Return a warning about folders on whose order of files the results depend."""
    shown = ", ".join("site-packages itself" if folder == "." else folder for folder in folders[:5])
    shown += f" and {len(folders) - 5} more" if len(folders) > 5 else ""  # noqa: PLR2004 - the number of shown names
    return (
        f"the results depend on the order in which the system lists the files of a folder ({shown}), which may differ "
        "on every machine: the layer lists its folders in the order of this environment. A sorted list of files would "
        "give the same result everywhere"
    )


@dataclass(slots=True)
class _Runs:
    """Runs the workload again, and compares the results with those of the first run.

    ``study``: what the last run with the same results has shown about modules.
    """

    first: Trace
    tracer: Tracer
    tolerance: float
    scratch: Path
    studied: bool
    study: Study | None = None
    _count: int = 0

    def same(self, listing: Listing) -> bool:
        """Return whether a run that lists folders in this order gives the same results."""
        try:
            return not self._compare(listing)
        except TraceError as exc:
            log.debug("with folders listed in another order: %s", exc)
            return False

    def require_same(self) -> None:
        """Raise VerifyError if a run that changes nothing does not give the same results."""
        try:
            differing = self._compare(None)
        except TraceError as exc:
            raise VerifyError(f"the entry ran once in the full environment, but not a second time:\n{exc}") from exc
        if differing:
            raise VerifyError(explain_nondeterminism(differing))

    @property
    def has_runs(self) -> bool:
        """Whether more runs may be spent."""
        return self._count < _MAX_RUNS

    def _compare(self, listing: Listing | None) -> tuple[Mismatch, ...]:
        self._count += 1
        tracer = replace(self.tracer, listing=listing)
        trace, study = tracer.run_again(
            self.first.workload, self.scratch / f"again{self._count}" / "run", studied=self.studied
        )
        actual = {result.event: result.value for result in trace.named_results()}
        differing = compare_results(self.first.named_results(), actual, self.tolerance)
        if self.studied and not differing:
            self.study = study
        return differing

    def reversed_only(self, folders: Sequence[str]) -> Listing:
        """Return the order in which these folders alone are listed the other way round."""
        sites = self.tracer.interpreter.site_dirs
        return Listing.reversed(sorted(os.path.join(site, folder) for site in sites for folder in folders))


def _that_matter(folders: Sequence[str], runs: _Runs) -> list[str]:
    """Return those of the folders whose order changes the results, found by bisection; all if no single one does."""
    if len(folders) <= 1 or not runs.has_runs:
        return list(folders)
    middle = len(folders) // 2
    found: list[str] = []
    for half in (folders[:middle], folders[middle:]):
        if runs.has_runs and not runs.same(runs.reversed_only(half)):
            found += _that_matter(half, runs)
    return found or list(folders)
